"""What a container has changed, beside what it did."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import KernelFailure, NotFound
from runtime.kernel import syscalls
from runtime.model.spec import Security
from tests.support.engine import Instance


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


@pytest.mark.parametrize("security", [Security(), Security(userns="host")])
def test_changes_are_what_the_container_did(
    instance: Instance, security: Security, tmp_path: Path
) -> None:
    (tmp_path / "secret").touch()
    script = (
        "rm /etc/passwd; echo x >> /etc/group; mkdir /new; echo 1 > /new/file; "
        f"ln -s {tmp_path} /new/link; touch /gone; rm /gone; echo ready; exec sleep 1000"
    )
    spec = instance.run(instance.shell(script, security=security))
    instance.wait_for_output(spec, "ready")
    told = {change.path: change.kind for change in instance.engine.changes(spec.id)}
    assert told == {
        "/etc": "modified",
        "/etc/group": "modified",
        "/etc/passwd": "deleted",
        "/new": "added",
        "/new/file": "added",
        "/new/link": "added",
    }


def test_a_directory_made_anew_hides_what_it_had(instance: Instance) -> None:
    spec = instance.run(instance.shell("rm -r /etc; mkdir /etc; echo 1 > /etc/mine"))
    instance.engine.wait(spec.id, 10)
    told = {change.path: change.kind for change in instance.engine.changes(spec.id)}
    # What is mounted in /etc keeps the directory itself.
    assert told["/etc/passwd"] == "deleted"
    assert told["/etc/mine"] == "added"
    assert told["/etc"] == "modified"


def test_one_that_has_not_run_has_changed_nothing(instance: Instance) -> None:
    spec = instance.create(instance.shell("true"))
    assert list(instance.engine.changes(spec.id)) == []
    with pytest.raises(NotFound):
        list(instance.engine.changes("0" * 64))


def test_what_cannot_be_looked_into_is_no_change_left_out(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = instance.run(instance.shell("mkdir /new; echo 1 > /new/file"))
    instance.engine.wait(spec.id, 10)
    openat2 = syscalls.openat2

    def failing(directory: int, path: str, *args: int, **options: int) -> int:
        if path == "new":
            raise KernelFailure("openat2", errno.EMFILE, path)
        return openat2(directory, path, *args, **options)

    monkeypatch.setattr(syscalls, "openat2", failing)
    with pytest.raises(KernelFailure):
        list(instance.engine.changes(spec.id))
