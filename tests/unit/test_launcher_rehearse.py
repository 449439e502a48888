"""What a rehearsal leaves: nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runtime.launcher import rehearse


@pytest.mark.parametrize("call", ["unlink", "rmdir"])
def test_a_removal_that_fails_once_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    directory = tmp_path / "rehearsal-1"
    (directory / "logs").mkdir(parents=True)
    (directory / "logs" / "1.log").write_text("x")
    (directory / "state.json").write_text("{}")
    real, failures = getattr(os, call), [errno.EIO]

    def sometimes(path: str) -> None:
        if failures:
            raise OSError(failures.pop(), "once", path)
        real(path)

    monkeypatch.setattr(os, call, sometimes)
    rehearse._remove(str(directory))
    assert failures == []
    assert list(tmp_path.iterdir()) == []
