"""One call fails at the wrong moment: nothing is half done, no exit is lost, no container dies of it."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from runtime.engine.execs import ExecRequest
from runtime.errors import EngineError, KernelFailure, StorageFull
from runtime.kernel.nftables import Nftables
from runtime.model.image import ImageChanges
from runtime.model.spec import Limits, LogOptions, NetworkSpec, Restart
from runtime.model.state import Status
from runtime.network import sysctls
from runtime.network.firewall import Firewall
from runtime.network.links import Links
from runtime.network.ruleset import network_elements
from tests.support.engine import Instance
from tests.support.files import archive, member, put
from tests.support.processes import read_process
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Has every call of the given sites fail in the launcher and in monitors, once the switch is on."""

    def prepare(sites: str) -> Path:
        switch = tmp_path / "switch"
        switch.write_bytes(bytes(16))
        monkeypatch.setenv("SLIPWAY_PRELOAD", "tests.support.faults")
        monkeypatch.setenv("SLIPWAY_FAULTS", f"seed=1,rate=1,switch={switch},sites={sites}")
        return switch

    return prepare


def _turn(switch: Path, value: bytes) -> None:
    with switch.open("r+b") as file:
        file.write(value)


def _refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_monitor_outlives_calls_that_fail(faults: Callable[[str], Path]) -> None:
    switch = faults("scandir+rmdir+unlink+listdir")
    with Instance() as instance:
        script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"
        spec = instance.run(instance.shell(script))
        instance.wait_for_output(spec, "ready")
        _turn(switch, b"\1")
        record = instance.engine.stop(spec.id, timeout=10)
        _turn(switch, b"\0")
        assert record is not None
        assert record.code == 7
        assert instance.status(spec) == Status.EXITED
        instance.engine.cleanup(spec.id)
        left = os.listdir(instance.config.container_run(spec.id))
        assert "plan.json" not in left
        assert "shim.sock" not in left


def test_output_is_heard_although_its_log_cannot_be_looked_after(
    faults: Callable[[str], Path],
) -> None:
    switch = faults("listdir")
    with Instance() as instance:
        script = "while read line; do echo got $line; done"
        logs = LogOptions(max_size=4096, max_files=2)
        spec = instance.run(instance.shell(script, process={"stdin": True}, logs=logs))
        with instance.engine.attach(spec.id, stdin=True) as session:
            session.settimeout(10 * PATIENCE)
            for word in ("a" * 5000, "b" * 5000, "end"):
                session.write(f"{word}\n".encode())
                said = b""
                while not said.endswith(b"\n"):
                    output = session.read()
                    assert output is not None
                    said += output.data
                assert said == f"got {word}\n".encode()
                _turn(switch, b"\1")
            _turn(switch, b"\0")
        instance.wait_for_output(spec, "got end")


def test_a_command_that_nobody_could_watch_does_not_run(faults: Callable[[str], Path]) -> None:
    switch = faults("pidfd_open")
    with Instance() as instance:
        spec = instance.run(instance.spec("sleep", "1000"))
        _turn(switch, b"\1")
        with pytest.raises(KernelFailure):
            instance.engine.exec(spec.id, ExecRequest(("sleep", "2000")))
        _turn(switch, b"\0")
        assert instance.processes_of_containers() == [_pid(instance, spec.id)]
        with instance.engine.exec(spec.id, ExecRequest(("true",))) as session:
            assert session.wait(10 * PATIENCE) == 0


def test_a_life_that_nobody_could_watch_is_ended_and_reaped(faults: Callable[[str], Path]) -> None:
    switch = faults("pidfd_open")
    with Instance() as instance:
        spec = instance.run(instance.spec("sleep", "1000", restart=Restart("always")))
        state = instance.engine.observe(spec.id).run
        assert state is not None
        _turn(switch, b"\1")
        os.kill(state.pid, signal.SIGKILL)
        # The end of that life, and the one that could not begin.
        wait_until(lambda: len(instance.engine.exits(spec.id)) >= 2, what="another life is tried")
        wait_until(lambda: _children(state.shim_pid) == [], what="the monitor has no child")
        _turn(switch, b"\0")
        instance.wait_for(spec, Status.RUNNING)


