"""Whole containers on a unified host: their place, their devices, their life, their view of themselves."""

from __future__ import annotations

import os
import signal
import urllib.request
from pathlib import Path

from runtime.model.state import Status
from tests.support.engine import Instance
from tests.support.options import Seen, asked, started
from tests.support.waiting import wait_until

SERVER = "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"
# Any manager of processes in a container does this: its own process into a group, controllers to groups.
NESTED = (
    "mkdir /sys/fs/cgroup/inner; echo $$ > /sys/fs/cgroup/inner/cgroup.procs; "
    "echo +pids > /sys/fs/cgroup/cgroup.subtree_control; "
)


def place_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")


def directory(seen: Seen) -> Path:
    return Path("/sys/fs/cgroup" + place_of(seen.pid))


def test_a_container_with_limits_a_published_port_and_ids_of_its_own(instance: Instance) -> None:
    seen = started(
        instance, command=["sh", "-c", SERVER], on=instance.network(), ports=["80"],
        limits={"memory": "64m", "cpus": 0.5, "pids": 30},
    )  # fmt: skip
    [port] = seen.spec.ports

    def page() -> str:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port.host_port}/", timeout=10
            ) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
            return ""

    assert wait_until(page) == "hello\n"
    assert int(seen.proc("uid_map").split()[1]) > 0
    sample = instance.engine.stats(seen.spec.id)
    assert (sample.memory_limit, sample.cpu_limit, sample.pids_limit) == (64 * 2**20, 0.5, 30)
    assert sample.memory > 0
    assert sample.cpu_usage > 0
    assert sample.net_rx > 0
    assert (directory(seen) / "memory.max").read_text() == f"{64 * 2**20}\n"


def test_shims_and_containers_live_apart_and_no_group_between_has_processes(
    instance: Instance,
) -> None:
    seen = started(instance)
    ours = f"/{instance.config.cgroup}"
    shim = seen.state.shim_pid
    assert place_of(shim) == f"{ours}/shims"
    assert place_of(seen.pid) == f"{ours}/containers/{seen.spec.id[:32]}"
    for path in ("", "/containers"):
        assert Path(f"/sys/fs/cgroup{ours}{path}/cgroup.procs").read_text() == ""


def test_it_sees_its_own_group_alone_and_cannot_write_it(instance: Instance) -> None:
    seen = started(instance, limits={"memory": "64m"})
    assert seen.run("cat", "/proc/self/cgroup") == "0::/"
    assert seen.mount("/sys/fs/cgroup").fstype == "cgroup2"
    assert seen.run("cat", "/sys/fs/cgroup/memory.max") == str(64 * 2**20)
    assert "Read-only" in seen.fails("sh", "-c", "echo max > /sys/fs/cgroup/memory.max")
    # With everything allowed its file system is writable, and its limits still are the host's to set.
    free = started(instance, privileged=True, limits={"memory": "64m"})
    free.fails("sh", "-c", "echo max > /sys/fs/cgroup/memory.max")
    assert (directory(free) / "memory.max").read_text() == f"{64 * 2**20}\n"


# -- devices --------------------------------------------------------------------------------------


def test_a_program_in_the_kernel_decides_about_devices(instance: Instance) -> None:
    """With the host's ids, as a user namespace alone would refuse to make device nodes."""
    seen = started(
        instance, userns="host", cap_add=["MKNOD"], devices=["/dev/vdd:/dev/disk:r"],
        device_cgroup_rules=["c 10:229 rw"],
    )  # fmt: skip
    seen.run("sh", "-c", "echo > /dev/null; head -c 1 /dev/urandom > /dev/null")
    seen.run("dd", "if=/dev/disk", "of=/dev/null", "count=1")
    assert "not permitted" in seen.fails("dd", "if=/dev/zero", "of=/dev/disk", "count=1")
    # Nodes may be made, which is harmless: opening one is not allowed.
    number = os.stat("/dev/vda").st_rdev
    root = (str(os.major(number)), str(os.minor(number)))
    seen.run("mknod", "/tmp/root", "b", *root)
    assert "not permitted" in seen.fails("dd", "if=/tmp/root", "of=/dev/null", "count=1")
    seen.run("mknod", "/tmp/log", "c", "1", "11")
    assert "not permitted" in seen.fails("dd", "if=/tmp/log", "of=/dev/null", "count=1")
    everything = started(instance, privileged=True, userns="host")
    everything.run("mknod", "/tmp/root", "b", *root)
    everything.run("dd", "if=/tmp/root", "of=/dev/null", "count=1")


