"""The life of a real container: create, start, observe, stop, start again, pause, kill, remove."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.errors import AlreadyExists, BadState, NotFound
from runtime.model.spec import Limits, Mount, Namespaces, Restart, Security
from runtime.model.state import Status
from tests.support.engine import Instance
from tests.support.waiting import PATIENCE, wait_until

MIB = 2**20


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


def test_a_container_runs_and_is_seen(instance: Instance) -> None:
    spec = instance.create(instance.shell("echo out; echo err >&2; exec sleep 1000"))
    assert instance.status(spec) == Status.CREATED
    state = instance.engine.start(spec.id)
    assert state.status == Status.RUNNING
    assert state.pid > 0
    assert instance.status(spec) == Status.RUNNING
    instance.wait_for_output(spec, "out")
    wait_until(lambda: instance.output(spec, "stderr") == "err")
    inside = Path(f"/proc/{state.pid}")
    for kind in ("pid", "mnt", "uts", "ipc", "net", "cgroup"):
        assert os.readlink(inside / "ns" / kind) != os.readlink(f"/proc/self/ns/{kind}"), kind
    assert f"/{instance.config.cgroup}/containers/" in (inside / "cgroup").read_text()


def test_a_container_ends_with_its_code(instance: Instance) -> None:
    spec = instance.run(instance.shell("exit 7"))
    record = instance.engine.wait(spec.id, 10)
    assert record is not None
    assert (record.code, record.reason) == (7, "exited")
    observed = instance.wait_for(spec, Status.EXITED)
    assert observed.run is not None
    assert observed.run.exit == record
    assert instance.engine.exits(spec.id) == [record]


def test_stop_asks_then_kills(instance: Instance) -> None:
    polite = instance.run(
        instance.shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    )
    instance.wait_for_output(polite, "ready")
    record = instance.engine.stop(polite.id, timeout=10)
    assert record is not None
    assert (record.code, record.reason) == (3, "stopped")

    deaf = instance.run(instance.shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"))
    instance.wait_for_output(deaf, "ready")
    begun = time.monotonic()
    record = instance.engine.stop(deaf.id, timeout=0.5)
    assert record is not None
    assert (record.code, record.signal) == (137, signal.SIGKILL)
    assert 0.4 < time.monotonic() - begun < 5 * PATIENCE


def test_what_was_written_is_there_at_the_next_start(instance: Instance) -> None:
    spec = instance.run(instance.shell("cat /note 2>/dev/null; echo kept > /note; exec sleep 1000"))
    wait_until(lambda: instance.engine.writable_usage(spec.id).total > 0)
    instance.engine.stop(spec.id)
    instance.engine.start(spec.id)
    instance.wait_for_output(spec, "kept")


def test_actions_can_be_repeated(instance: Instance) -> None:
    spec = instance.create(instance.spec())
    instance.engine.create(spec)
    first = instance.engine.start(spec.id)
    assert instance.engine.start(spec.id).pid == first.pid
    instance.engine.stop(spec.id, timeout=0)
    assert instance.engine.stop(spec.id) is not None
    instance.engine.cleanup(spec.id)
    instance.engine.cleanup(spec.id)
    instance.engine.remove(spec.id)
    with pytest.raises(NotFound):
        instance.engine.remove(spec.id)
    instance.engine.cleanup(spec.id)


def test_an_id_belongs_to_one_specification(instance: Instance) -> None:
    spec = instance.create(instance.spec())
    with pytest.raises(AlreadyExists):
        instance.engine.create(instance.spec("true", id=spec.id))


def test_pause_holds_and_unpause_lets_go(instance: Instance) -> None:
    spec = instance.run(instance.shell("while :; do echo tick; sleep 0.02; done"))
    instance.wait_for_output(spec, "tick")
    instance.engine.pause(spec.id)
    instance.engine.pause(spec.id)
    assert instance.status(spec) == Status.PAUSED
    time.sleep(0.1)  # what the pipe still held
    before = instance.output(spec)
    time.sleep(0.1)
    assert instance.output(spec) == before
    with pytest.raises(BadState):
        instance.engine.start(spec.id)
    instance.engine.unpause(spec.id)
    instance.engine.unpause(spec.id)
    assert instance.status(spec) == Status.RUNNING
    wait_until(lambda: len(instance.output(spec)) > len(before))


def test_a_paused_container_can_be_stopped(instance: Instance) -> None:
    spec = instance.run(instance.spec())
    instance.engine.pause(spec.id)
    record = instance.engine.stop(spec.id, timeout=1)
    assert record is not None
    assert instance.status(spec) == Status.EXITED


def test_a_paused_container_can_be_removed_by_force(instance: Instance) -> None:
    spec = instance.run(instance.spec())
    instance.engine.pause(spec.id)
    instance.engine.remove(spec.id, force=True)
    assert instance.engine.observe_all() == []


def test_kill_sends_the_signal(instance: Instance) -> None:
    spec = instance.run(
        instance.shell("trap 'echo usr1' USR1; echo ready; while :; do sleep 0.02; done")
    )
    instance.wait_for_output(spec, "ready")
    instance.engine.kill(spec.id, "SIGUSR1")
    instance.wait_for_output(spec, "usr1")
    instance.engine.kill(spec.id)
    observed = instance.wait_for(spec, Status.EXITED)
    assert observed.run is not None
    assert observed.run.exit is not None
    assert observed.run.exit.code == 137
    with pytest.raises(BadState) as caught:
        instance.engine.kill(spec.id)
    assert "start" in caught.value.extra["allowed"]


def test_restart_is_a_new_process(instance: Instance) -> None:
    spec = instance.run(instance.spec())
    first = instance.engine.observe(spec.id).run
    second = instance.engine.restart(spec.id, timeout=0)
    assert first is not None
    assert second.pid != first.pid
    assert instance.status(spec) == Status.RUNNING


def test_remove_takes_all_but_the_named_volume(instance: Instance) -> None:
    spec = instance.run(
        instance.shell(
            "echo data > /data/file; echo done; exec sleep 1000",
            mounts=(
                Mount("volume", "/data", "kept"),
                Mount("volume", "/anonymous", "a" * 64, anonymous=True),
            ),
        )
    )
    instance.wait_for_output(spec, "done")
    with pytest.raises(BadState):
        instance.engine.remove(spec.id)
    instance.engine.remove(spec.id, force=True, volumes=True)
    assert not instance.config.bundle(spec.id).exists()
    assert [v.name for v in instance.engine.volumes.list()] == ["kept"]
    assert (instance.engine.volumes.path("kept") / "file").read_text() == "data\n"


def test_a_new_volume_holds_what_the_image_has_there(instance: Instance) -> None:
    instance.create(instance.spec("true", mounts=(Mount("volume", "/etc", "etc"),)))
    assert (instance.engine.volumes.path("etc") / "passwd").exists()
    instance.create(instance.spec("true", mounts=(Mount("volume", "/etc", "bare", nocopy=True),)))
    assert list(instance.engine.volumes.path("bare").iterdir()) == []


def test_mounts_of_every_kind(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    spec = instance.run(
        instance.shell(
            "cat /bound/file; touch /bound/x || echo read-only; df /scratch | tail -1; echo done",
            mounts=(
                Mount("bind", "/bound", str(tmp_path), read_only=True),
                Mount("tmpfs", "/scratch", tmpfs_size=MIB),
            ),
        )
    )
    out = instance.wait_for_output(spec, "done")
    assert "from the host" in out
    assert "read-only" in out
    assert "1024" in out
    assert not (tmp_path / "x").exists()


def test_the_process_is_set_up_as_asked(instance: Instance) -> None:
    spec = instance.run(
        instance.shell(
            "id -u; id -g; pwd; hostname; echo $FOO $PATH; cat /proc/self/status | grep NoNewPrivs; echo done",
            process={
                "args": ("sh", "-c", "id -u; id -g; pwd; hostname; echo $FOO; grep NoNewPrivs /proc/self/status; echo done"),
                "env": ("FOO=bar",),
                "cwd": "/made/for/it",
                "user": "1234:567",
            },
            hostname="box",
            security=Security(no_new_privileges=True),
        )
    )  # fmt: skip
    lines = instance.wait_for_output(spec, "done").splitlines()
    assert lines[:5] == ["1234", "567", "/made/for/it", "box", "bar"]
    assert lines[5].split() == ["NoNewPrivs:", "1"]


def test_a_read_only_root_takes_no_writes(instance: Instance) -> None:
    spec = instance.run(
        instance.shell("touch /x || echo refused", security=Security(read_only_rootfs=True))
    )
    instance.wait_for_output(spec, "refused")


def test_a_container_can_share_the_network_of_another(instance: Instance) -> None:
    first = instance.run(instance.spec(namespaces=Namespaces(network="none")))
    second = instance.run(instance.spec(namespaces=Namespaces(network=f"container:{first.id}")))
    pids = [instance.engine.observe(s.id).run for s in (first, second)]
    names = {os.readlink(f"/proc/{p.pid}/ns/net") for p in pids if p is not None}
    assert len(names) == 1
    assert os.readlink("/proc/self/ns/net") not in names
    instance.engine.stop(first.id, timeout=0)
    third = instance.create(instance.spec(namespaces=Namespaces(network=f"container:{first.id}")))
    with pytest.raises(BadState):
        instance.engine.start(third.id)


def test_a_rename_is_kept(instance: Instance) -> None:
    spec = instance.create(instance.spec())
    instance.engine.rename(spec.id, "another")
    assert instance.engine.inspect(spec.id).name == "another"


def test_the_restart_policy_brings_it_back(instance: Instance) -> None:
    spec = instance.run(instance.shell("echo run; exit 1", restart=Restart("on-failure", 2)))
    observed = instance.wait_for(spec, Status.EXITED, timeout=20)
    assert observed.run is not None
    assert observed.run.restart_count == 2
    assert instance.output(spec).split() == ["run"] * 3
    assert [r.code for r in instance.engine.exits(spec.id)] == [1, 1, 1]


def test_a_stopped_container_is_not_brought_back(instance: Instance) -> None:
    spec = instance.run(instance.spec(restart=Restart("always")))
    instance.engine.stop(spec.id, timeout=0)
    observed = instance.engine.observe(spec.id)
    assert observed.status == Status.EXITED
    assert observed.run is not None
    assert observed.run.user_stopped


def test_a_policy_given_while_it_runs_is_followed(instance: Instance) -> None:
    spec = instance.run(instance.shell("echo run; sleep 0.3; exit 1"))
    changed = instance.engine.update(spec.id, restart=Restart("on-failure", 1))
    assert changed.restart == Restart("on-failure", 1)
    observed = instance.wait_for(spec, Status.EXITED, timeout=20)
    assert observed.run is not None
    assert observed.run.restart_count == 1
    assert [r.reason for r in instance.engine.exits(spec.id)] == ["exited", "exited"]
    assert instance.output(spec).split() == ["run", "run"]


def test_many_start_at_once(instance: Instance) -> None:

    network = instance.network()
    specs = [instance.create(instance.spec(network=network)) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        states = list(pool.map(lambda s: instance.engine.start(s.id), specs))
    assert len({s.pid for s in states}) == 8
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda s: instance.engine.remove(s.id, force=True), specs))
    assert instance.engine.observe_all() == []


def test_limits_change_while_it_runs(instance: Instance) -> None:
    spec = instance.run(instance.spec(limits=Limits(memory=64 * MIB, pids=10)))
    instance.engine.update(spec.id, limits=Limits(memory=128 * MIB, cpus=0.5, oom_score_adj=77))
    sample = instance.engine.stats(spec.id)
    assert (sample.memory_limit, sample.cpu_limit, sample.pids_limit) == (128 * MIB, 0.5, 0)
    assert instance.engine.inspect(spec.id).limits.memory == 128 * MIB
    observed = instance.engine.observe(spec.id).run
    assert observed is not None
    assert Path(f"/proc/{observed.pid}/oom_score_adj").read_text().strip() == "77"


def test_who_waits_for_a_stop_is_called_while_it_goes_on(instance: Instance) -> None:
    spec = instance.run(
        instance.shell("trap 'sleep 0.3; exit 3' TERM; echo set; sleep 1000 & wait")
    )
    instance.wait_for_output(spec, "set")
    seen: list[Status] = []
    record = instance.engine.stop(
        spec.id, timeout=20, meanwhile=lambda: seen.append(instance.status(spec))
    )
    assert seen == [Status.RUNNING]
    assert record is not None
    assert record.code == 3
