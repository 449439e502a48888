"""What dies leaves the truth: launcher, shim, a worker half-way, the host."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from runtime.engine import Engine
from runtime.errors import (
    BadState,
    EngineError,
    InitFailed,
    KernelFailure,
    LauncherUnavailable,
    NotFound,
    SpecInvalid,
    StorageFull,
)
from runtime.kernel import procfs
from runtime.kernel.syscalls import mount, umount
from runtime.model.spec import Mount, PortMapping, Restart
from runtime.model.state import Status
from tests.support.engine import Instance, free_port
from tests.support.waiting import wait_until


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


def test_the_launchers_death_kills_nothing(instance: Instance) -> None:
    spec = instance.run(instance.spec())
    other = instance.create(instance.spec())
    instance.kill_launcher()
    assert instance.status(spec) == Status.RUNNING
    with pytest.raises(LauncherUnavailable) as caught:
        instance.engine.start(other.id)
    assert caught.value.retryable
    assert instance.status(other) == Status.CREATED
    instance.start_launcher()
    instance.engine.start(other.id)
    assert instance.status(spec) == instance.status(other) == Status.RUNNING
    record = instance.engine.stop(spec.id, timeout=0)
    assert record is not None


def test_without_a_launcher_policy_restarts_go_on(instance: Instance) -> None:
    spec = instance.run(instance.shell("sleep 0.2; exit 1", restart=Restart("on-failure", 1)))
    instance.kill_launcher()
    observed = instance.wait_for(spec, Status.EXITED, timeout=20)
    assert observed.run is not None
    assert observed.run.restart_count == 1
    assert len(instance.engine.exits(spec.id)) == 2


def test_a_lost_shim_is_noticed_and_its_container_ended(instance: Instance) -> None:
    port = free_port()
    spec = instance.run(instance.spec(network=instance.network(), ports=(PortMapping(80, port),)))
    state = instance.engine.observe(spec.id).run
    assert state is not None
    os.kill(state.shim_pid, signal.SIGKILL)
    wait_until(lambda: not procfs.is_alive(state.shim_pid, state.shim_start_time))
    observed = instance.engine.reconcile({spec.id})[0]
    assert observed.status == Status.EXITED
    assert observed.run is not None
    assert observed.run.exit is not None
    assert observed.run.exit.reason == "shim_lost"
    assert observed.run.exit.code is None
    assert not procfs.is_alive(state.pid, state.start_time)
    assert instance.engine.cgroups.container_ids() == set()
    assert instance.engine.networks.published() == set()
    assert [r.reason for r in instance.engine.exits(spec.id)] == ["shim_lost"]
    instance.engine.start(spec.id)
    assert instance.status(spec) == Status.RUNNING


def test_a_monitor_that_dies_in_the_middle_of_a_stop_has_noted_it(instance: Instance) -> None:
    deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    spec = instance.run(instance.shell(deaf, restart=Restart("always")))
    instance.wait_for_output(spec, "ready")
    state = instance.engine.observe(spec.id).run
    assert state is not None

    def stop() -> None:
        with contextlib.suppress(EngineError):
            instance.engine.stop(spec.id, timeout=60)

    def noted() -> bool:
        file = instance.config.container_run(spec.id) / "state.json"
        return bool(json.loads(file.read_text())["user_stopped"])

    stopping = threading.Thread(target=stop)
    stopping.start()
    try:
        wait_until(noted)
    finally:
        os.kill(state.shim_pid, signal.SIGKILL)
        stopping.join()
    wait_until(lambda: not procfs.is_alive(state.shim_pid, state.shim_start_time))
    run = instance.engine.reconcile({spec.id})[0].run
    assert run is not None
    assert run.user_stopped


def test_a_reboot_leaves_nothing_running_that_is_not(instance: Instance) -> None:
    """As a reboot leaves it: the run directory is gone, the bundle tells of another boot."""
    ran = instance.run(instance.spec(restart=Restart("always")))
    ended = instance.run(instance.shell("exit 3"))
    instance.wait_for(ended, Status.EXITED)
    fresh = instance.create(instance.spec())
    state = instance.engine.bundles.state(ran.id)
    assert state is not None
    instance.engine.kill(ran.id)
    instance.wait_for(ran, Status.EXITED)
    (instance.config.bundle(ran.id) / "exits.jsonl").unlink()
    instance.engine.bundles.write_state(ran.id, dataclasses.replace(state, boot_id="before"))
    instance.engine.bundles.drop_run(ended.id)
    for spec in (ran, ended):
        note = json.dumps({"boot_id": "before", "started_at": state.started_at}).encode()
        os.setxattr(instance.config.bundle(spec.id), "trusted.slipway.active", note)
    seen = {o.id: o for o in instance.engine.reconcile({ran.id, ended.id, fresh.id})}
    assert {i: o.status for i, o in seen.items()} == {
        ran.id: Status.EXITED,
        ended.id: Status.EXITED,
        fresh.id: Status.CREATED,
    }
    reasons = {i: o.run.exit.reason for i, o in seen.items() if o.run and o.run.exit}
    assert reasons == {ran.id: "reboot", ended.id: "exited"}
    instance.engine.start(ran.id)


def test_a_bundle_nobody_knows_is_listed_and_left_alone(instance: Instance) -> None:
    spec = instance.run(instance.spec())
    [observed] = instance.engine.reconcile(set())
    assert not observed.managed
    assert observed.status == Status.RUNNING
    [observed] = instance.engine.reconcile(None)
    assert observed.managed
    assert instance.status(spec) == Status.RUNNING


def test_a_container_without_its_directory_is_missing_and_removable(instance: Instance) -> None:
    [observed] = instance.engine.reconcile({"f" * 64})
    assert observed.status == Status.UNKNOWN
    assert observed.error
    with pytest.raises(NotFound):
        instance.engine.remove("f" * 64)


def test_one_broken_container_hides_no_other_and_can_be_removed(instance: Instance) -> None:
    good, broken = instance.run(instance.spec()), instance.create(instance.spec())
    torn = instance.create(instance.spec())
    (instance.config.bundle(broken.id) / "spec.json").write_text("\0\0\0")
    instance.config.container_run(torn.id).mkdir(parents=True)
    (instance.config.container_run(torn.id) / "state.json").write_text("{")
    seen = {o.id: o.status for o in instance.engine.reconcile({good.id, broken.id, torn.id})}
    assert seen[good.id] == Status.RUNNING
    assert seen[torn.id] == Status.UNKNOWN
    for spec in (broken, torn):
        instance.engine.remove(spec.id, force=True)
    assert instance.engine.bundles.ids() == [good.id]


def test_a_removal_that_fails_leaves_it_dead_and_can_be_repeated(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = instance.create(instance.spec())

    def refuse(*_: object) -> None:
        raise KernelFailure("rmdir", 16, "/somewhere")

    with monkeypatch.context() as patch:
        patch.setattr("runtime.engine.removal.remove_snapshot", refuse)
        patch.setattr("runtime.engine.removal.what_holds", refuse)
        with pytest.raises(KernelFailure):
            instance.engine.remove(spec.id)
    observed = instance.engine.observe(spec.id)
    assert observed.status == Status.DEAD
    assert "EBUSY" in observed.error
    assert observed.status.actions == ("remove",)
    instance.engine.remove(spec.id)


@pytest.mark.parametrize("how", ["mount", "chattr"])
def test_a_dead_container_says_what_holds_it_and_goes_once_that_lets_go(
    instance: Instance, how: str
) -> None:
    spec = instance.create(instance.spec())
    held = instance.config.bundle(spec.id) / "upper" / "held here"
    held.mkdir()
    if how == "mount":
        mount("tmpfs", str(held), "tmpfs")
    elif subprocess.run(["chattr", "+i", held], capture_output=True, check=False).returncode:
        pytest.skip("this file system, or this root, knows no immutable files")
    try:
        with pytest.raises(EngineError):
            instance.engine.remove(spec.id)
        observed = instance.engine.observe(spec.id)
        assert observed.status == Status.DEAD
        assert str(held) in observed.error
        assert ("Mounted there" if how == "mount" else "immutable") in observed.error
        with pytest.raises(BadState) as caught:
            instance.engine.start(spec.id)
        assert caught.value.extra["allowed"] == ["remove"]
    finally:
        if how == "mount":
            umount(str(held))
        else:
            subprocess.run(["chattr", "-i", held], check=True)
    instance.engine.remove(spec.id)
    instance.check_nothing_left()


def test_another_engine_sees_the_same(instance: Instance) -> None:
    """A worker that was killed and its successor share nothing but disk and kernel."""
    spec = instance.run(instance.spec())
    second = Engine(instance.config)
    try:
        assert second.observe(spec.id) == instance.engine.observe(spec.id)
        second.stop(spec.id, timeout=0)
    finally:
        second.close()
    assert instance.status(spec) == Status.EXITED


def test_a_full_disk_is_named_and_leaves_nothing_half_made() -> None:
    with Instance(disk="16m") as instance:
        spec = instance.spec(mounts=(Mount("volume", "/etc", "data"),))
        filler = instance.config.root / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        with pytest.raises(StorageFull) as caught:
            instance.engine.create(spec)
        assert caught.value.hint
        instance.check_nothing_left()
        assert instance.engine.volumes.list() == []
        filler.unlink()
        instance.run(spec)
        assert instance.status(spec) == Status.RUNNING


# -- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code"), [(("no-such-command",), 127), (("/etc/passwd",), 126), (("/etc",), 126)]
)
def test_a_command_that_cannot_run_says_so(
    instance: Instance, args: tuple[str, ...], code: int
) -> None:
    spec = instance.create(instance.spec(*args, network=instance.network()))
    with pytest.raises(InitFailed) as caught:
        instance.engine.start(spec.id)
    assert caught.value.exit_code == code
    assert args[0] in caught.value.message
    observed = instance.engine.observe(spec.id)
    assert observed.status == Status.EXITED
    assert observed.run is not None
    assert observed.run.exit is not None
    assert (observed.run.exit.code, observed.run.exit.reason) == (code, "start_failed")
    assert instance.engine.cgroups.container_ids() == set()
    assert instance.processes_of_containers() == []


def test_an_unknown_user_is_named(instance: Instance) -> None:
    spec = instance.create(
        instance.spec("true", process={"args": ("true",), "user": "nobody-here"})
    )
    with pytest.raises(InitFailed) as caught:
        instance.engine.start(spec.id)
    assert "nobody-here" in caught.value.message


def test_an_unknown_image_leaves_nothing(instance: Instance) -> None:
    spec = instance.spec(image="sha256:" + "1" * 64, mounts=(Mount("volume", "/x", "new"),))
    with pytest.raises(NotFound):
        instance.engine.create(spec)
    instance.check_nothing_left()
    assert instance.engine.volumes.list() == []


def test_a_missing_bind_source_is_refused_at_create_and_at_start(
    instance: Instance, tmp_path: object
) -> None:
    with pytest.raises(SpecInvalid) as caught:
        instance.create(instance.spec(mounts=(Mount("bind", "/x", "/no/such/place"),)))
    assert caught.value.field == "mounts[0].source"
    source = f"{tmp_path}/here"
    os.mkdir(source)
    spec = instance.create(instance.spec(mounts=(Mount("bind", "/x", source),)))
    os.rmdir(source)
    with pytest.raises(SpecInvalid):
        instance.engine.start(spec.id)
    assert instance.engine.cgroups.container_ids() == set()


def test_the_platforms_own_directories_cannot_be_bound(instance: Instance) -> None:
    for source in (instance.config.root, instance.config.run):
        with pytest.raises(SpecInvalid):
            instance.create(instance.spec(mounts=(Mount("bind", "/x", str(source)),)))


def test_what_is_not_there_has_no_lock(instance: Instance) -> None:
    with pytest.raises(SpecInvalid):
        instance.create(instance.spec(mounts=(Mount("bind", "/data", "/does/not/exist"),)))
    gone = instance.create(instance.spec())
    instance.engine.remove(gone.id)
    for ask in (instance.engine.start, instance.engine.stop, instance.engine.remove):
        with pytest.raises(NotFound):
            ask(gone.id)
    assert [n for n in os.listdir(instance.config.locks) if len(n) > 64] == []