@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize(
    "site", ["setns", "mount_setattr", "capset", "mount", "open", "write", "rename", "utime"]
)
def test_a_copy_whose_calls_fail_says_so_and_leaves_what_was_there(
    instance: Instance, faults: Callable[[str], Path], site: str, state: str
) -> None:
    spec = instance.run(instance.shell("echo before > /file; exec sleep 1000"))
    place = instance.config.bundle(spec.id) / "upper"
    wait_until((place / "file").exists)
    if state == "stopped":
        instance.engine.kill(spec.id)
        instance.wait_for(spec, Status.EXITED)
    switch = faults(site)
    _turn(switch, b"\1")
    enters = {"setns": "running", "mount": "stopped"}.get(site, state)
    if enters != state:
        put(instance, spec, "/", archive(member("file")))
        return
    with pytest.raises(EngineError) as caught:
        put(instance, spec, "/", archive(member("file")))
    assert isinstance(caught.value, KernelFailure | StorageFull)
    assert "written" not in caught.value.extra
    names = set(os.listdir(place))
    assert (place / "file").read_text() == "before\n"
    assert not [name for name in names if name.startswith(".slipway-")]
    if site == "open":
        with pytest.raises(EngineError):
            instance.engine.files.content(spec.id, "/file")


def test_an_exit_that_the_disk_did_not_take_is_on_record_when_it_has_room_again() -> None:
    with Instance(disk="8m") as instance:
        spec = instance.run(instance.spec("sleep", "1000", logs=LogOptions(driver="none")))
        filler = instance.config.root / "filler"
        with pytest.raises(OSError, match="No space"):
            _fill(filler)
        os.kill(_pid(instance, spec.id), signal.SIGKILL)
        instance.wait_for(spec, Status.EXITED)
        assert instance.engine.exits(spec.id) == []
        filler.unlink()
        instance.engine.cleanup(spec.id)
        assert [record.code for record in instance.engine.exits(spec.id)] == [137]


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def _children(parent: int) -> list[str]:
    """Also those that have ended and nobody has reaped."""
    everything = map(read_process, filter(str.isdigit, os.listdir("/proc")))
    return [process.label for process in everything if process and process.parent == parent]


def _pid(instance: Instance, container_id: str) -> int:
    run = instance.engine.observe(container_id).run
    assert run is not None
    return run.pid


@pytest.mark.parametrize("policy", ["no", "always"])
def test_a_start_that_the_disk_does_not_take_is_taken_back_although_it_runs_already(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, policy: Literal["no", "always"]
) -> None:
    spec = instance.create(instance.spec("sleep", "1000", restart=Restart(policy)))
    state_file = instance.config.container_run(spec.id) / "state.json"

    attempts = iter(("as it starts", "when all has been taken back"))

    def fail_late(_: str) -> None:
        if next(attempts) == "as it starts":
            wait_until(lambda: state_file.exists() and '"running"' in state_file.read_text())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(instance.engine.bundles, "sync", fail_late)
        with pytest.raises(StorageFull):
            instance.engine.start(spec.id)
    # The monitor says that it has ended, and then ends.
    wait_until(lambda: instance.processes() == [], what="its monitor to end")
    assert instance.engine.cgroups.container_ids() == set()
    assert instance.status(spec) == Status.EXITED
    instance.engine.start(spec.id)
    instance.wait_for(spec, Status.RUNNING)


