"""The list of commands that run in containers."""

from __future__ import annotations

import os

from runtime.engine.execs import ExecRequest
from workers.watcher.exec_list import KEPT, ExecList


def test_those_that_run_stay_and_of_those_that_have_ended_the_latest() -> None:
    execs = ExecList()
    first = execs.begin("a", os.getpid(), ExecRequest(("sleep", "1")), detached=True)
    for number in range(KEPT + 50):
        row = execs.begin("b", os.getpid(), ExecRequest(("true",)), detached=False)
        execs.end(row.id, number)
    assert execs.of("a") == [first]
    assert {row.exit_code for row in execs.of("b")} == set(range(50, KEPT + 50))


def test_the_first_end_counts() -> None:
    execs = ExecList()
    row = execs.begin("a", os.getpid(), ExecRequest(("true",)), detached=False)
    execs.end(row.id, 7)
    execs.end(row.id, None)
    ended = execs.of("a")[0]
    assert (ended.running, ended.exit_code) == (False, 7)
    assert ended.finished_at is not None


def test_one_that_has_ended_at_once_has_no_pid() -> None:
    row = ExecList().begin("a", 2**22 + 1, ExecRequest(("true",)), detached=False)
    assert (row.pid, row.host_pid) == (0, 2**22 + 1)
