"""The virtual machine's disks, made from Debian's packages: a root file system, a kernel, an initramfs.

Packages are unpacked, not configured: nothing of the guest runs while its disk is made, and it takes
seconds. What is made of packages alone is kept in the cache; the checkout goes on a disk of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.images import CACHE, mirror, suite

CHECKOUT = Path(__file__).resolve().parents[3]
GUEST_CHECKOUT = "/slipway"
_HERE = Path(__file__).parent
_INITRAMFS = _HERE / "initramfs.sh"
_INIT = _HERE / "init.sh"

_PACKAGES = (
    "bash", "busybox-static", "ca-certificates", "coreutils", "e2fsprogs", "findutils", "grep",
    "iproute2", "iputils-ping", "kmod", "libnftables1", "linux-image-cloud-amd64", "mount",
    "nftables", "passwd", "procps", "python3", "python3-venv", "sed", "tar", "util-linux", "xz-utils",
    "zstd",
)  # fmt: skip
# What the root file system is mounted by; ext4 itself is built in.
_MERGED = "/usr/share/mmdebstrap/hooks/merged-usr"
_BOOT_MODULES = ("virtio_pci", "virtio_blk")
# Nothing in the guest checks types, draws browsers or reads manuals.
_NO_PACKAGES = ("playwright", "mypy", "mypyc", "pip", "*__mypyc*", "ruff", "ast_serialize")
_NOT_NEEDED = (
    "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/i18n", "usr/share/perl",
    "var/lib/apt", "var/cache/apt", "usr/lib/python3.*/test", "usr/lib/python3.*/idlelib",
    "usr/lib/python3.*/lib2to3", "usr/lib/modules/*/kernel/drivers/gpu",
)  # fmt: skip
_IN_CHECKOUT = ("manage.py", "pyproject.toml", "runtime", "slipway", "tests", "webui", "workers")
_SIZE = "4G"  # of the root file system; the file is sparse
_UNUSED = 14 * 86400  # seconds after which an image in the cache is removed


class Image(NamedTuple):
    root: Path
    kernel: Path
    initramfs: Path


def base() -> Image:
    """The image for this checkout's packages: from the cache, or made in half a minute.

    Raises subprocess.CalledProcessError with the tool's output.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    directory = CACHE / f"vm-{_key()}"
    with _alone():
        if not directory.exists():
            with tempfile.TemporaryDirectory(prefix="vm-making-", dir=CACHE) as made:
                _make(Path(made))
                os.rename(_published(Path(made)), directory)
            _forget_unused()
        os.utime(directory)
    return Image(directory / "root.ext4", directory / "vmlinuz", directory / "initramfs")


def checkout(target: Path, files: dict[str, str]) -> None:
    """An ext4 file system with the code, and `files` (path → content) beside it, at `target`."""
    with tempfile.TemporaryDirectory(prefix="vm-checkout-", dir=target.parent) as made:
        tree = Path(made)
        for name in _IN_CHECKOUT:
            source = CHECKOUT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, symlinks=True)
            else:
                shutil.copy2(source, tree / name)
        for path, content in files.items():
            (tree / path).write_text(content)
        # Its owner is root, whoever owns the checkout.
        _run("chown", "-R", "0:0", str(tree))
        _file_system(tree, target, "256M")


def _key() -> str:
    digest = hashlib.sha256()
    for part in (suite(), sys.version, repr(_PACKAGES), repr(_NOT_NEEDED), repr(_NO_PACKAGES)):
        digest.update(part.encode())
    for path in (CHECKOUT / "requirements" / "dev.txt", _INITRAMFS, _INIT):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _make(work: Path) -> None:
    root = work / "root"
    include = ",".join(_PACKAGES)
    _run(
        "mmdebstrap", "--quiet", "--variant=extract", f"--hook-dir={_MERGED}",
        f"--include={include}", suite(), str(root),
        *mirror(),
    )  # fmt: skip
    for pattern in _NOT_NEEDED:
        for path in root.glob(pattern):
            shutil.rmtree(path)
    _python_packages(root)
    for name, text in {
        "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n",
        "etc/group": "root:x:0:\nnogroup:x:65534:\n",
        "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
        "etc/hostname": "guest\n",
    }.items():
        (root / name).write_text(text)
    (root / GUEST_CHECKOUT.lstrip("/")).mkdir()
    shutil.copy2(_INIT, root / "sbin" / "guest-init")
    (root / "sbin" / "guest-init").chmod(0o755)
    (kernel,) = (root / "usr/lib/modules").iterdir()
    _run("chroot", str(root), "/usr/sbin/depmod", kernel.name)
    (made,) = (root / "boot").glob("vmlinuz-*")
    shutil.move(made, work / "vmlinuz")
    shutil.rmtree(root / "boot")
    _initramfs(root, kernel.name, work)
    _file_system(root, work / "root.ext4", _SIZE)


def _python_packages(root: Path) -> None:
    """Those of this virtual environment, where Debian's Python looks by itself; everything compiled."""
    version = f"python3.{sys.version_info.minor}"
    library = root / "usr/lib" / version
    if not library.is_dir():
        raise AssertionError(f"Debian {suite()} has no {version}, with which these tests run.")
    target = root / "usr/local/lib" / version / "dist-packages"
    source = sysconfig.get_path("purelib")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(*_NO_PACKAGES))
    # Under emulation compiling costs more than all tests.
    _run(sys.executable, "-m", "compileall", "-q", "-j0", "-s", str(root), str(library))


def _initramfs(root: Path, kernel: str, work: Path) -> None:
    tree = work / "initramfs-tree"
    for name in ("bin", "dev", "proc", "root", "modules"):
        (tree / name).mkdir(parents=True)
    shutil.copy2(root / "bin/busybox", tree / "bin/busybox")
    shutil.copy2(_INITRAMFS, tree / "init")
    (tree / "init").chmod(0o755)
    modules = root / "usr/lib/modules" / kernel
    order: list[str] = []
    wanted = {name: _dependencies(modules, name) for name in _BOOT_MODULES}
    for paths in wanted.values():
        order += [p for p in paths if p not in order]
    for number, path in enumerate(order):
        shutil.copy2(modules / path, tree / "modules" / f"{number:02d}-{Path(path).name}")
    listing = "\n".join(str(p.relative_to(tree)) for p in sorted(tree.rglob("*")))
    with (work / "initramfs").open("wb") as output:
        subprocess.run(
            ["/bin/busybox", "cpio", "-o", "-H", "newc"],
            cwd=tree, input=listing.encode(), stdout=output, stderr=subprocess.PIPE, check=True,
        )  # fmt: skip


def _dependencies(modules: Path, name: str) -> Sequence[str]:
    """Paths below `modules` in the order of loading, from modules.dep(5)."""
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        if Path(path).name.partition(".")[0] == name:
            return [*reversed(needs.split()), path]
    raise AssertionError(f"The kernel has no module {name}.")


def _file_system(tree: Path, target: Path, size: str) -> None:
    _run(
        "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1",
        "-d", str(tree), str(target), size,
    )  # fmt: skip


def _published(work: Path) -> Path:
    for name in ("root", "initramfs-tree"):
        shutil.rmtree(work / name)
    keep = work / "image"
    keep.mkdir()
    for name in ("root.ext4", "vmlinuz", "initramfs"):
        os.rename(work / name, keep / name)
    return keep


def _forget_unused() -> None:
    for path in CACHE.glob("vm-*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > _UNUSED:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _alone() -> Iterator[None]:
    with (CACHE / "vm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