def test_a_rename_that_fails_leaves_the_old_name(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = instance.network()
    spec = instance.run(instance.spec("sleep", "1000", network=network))
    register = instance.engine.networks.register_names
    calls = iter([_refuse])
    monkeypatch.setattr(
        instance.engine.networks, "register_names", lambda s: next(calls, register)(s)
    )
    with pytest.raises(KernelFailure):
        instance.engine.rename(spec.id, "other")
    assert instance.engine.inspect(spec.id).name == spec.name
    facts = (instance.config.dns / network.id / f"{spec.id}.json").read_text()
    assert spec.name in facts
    assert "other" not in facts


def test_an_image_whose_container_could_not_run_on_as_if_nothing_had_been_is_not_left(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = instance.run(instance.shell("echo x > /x; exec sleep 1000"))
    wait_until((instance.config.bundle(spec.id) / "upper/x").exists)
    before = os.listdir(instance.config.images)
    commits = instance.engine.commits
    with monkeypatch.context() as patch:
        patch.setattr("runtime.engine.observe.Observer.unmark_frozen", _refuse)
        with pytest.raises(KernelFailure):
            commits.commit(spec.id, ImageChanges(created="2026-01-02T03:04:05Z"))
    assert os.listdir(instance.config.images) == before
    commits.thaw(spec.id)
    assert instance.status(spec) == Status.RUNNING


def test_an_image_whose_record_might_not_last_is_not_there(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = instance.create(instance.spec("true"))
    before, images = os.listdir(instance.config.images), str(instance.config.images)
    monkeypatch.setattr(
        "runtime.store.files.fsync_directory",
        lambda path: _refuse() if str(path) == images else None,
    )
    with pytest.raises(KernelFailure):
        instance.engine.commits.commit(spec.id, ImageChanges(created="2026-01-02T03:04:05Z"))
    assert os.listdir(images) == before


def test_limits_that_the_disk_does_not_take_are_not_in_force(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = instance.run(instance.spec("sleep", "1000", limits=Limits(pids=100)))
    write = instance.engine.bundles.write_spec
    calls = iter([_refuse])
    monkeypatch.setattr(instance.engine.bundles, "write_spec", lambda s: next(calls, write)(s))
    with pytest.raises(KernelFailure):
        instance.engine.update(spec.id, limits=Limits(pids=50))
    assert instance.engine.inspect(spec.id).limits.pids == 100
    group = instance.engine.cgroups.open(spec.id)
    assert group.counters()["pids_limit"] == 100
    # What a worker that was killed between the two has left.
    instance.engine.cgroups.apply(spec.id, Limits(pids=50))
    instance.engine.enforce(spec.id)
    assert group.counters()["pids_limit"] == 100


def test_a_network_that_cannot_be_made_leaves_nothing(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.network()  # so that there is a table
    restore = Firewall.restore

    def late(self: Firewall, *args: object) -> bool:
        restore(self, *args)  # type: ignore[arg-type]
        raise KernelFailure("late", errno.ENOBUFS)

    delete = Links.delete
    calls = iter([_refuse])  # and the first way back fails as well
    with monkeypatch.context() as patched:
        patched.setattr(Firewall, "restore", late)
        patched.setattr(Links, "delete", lambda self, name: next(calls, delete)(self, name))
        with pytest.raises(EngineError):
            instance.network(name="never")
    names = [network.name for network in instance.engine.networks.list()]
    assert "never" not in names
    made = len(names)
    bridges = [n for n in os.listdir("/sys/class/net") if n.startswith(f"{instance.config.tag}b")]
    assert len(bridges) == made
    with Nftables() as nft:
        listed = nft.objects(f"list set inet {instance.config.nft_table} bridges")
    assert [len(item["set"]["elem"]) for item in listed] == [made]


def test_elements_of_networks_that_are_no_more_go_with_the_next_repair(instance: Instance) -> None:
    network = instance.network()
    stale = NetworkSpec(id="f" * 64, name="stale", subnet="10.199.7.0/24", gateway="10.199.7.1")
    elements = network_elements(
        instance.config.nft_table,
        bridge=instance.config.bridge(stale.id),
        subnet=stale.subnet,
        gateway=stale.gateway,
        internal=False,
        subnet6="",
        gateway6="",
    )
    with Nftables() as nft:
        nft.run("".join(f"add element {element}\n" for element in elements))
    assert "10.199.7.1" in _table(instance)
    assert instance.engine.networks.repair()
    assert "10.199.7.1" not in _table(instance)
    assert network.gateway in _table(instance)


def test_no_end_of_a_container_is_left_to_take_addresses_by_itself(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = instance.network()
    write = sysctls.write

    def failing(name: str, value: str) -> None:
        if name.endswith("disable_ipv6"):
            raise KernelFailure("write", errno.EIO, name)
        write(name, value)

    monkeypatch.setattr(sysctls, "write", failing)
    with pytest.raises(KernelFailure):
        instance.run(instance.spec("sleep", "1000", network=network))
    links = [n for n in os.listdir("/sys/class/net") if n.startswith(f"{instance.config.tag}v")]
    assert links == []


def _table(instance: Instance) -> str:
    with Nftables() as nft:
        return nft.run(f"list table inet {instance.config.nft_table}")
