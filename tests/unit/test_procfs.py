"""Whether a process lives is read, never guessed: what is taken for dead is killed."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from runtime.kernel import procfs


def test_a_process_is_gone_only_when_the_kernel_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.getpid()
    born = procfs.start_time(own)
    assert born > 0
    assert procfs.is_alive(own, born)
    dead = subprocess.Popen(["true"])
    dead.wait()
    assert not procfs.is_alive(dead.pid, born)

    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError):
        procfs.is_alive(own, born)
