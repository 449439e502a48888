"""Options of logging: what is kept, how much of it, and a disk that stands still."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.model.spec import ContainerSpec
from runtime.model.state import Status
from tests.support.engine import Instance
from tests.support.options import Seen, asked, started
from tests.support.waiting import wait_until

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878  # linux/fs.h
TALK = """
echo first; mkfifo /dev/shm/wait; until [ -e /dev/shm/go ]; do sleep 0.02; done
i=0; while [ $i -lt 20000 ]; do echo "line $i of many that say nothing much"; i=$((i+1)); done
touch /dev/shm/said; read x < /dev/shm/wait
"""


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


def test_none_keeps_nothing(instance: Instance) -> None:
    seen = started(instance, command="sh -c 'echo hello; sleep 1000'", logs={"driver": "none"})
    assert not instance.engine.logs_dir(seen.spec.id).exists()
    assert instance.output(seen.spec) == ""


def test_sizes_and_number_of_files_are_kept(instance: Instance) -> None:
    spec = instance.run(
        asked(
            instance,
            command=["sh", "-c", "seq 1 60000"],
            logs={"max_size": "16k", "max_files": 2},
        )
    )
    instance.wait_for(spec, Status.EXITED)
    sizes = [p.stat().st_size for p in instance.engine.logs_dir(spec.id).iterdir()]
    # A file ends with the chunk that fills it; a chunk is 64 KiB at most.
    assert len(sizes) <= 2
    assert sum(sizes) <= 2 * (16 + 64) * 1024
    assert instance.output(spec).endswith("\n60000")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of the test's own, which can be frozen."""
    image, point = tmp_path / "disk", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    point.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True)
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


@contextmanager
def frozen(point: Path) -> Iterator[None]:
    """Every write to the file system waits."""
    fd = os.open(point, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FIFREEZE, 0)
        yield
    finally:
        fcntl.ioctl(fd, FITHAW, 0)
        os.close(fd)


def talking(instance: Instance, disk: Path, *, non_blocking: bool) -> Seen:
    """A container whose log lies on `disk`, and which says much as soon as /dev/shm/go is there."""
    spec: ContainerSpec = asked(
        instance,
        command=["sh", "-c", TALK],
        logs={"non_blocking": non_blocking, "max_buffer": "64k"},
        init=False,
    )
    instance.create(spec)
    logs = instance.engine.logs_dir(spec.id)
    logs.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "--bind", str(disk), str(logs)], check=True)
    instance.engine.start(spec.id)
    instance.wait_for_output(spec, "first")
    return Seen(instance, spec)


def test_a_disk_that_stands_still_stalls_nothing_when_asked(instance: Instance, disk: Path) -> None:
    seen = talking(instance, disk, non_blocking=True)
    try:
        with frozen(disk):
            seen.run("touch", "/dev/shm/go")
            wait_until(seen.file("/dev/shm/said").exists, timeout=20)
            # Its monitor answers as well.
            assert seen.instance.engine.observe(seen.spec.id).status == Status.RUNNING
            assert seen.run("echo", "here") == "here"
        instance.engine.stop(seen.spec.id, timeout=0)
        lines = instance.output(seen.spec).splitlines()
        said = [line for line in lines if line.startswith("[slipway: ")]
        assert said
        lost = sum(int(line.split()[1]) for line in said)
        kept = [line for line in lines if line.startswith("line ")]
        # Every line is there whole, or counted.
        assert len(kept) + lost == 20000
        assert all(line.endswith("nothing much") for line in kept)
        assert lost > 1000
    finally:
        subprocess.run(["umount", "-l", str(instance.engine.logs_dir(seen.spec.id))], check=True)


def test_without_it_the_container_waits_for_the_disk_and_loses_nothing(
    instance: Instance, disk: Path
) -> None:
    seen = talking(instance, disk, non_blocking=False)
    try:
        with frozen(disk):
            seen.run("touch", "/dev/shm/go")
            # The pipe is full: its writer sleeps in the kernel.
            wait_until(lambda: "pipe" in seen.proc("wchan") or _waits(seen))
            assert not seen.file("/dev/shm/said").exists()
        wait_until(seen.file("/dev/shm/said").exists, timeout=20)
        instance.engine.stop(seen.spec.id, timeout=0)
        lines = instance.output(seen.spec).splitlines()
        assert len([line for line in lines if line.startswith("line ")]) == 20000
    finally:
        subprocess.run(["umount", "-l", str(instance.engine.logs_dir(seen.spec.id))], check=True)


def _waits(seen: Seen) -> bool:
    """It is in write(2) to its standard output (proc(5), syscall)."""
    return seen.proc("syscall").split()[:2] == ["1", "0x1"]
