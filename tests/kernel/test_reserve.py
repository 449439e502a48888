"""Init in reserve: the container that is already there when somebody asks for one."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import InitFailed
from runtime.model.plan import Plan
from runtime.model.spec import Limits, Mount, Namespaces, Security
from tests.support.launching import Launchpad
from tests.support.waiting import wait_until

SEEN = """
for name in /proc/mounts /proc/net/dev /proc/self/status /proc/self/limits; do cat $name; done
ls -l /dev /dev/shm /sys/fs/cgroup; hostname; id; readlink /proc/self/fd/*; cat /proc/1/oom_score_adj
"""


@pytest.fixture
def pad() -> Iterator[Launchpad]:
    with Launchpad() as made:
        yield made


def was_in_reserve(pad: Launchpad, plan: Plan) -> bool:
    init = pad.wait_for_init_in_reserve()
    return pad.start(plan).pid == init


def kill(*pids: int) -> None:
    """Until it is dead, what is as good as dead may still take a connection, and die as a start's monitor."""
    pidfds = [os.pidfd_open(pid) for pid in pids]
    for pidfd in pidfds:
        with suppress(ProcessLookupError):  # with another of them
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    for pidfd in pidfds:
        select.select([pidfd], [], [])
        os.close(pidfd)


def test_a_container_like_most_takes_it(pad: Launchpad) -> None:
    assert was_in_reserve(pad, pad.plan("sleep", "1000"))


def test_who_has_kept_its_memory_ends_after_the_start(pad: Launchpad) -> None:
    pad.wait_for_init_in_reserve()
    reserve = pad.spares()
    assert len(reserve) == 5
    state = pad.start(pad.plan("sleep", "1000"))
    staying = {state.pid, state.shim_pid}
    wait_until(
        lambda: not [p for p in reserve if p not in staying and Path(f"/proc/{p}").exists()],
        what="all but init and its monitor to be reaped",
    )


@pytest.mark.parametrize(
    "options",
    [
        {"process": {"tty": True}},
        {"process": {"stdin": True}},
        {"process": {"user": "app"}},
        {"process": {"init": True}},
        {"security": Security(sysctls={"net.ipv4.ip_unprivileged_port_start": "80"})},
        {"security": Security(read_only_rootfs=True)},
        {"mounts": (Mount("tmpfs", "/data"),)},
        {"limits": Limits(oom_score_adj=700)},
    ],
    ids=str,
)
def test_so_does_one_with_options_that_are_done_on_top(
    pad: Launchpad, options: dict[str, Any]
) -> None:
    assert was_in_reserve(pad, pad.plan("sleep", "1000", **options))


@pytest.mark.parametrize(
    "options",
    [
        {"namespaces": Namespaces(network="none", ipc="host")},
        {"namespaces": Namespaces(network="host")},
        {"security": Security(userns="host")},
        {"shm_size": 1 << 20},
        {"security": Security(masked_paths=())},
        {"mounts": (Mount("tmpfs", "/dev/shm"),)},
        {"mounts": (Mount("tmpfs", "/proc/acpi"),)},
        {"mounts": (Mount("tmpfs", "/sys/fs/cgroup"),)},
        {"security": Security(privileged=True)},
    ],
    ids=str,
)
def test_another_gets_one_of_its_own(pad: Launchpad, options: dict[str, Any]) -> None:
    """The one in reserve is dismissed, and reaped by the monitor, its parent."""
    init = pad.wait_for_init_in_reserve()
    state = pad.start(pad.plan("sleep", "1000", **options))
    assert state.pid != init
    wait_until(lambda: not Path(f"/proc/{init}").exists(), what="init in reserve to be reaped")


def test_inside_nothing_tells_them_apart(pad: Launchpad) -> None:
    pad.wait_for_init_in_reserve()
    plan = pad.shell(SEEN)
    first = pad.run(plan)[1]
    pad.wait_for_init_in_reserve()
    kill(*pad.spares())
    # Right away: the next is not there yet.
    other = pad.shell(SEEN)
    second = pad.run(other)[1]
    assert comparable(first, plan) == comparable(second, other)


def comparable(text: str, plan: Plan) -> list[str]:
    """Without what differs from container to container."""
    for own in (plan["id"], plan["id"][:32], plan["hostname"]):
        text = text.replace(own, "ID")
    lines = []
    for line in text.splitlines():
        if "pipe:[" in line or "ctxt_switches" in line or line.startswith(("total", "Vm", "Rss")):
            continue
        words = line.split()
        if len(words) > 8 and words[0][0] in "dlc-":
            del words[5:8]  # the time of a file
        lines.append(" ".join(words))
    return sorted(lines)


def test_it_holds_nothing_of_the_host_s(pad: Launchpad) -> None:
    """A disk that the host unmounts must not be busy because of what waits for a container."""
    init = pad.wait_for_init_in_reserve()
    mounts = Path(f"/proc/{init}/mountinfo").read_text().splitlines()
    places = [line.split()[4] for line in mounts]
    assert not [p for p in places if not p.startswith(("/proc", "/sys", "/dev")) and p != "/"]
    assert sorted(os.listdir(f"/proc/{init}/root")) == ["dev", "proc", "sys"]
    assert os.stat(f"/proc/{init}/root").st_dev != os.stat("/").st_dev
    assert "\nCoreDumping:\t0" in Path(f"/proc/{init}/status").read_text()


def test_it_ends_with_the_launcher(pad: Launchpad) -> None:
    pad.wait_for_init_in_reserve()
    pad.stop_launcher(signal.SIGKILL)
    wait_until(lambda: not pad.processes(spares=True), what="what was in reserve to be gone")


@pytest.mark.parametrize("victim", range(5))
def test_whoever_of_it_is_killed_the_next_start_succeeds(pad: Launchpad, victim: int) -> None:
    pad.wait_for_init_in_reserve()
    kill(sorted(pad.spares())[victim])
    assert pad.start(pad.plan("sleep", "1000")).pid


def test_an_error_after_it_has_been_taken_is_told(pad: Launchpad) -> None:
    pad.wait_for_init_in_reserve()
    plan = pad.plan("sleep", "1000")
    broken = {**plan, "overlay": {**plan["overlay"], "lower": ["/nowhere"]}}
    with pytest.raises(InitFailed) as caught:
        pad.start(broken)  # type: ignore[arg-type]
    assert caught.value.extra["stage"] == "rootfs"
    assert not (Path(plan["run_dir"]) / "plan.json").exists()


def test_more_than_a_message_holds_goes_the_long_way(pad: Launchpad) -> None:
    pad.wait_for_init_in_reserve()
    plan = pad.shell("printf %s ${#BIG}", process={"env": (f"BIG={'x' * 120_000}",)})
    assert pad.run(plan)[1] == "120000"
