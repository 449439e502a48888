"""The processes of a container, beside what the kernel says of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import BadState, NotFound
from runtime.model.state import Status
from runtime.model.stats import ProcessRow
from tests.support.engine import Instance
from tests.support.options import asked
from tests.support.waiting import wait_until

SCRIPT = "sleep 1001 & exec sleep 1002"


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


def both(instance: Instance, container_id: str) -> dict[str, ProcessRow]:
    """The two sleeps by their command, once both are there and asleep, or frozen."""

    def look() -> dict[str, ProcessRow] | None:
        found = {p.command: p for p in instance.engine.top(container_id)}
        # Frozen is D.
        asleep = {command for command, process in found.items() if process.state in "SD"}
        return found if {"sleep 1001", "sleep 1002"} <= asleep else None

    return wait_until(look, what="both processes")


def test_each_process_is_what_the_kernel_says(instance: Instance) -> None:
    spec = instance.run(asked(instance, command=["sh", "-c", SCRIPT], user="33"))
    found = both(instance, spec.id)
    first, second = found["sleep 1002"], found["sleep 1001"]
    group = set(instance.engine.cgroups.open(spec.id).pids())
    assert {p.host_pid for p in found.values()} == group
    for process in (first, second):
        with open(f"/proc/{process.host_pid}/cmdline", "rb") as file:
            assert file.read().replace(b"\0", b" ").decode().strip() == process.command
        assert process.user == 33
        assert process.state == "S"
        assert process.memory > 0
        assert abs(time.time() - process.started_at) < 60
    assert second.parent == first.host_pid
    assert os.path.exists(f"/proc/{first.host_pid}/root/proc/{first.pid}/stat")
    assert first.pid != first.host_pid


def test_a_name_that_looks_like_more_fields_is_only_a_name(instance: Instance) -> None:
    # Busybox takes for itself what begins with its name; the kernel keeps 15 characters.
    script = "cp /bin/busybox '/tmp/busybox) Z 1 (b'; exec '/tmp/busybox) Z 1 (b' sleep 1003"
    spec = instance.run(instance.shell(script))

    def look() -> ProcessRow | None:
        found = instance.engine.top(spec.id)
        # The shell's own command ends with the same words.
        return next((p for p in found if p.command == "/tmp/busybox) Z 1 (b sleep 1003"), None)

    process = wait_until(look, what="the renamed one")
    assert process.state in "RS"
    assert process.parent != 1
    # An execve shows its arguments a moment before the name.
    name = Path(f"/proc/{process.host_pid}/comm")
    wait_until(lambda: name.read_text() == "busybox) Z 1 (b\n", what="its name")


def test_a_paused_one_is_shown_and_one_that_ended_is_refused(instance: Instance) -> None:
    spec = instance.run(instance.shell(SCRIPT))
    both(instance, spec.id)
    instance.engine.pause(spec.id)
    assert set(both(instance, spec.id)) >= {"sleep 1001", "sleep 1002"}
    instance.engine.unpause(spec.id)
    instance.engine.kill(spec.id)
    instance.wait_for(spec, Status.EXITED)
    with pytest.raises(BadState):
        instance.engine.top(spec.id)
    with pytest.raises(NotFound):
        instance.engine.top("0" * 64)


def test_one_in_a_namespace_of_its_own_has_the_pid_that_the_container_sees(
    instance: Instance,
) -> None:
    command = ["sh", "-c", "unshare -p -f sleep 1004 & exec sleep 1005"]
    spec = instance.run(asked(instance, command=command, privileged=True))

    def look() -> ProcessRow | None:
        return next((p for p in instance.engine.top(spec.id) if p.command == "sleep 1004"), None)

    process = wait_until(look, what="the one within")
    with open(f"/proc/{process.host_pid}/root/proc/{process.pid}/cmdline", "rb") as file:
        assert file.read() == b"sleep\0" + b"1004\0"


def test_a_long_command_line_is_cut(instance: Instance) -> None:
    spec = instance.run(asked(instance, command=["sh", "-c", "sleep 1006; :", "x" * 50_000]))
    rows = instance.engine.top(spec.id)
    assert max(len(row.command) for row in rows) == 4096
