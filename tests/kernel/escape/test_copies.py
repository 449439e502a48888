"""A container that exchanges files while they are copied out of it, so that the host's root opens a device for it.

- CVE-2018-15664 (Docker): a path that was looked at, exchanged before it was used. Devices are its kin: a node
  that the container may make and not open (MKNOD, and a list of devices) is opened by whoever reads its files.

Here: the process that copies has a mount namespace of its own, in which no device opens (`runtime/shim/copying.py`).
The races are won for the container: the module that SLIPWAY_PRELOAD names has devices look like files.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

import pytest

from runtime.errors import KernelFailure
from runtime.model.spec import Mount
from runtime.model.state import Status
from tests.support.engine import Instance
from tests.support.escape import Kind, box, says, volume
from tests.support.options import Seen
from tests.support.waiting import wait_until


@pytest.fixture
def deceived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_PRELOAD", "tests.support.deceived")


@pytest.fixture
def ours(instance: Instance, userns: Kind) -> Iterator[Seen]:
    seen = box(instance, userns=userns)
    yield seen
    instance.engine.remove(seen.spec.id, force=True)


def opens(instance: Instance, seen: Seen, path: str) -> bool:
    """Whether the process that copies `path` opens the device there."""
    try:
        with instance.engine.files.content(seen.spec.id, path)[1]:
            return True
    except KernelFailure as error:
        return bool(error.extra["errno"] != "EACCES")


@pytest.mark.usefixtures("deceived")
def test_a_device_in_the_place_of_a_file_is_not_opened(
    instance: Instance, ours: Seen, userns: Kind
) -> None:
    paths = ["/dev/null", "/dev/tty"]
    if userns == "host":
        assert says(ours, "mknod /made c 1 5 && echo made") == "made"
        paths.append("/made")
    for path in paths:
        assert not opens(instance, ours, path), path
        _, transfer = instance.engine.files.read(ours.spec.id, path)
        with transfer, pytest.raises(KernelFailure, match="EACCES"):
            transfer.finish()


@pytest.mark.usefixtures("deceived")
def test_nor_is_one_of_a_container_that_does_not_run(instance: Instance) -> None:
    name, path = volume(instance)
    mounts = (Mount(type="volume", source=name, target="/data"),)
    script = "mknod /made c 1 5; mknod /data/made c 1 5; exec sleep 1000"
    seen = box(instance, script, userns="host", mounts=mounts)
    wait_until((path / "made").exists)
    instance.engine.kill(seen.spec.id)
    instance.wait_for(seen.spec, Status.EXITED)
    assert not opens(instance, seen, "/made")
    assert not opens(instance, seen, "/data/made")


def test_devices_are_copied_as_what_they_are(instance: Instance, ours: Seen) -> None:
    _, transfer = instance.engine.files.read(ours.spec.id, "/dev/null")
    with transfer, tarfile.open(fileobj=transfer.stream, mode="r|") as tar:
        [member] = tar
    assert (member.ischr(), member.devmajor, member.devminor) == (True, 1, 3)