# -- life -----------------------------------------------------------------------------------------


def test_pausing_stops_it_and_what_was_killed_while_paused_starts_again(instance: Instance) -> None:
    seen = started(instance, command=["sh", "-c", "while :; do :; done"])
    events = directory(seen) / "cgroup.events"
    instance.engine.pause(seen.spec.id)
    assert instance.status(seen.spec) == Status.PAUSED
    assert "frozen 1" in events.read_text()
    used = instance.engine.stats(seen.spec.id).cpu_usage
    assert instance.engine.stats(seen.spec.id).cpu_usage == used
    instance.engine.unpause(seen.spec.id)
    assert "frozen 0" in events.read_text()
    wait_until(lambda: instance.engine.stats(seen.spec.id).cpu_usage > used)
    instance.engine.pause(seen.spec.id)
    instance.engine.kill(seen.spec.id)
    instance.wait_for(seen.spec, Status.EXITED)
    instance.engine.start(seen.spec.id)
    assert "frozen 0" in (directory(seen) / "cgroup.events").read_text()
    instance.engine.kill(seen.spec.id)


def test_its_next_life_is_not_frozen_when_policy_restarts_it(instance: Instance) -> None:
    seen = started(instance, restart="always")
    first = seen.pid
    instance.engine.pause(seen.spec.id)
    (directory(seen) / "cgroup.kill").write_text("1")  # as the kernel might, for want of memory
    wait_until(
        lambda: (
            (o := instance.engine.observe(seen.spec.id)).status == Status.RUNNING
            and o.run is not None
            and o.run.pid not in (0, first)
        )
    )
    assert "frozen 0" in (directory(seen) / "cgroup.events").read_text()
    instance.engine.remove(seen.spec.id, force=True)


def test_a_container_may_make_groups_of_its_own(instance: Instance) -> None:
    """Then only the lowest groups hold processes: commands go where its own process is."""
    spec = asked(
        instance, privileged=True, init=False, restart="always",
        command=["sh", "-c", NESTED + "exec sleep 1000"],
    )  # fmt: skip
    seen = Seen(instance, instance.run(spec))
    wait_until(lambda: place_of(seen.pid).endswith("/inner"), what=instance.output(spec, "stderr"))
    assert seen.run("cat", "/proc/self/cgroup").endswith("/inner")
    assert seen.pid in instance.engine.cgroups.open(spec.id).pids()
    first = seen.pid
    # Its next life finds the groups as the first one did.
    os.kill(first, signal.SIGKILL)
    wait_until(
        lambda: (
            (o := instance.engine.observe(spec.id)).run is not None
            and o.run.pid not in (0, first)
            and place_of(o.run.pid).endswith("/inner")
        ),
        what=instance.output(spec, "stderr"),
    )
    instance.engine.remove(spec.id, force=True)


def test_killing_reaches_groups_inside(instance: Instance) -> None:
    command = NESTED + "(while :; do sleep 1000 & sleep 0.1; done) & exec sleep 1000"
    spec = asked(
        instance, privileged=True, init=False, command=["sh", "-c", command],
        limits={"pids": 50},
    )  # fmt: skip
    instance.run(spec)
    group = instance.engine.cgroups.open(spec.id)
    wait_until(lambda: len(group.pids()) > 3)
    instance.engine.kill(spec.id)
    instance.wait_for(spec, Status.EXITED)
    assert group.pids() == []
