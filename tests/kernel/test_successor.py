"""A process that goes on in the place and the memory of another one."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from runtime.errors import KernelFailure
from runtime.kernel import constants as c
from runtime.kernel import successor, syscalls
from tests.support.waiting import wait_until

_WORDS: list[str] = []


@contextmanager
def succeeded() -> Iterator[tuple[int, int, list[str]]]:
    """(pid of a child, pid of its successor, what that told), which has executed `sleep`; both are ended."""
    ours, theirs = os.pipe()
    predecessor = os.fork()
    if predecessor == 0:
        _go_on(theirs)
    os.close(theirs)
    pid = 0
    try:
        told = os.read(ours, 1000).decode().split()
        assert os.read(ours, 1) == b""  # closed by execve, and nobody else holds it
        pid = int(told.pop(0))
        yield predecessor, pid, told
    finally:
        os.close(ours)
        for each in filter(None, (predecessor, pid)):
            os.kill(each, signal.SIGKILL)
            os.waitpid(each, 0)


def _go_on(tell: int) -> NoReturn:
    try:
        _WORDS.append("before")
        pid = successor.go_on_in_successor(c.CLONE_NEWPID, os.getppid())
        _WORDS.append("after")
        facts = (pid, os.getpid(), *_WORDS)
        os.write(tell, " ".join(map(str, facts)).encode())
        os.execv("/bin/busybox", ["sleep", "1000"])
    except KernelFailure as error:
        os.write(tell, f"0 {error}".encode())
    finally:
        os._exit(3)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_it_goes_on_with_all_that_was_there_in_new_namespaces() -> None:
    with succeeded() as (predecessor, pid, told):
        assert told == ["1", "before", "after"]
        assert pid != predecessor
        assert os.readlink(f"/proc/{pid}/exe") == os.path.realpath("/bin/busybox")
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(
            os.getpid()
        )


def test_the_predecessor_sleeps_holds_nothing_and_hears_no_signal() -> None:
    with succeeded() as (predecessor, _pid, _told):
        wait_until(lambda: state(predecessor) == "S", what="it to sleep")
        assert os.listdir(f"/proc/{predecessor}/fd") == []
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGSTOP, signal.SIGCONT):
            os.kill(predecessor, number)
        wait_until(lambda: state(predecessor) == "S", what="it to sleep on")


def test_killed_too_early_it_leaves_its_memory_to_the_successor() -> None:
    go, tell = os.pipe()
    ours, theirs = os.pipe()
    predecessor = os.fork()
    if predecessor == 0:
        try:
            pid = successor.go_on_in_successor(c.CLONE_NEWPID, os.getppid())
            os.write(theirs, str(pid).encode())
            os.read(go, 1)
            os.write(theirs, str(sum(range(100_000))).encode())
        finally:
            os._exit(0)
    pid = int(os.read(ours, 20))
    os.kill(predecessor, signal.SIGKILL)
    os.waitpid(predecessor, 0)
    os.write(tell, b"g")
    assert os.read(ours, 20) == b"4999950000"
    assert os.waitpid(pid, 0)[1] == 0
    for fd in (go, tell, ours, theirs):
        os.close(fd)


def test_without_code_for_this_machine_nobody_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(successor, "_CODE", {})
    with succeeded() as (predecessor, _pid, told):
        assert told == ["1", "before", "after"]
        wait_until(lambda: state(predecessor) == "Z", what="the predecessor's end")


def test_nor_where_no_code_may_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_code: bytes) -> int:
        raise KernelFailure("mprotect", errno.EACCES)

    monkeypatch.setattr(syscalls, "map_code", refuse)
    with succeeded() as (predecessor, _pid, told):
        assert told == ["1", "before", "after"]
        wait_until(lambda: state(predecessor) == "Z", what="the predecessor's end")
