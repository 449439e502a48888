"""A claim names a process, not a pid."""

from __future__ import annotations

import os
import subprocess
import sys

from webui.operations.models import Operation
from workers.identity import is_alive, process_name


def test_this_process_is_alive() -> None:
    assert is_alive(process_name())


def test_the_name_fits_the_column() -> None:
    assert len("4194304." + "9" * 20 + ".01234567") <= (
        Operation._meta.get_field("claimed_by").max_length or 0
    )


def test_a_process_that_ended_is_not() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name(process.pid)
    assert is_alive(name)
    process.communicate(b"\n")
    assert not is_alive(name)


def test_a_zombie_is_not() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(name)
    process.communicate()


def test_another_process_with_the_same_pid_is_not() -> None:
    pid, start, boot = process_name().split(".")
    assert not is_alive(f"{pid}.{int(start) + 1}.{boot}")
    assert not is_alive(f"{pid}.{start}.00000000")


def test_nobody_is_not() -> None:
    assert not is_alive("")
    assert not is_alive("worker@host")
