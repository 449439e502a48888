"""The container's root file system: steps as data, and the code that carries them out.

Every target is resolved beneath the new root by the kernel (openat2 with RESOLVE_IN_ROOT) and mounted on
through its descriptor, so that no link in an image or volume leads a mount astray (the class of
CVE-2021-30465 and CVE-2019-16884). Runs in init, in its own mount namespace, before pivot_root.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING

from runtime.errors import KernelFailure
from runtime.kernel import mount_trees, syscalls
from runtime.kernel.constants import (
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_FLAG,
    FSCONFIG_SET_STRING,
    MNT_DETACH,
    MOUNT_ATTR_STRICTATIME,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_SLAVE,
    MS_STRICTATIME,
    O_PATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_SYMLINKS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.model.plan import MountStep, Overlay

_PAGE = 4096
_NULL = os.makedev(1, 3)


def describe(step: MountStep) -> str:
    """One line for logs and traces: "bind /srv/data -> /data (ro)"."""
    source = step.get("source") or step.get("fstype") or ""
    read_only = " (ro)" if step.get("flags", 0) & MS_RDONLY else ""
    arrow = f"{source} -> " if source else ""
    return f"{step['kind']} {arrow}{step['target']}{read_only}"


def mount_overlay(overlay: Overlay) -> None:
    """Mount the layers, writable for now, at overlay["rootfs"]. Raises KernelFailure or OSError."""
    options = _overlay_options(overlay, overlay["lower"])
    with ExitStack() as opened:
        if len(options) >= _PAGE:
            # mount(2) takes one page of options. A descriptor's name is short whatever it stands for.
            names = []
            for layer in overlay["lower"]:
                descriptor = os.open(layer, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                opened.callback(os.close, descriptor)
                names.append(_fd(descriptor))
            options = _overlay_options(overlay, names)
        syscalls.mount("overlay", overlay["rootfs"], "overlay", 0, options)


def _overlay_options(overlay: Overlay, lower: list[str]) -> str:
    return f"lowerdir={':'.join(lower)},upperdir={overlay['upper']},workdir={overlay['work']}"


def is_shared(step: MountStep) -> bool:
    """What is mounted below it later is to reach the host."""
    return step.get("propagation") in ("shared", "rshared")


def copy_tree(step: MountStep) -> int:
    """A detached copy of a bind's source, a peer of the host's mount as long as our namespace is one.

    Raises KernelFailure, OSError.
    """
    try:
        if not step.get("subpath"):
            return mount_trees.copy_path(step.get("source", ""), mount_trees.takes_submounts(step))
        source = _source(step)
        try:
            return mount_trees.copy(source, recursive=mount_trees.takes_submounts(step))
        finally:
            os.close(source)
    except (KernelFailure, OSError) as error:
        raise _named(error, step) from error


def execute(step: MountStep, root: int, tree: int = -1) -> None:
    """Carry out one step below the directory descriptor `root`. Raises KernelFailure, OSError.

    `tree` is the copy of a bind's source that `copy_tree` has made; it is closed.
    """
    try:
        if tree >= 0:
            _attach_to(tree, step, root)
        else:
            _EXECUTE[step["kind"]](step, root)
    except (KernelFailure, OSError) as error:
        if not step.get("optional"):
            raise _named(error, step) from error


def _named(error: KernelFailure | OSError, step: MountStep) -> KernelFailure:
    """The same error, with the step; a path of ours in /proc/self/fd becomes the container's."""
    call, path = "mount", str(getattr(error, "filename", None) or "")
    if isinstance(error, KernelFailure):
        call, path = error.extra["syscall"], error.extra["path"]
    if not path.startswith("/") or path.startswith("/proc/self/fd/"):
        path = step["target"]
    return KernelFailure(call, error.errno or 0, path, hint=_hint(error), step=describe(step))


def _hint(error: KernelFailure | OSError) -> str:
    return error.hint if isinstance(error, KernelFailure) else ""


def _bind(step: MountStep, root: int) -> None:
    if step.get("of_pid"):
        _attach_to(mount_trees.copy_foreign(step["of_pid"], step.get("source", "")), step, root)
        return
    source = _source(step)
    try:
        tree = mount_trees.copy(source, recursive=mount_trees.takes_submounts(step))
        _attach_to(tree, step, root)
    finally:
        os.close(source)


def _source(step: MountStep) -> int:
    source = os.open(step.get("source", ""), O_PATH | os.O_CLOEXEC)
    if not step.get("subpath"):
        return source
    try:
        return syscalls.openat2(source, step["subpath"], O_PATH, resolve=RESOLVE_IN_ROOT)
    finally:
        os.close(source)


def _attach_to(tree: int, step: MountStep, root: int) -> None:
    try:
        kind = "dir" if stat.S_ISDIR(os.fstat(tree).st_mode) else "file"
        make = kind if step.get("make") else ""
        target = resolve(root, step["target"], make=make, plain=step.get("plain", False))
    except BaseException:
        os.close(tree)
        raise
    try:
        mount_trees.attach(tree, target, step)
    finally:
        os.close(target)


def _filesystem(step: MountStep, root: int) -> None:
    fstype = step.get("fstype", "")
    make = step.get("make") or ""
    target = resolve(root, step["target"], make=make, plain=step.get("plain", False))
    try:
        source = step.get("source") or fstype
        syscalls.mount(source, _fd(target), fstype, step.get("flags", 0), step.get("data", ""))
    finally:
        os.close(target)


def make_detached(step: MountStep, more: str = "") -> int:
    """The file system of a step, with `more` options, mounted nowhere yet. Returns a descriptor of its root.

    Raises KernelFailure.
    """
    context = syscalls.fsopen(step.get("fstype", ""))
    try:
        syscalls.fsconfig(context, FSCONFIG_SET_STRING, "source", step.get("source", ""))
        for option in filter(None, [*step.get("data", "").split(","), *more.split(",")]):
            key, _, value = option.partition("=")
            command = FSCONFIG_SET_STRING if value else FSCONFIG_SET_FLAG
            syscalls.fsconfig(context, command, key, value)
        syscalls.fsconfig(context, FSCONFIG_CMD_CREATE)
        flags = step.get("flags", 0)
        strict = MOUNT_ATTR_STRICTATIME if flags & MS_STRICTATIME else 0
        return syscalls.fsmount(context, flags & mount_trees.ATTRIBUTES | strict)
    finally:
        os.close(context)


def move(tree: int, root: int, step: MountStep) -> None:
    """Take what is mounted at the step's target below `tree` to the same place below `root`, with all that is
    mounted on it. Raises KernelFailure.
    """
    source = resolve(tree, step["target"], plain=True)
    try:
        target = resolve(root, step["target"], make=step.get("make", ""), plain=True)
        try:
            syscalls.move_mount(source, "", target, MOVE_MOUNT_T_EMPTY_PATH)
        finally:
            os.close(target)
    except KernelFailure as error:
        raise _named(error, step) from error
    finally:
        os.close(source)


def protect(root: int, masked: Iterable[str], read_only: Iterable[str]) -> None:
    """Hide some paths below `root` and let nobody write to others; what is not there needs neither.

    Raises KernelFailure for what is there and could not be protected.
    """
    steps: list[MountStep] = [{"kind": "mask", "target": path} for path in masked]
    steps += [
        {"kind": "remount", "target": path, "flags": MS_RDONLY, "recursive": True}
        for path in read_only
    ]
    for step in steps:
        try:
            execute(step, root)
        except KernelFailure as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise


def _remount(step: MountStep, root: int) -> None:
    """Lay a copy of what is at the target over it, with other flags."""
    target = resolve(root, step["target"])
    try:
        # With all that is mounted below, or it would be hidden; the flags reach it when asked to.
        tree = mount_trees.copy(target, recursive=True)
        mount_trees.attach(tree, target, {**step, "submounts": True})
    finally:
        os.close(target)


def _attributes(step: MountStep, root: int) -> None:
    """Give a mount of ours its flags, now that everything is in it, and keep what happens to it from its peers."""
    target = resolve(root, step["target"], plain=step.get("plain", False))
    try:
        mount_trees.set_attributes(target, step)
    finally:
        os.close(target)


def _mask(step: MountStep, root: int) -> None:
    """Hide a path: /dev/null over a file, an empty read-only tmpfs over a directory."""
    target = resolve(root, step["target"])
    try:
        if stat.S_ISDIR(os.fstat(target).st_mode):
            flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
            syscalls.mount("tmpfs", _fd(target), "tmpfs", flags, "size=0,nr_inodes=1")
        else:
            _lay_null_over(target)
    finally:
        os.close(target)


def _lay_null_over(target: int) -> None:
    """The host's own /dev/null: the container's is the container's to replace (CVE-2025-31133). On a read-only
    mount, which a device is written to all the same: a chmod inside must not be one of the host's.
    """
    null = os.open("/dev/null", O_PATH | os.O_CLOEXEC)
    try:
        facts = os.fstat(null)
        if not stat.S_ISCHR(facts.st_mode) or facts.st_rdev != _NULL:
            raise OSError(errno.ENODEV, "the host's /dev/null is not a device", "/dev/null")
        tree = mount_trees.copy(null, recursive=False)
    finally:
        os.close(null)
    flags = MS_RDONLY | MS_NOSUID | MS_NOEXEC
    mount_trees.attach(tree, target, {"kind": "mask", "target": "", "flags": flags})


def _symlink(step: MountStep, root: int) -> None:
    parent, name = os.path.split(step["target"])
    directory = resolve(root, parent, make="dir")
    try:
        os.symlink(step.get("source", ""), name, dir_fd=directory)
    except FileExistsError:
        pass
    finally:
        os.close(directory)


def _device(step: MountStep, root: int) -> None:
    """A device node like the host's `source`; where mknod is forbidden, a bind of it."""
    parent, name = os.path.split(step["target"])
    source = step.get("source", "")
    facts = os.stat(source)
    directory = resolve(root, parent, make="dir")
    mask = os.umask(0)
    try:
        mode = stat.S_IFMT(facts.st_mode) | stat.S_IMODE(facts.st_mode)
        os.mknod(name, mode, facts.st_rdev, dir_fd=directory)
        # Who makes it is root, inside or outside; only elsewhere may a directory pass its group on.
        if facts.st_uid or facts.st_gid or parent != "/dev":
            uid, gid = step.get("shift", (0, 0))
            os.chown(name, uid + facts.st_uid, gid + facts.st_gid, dir_fd=directory)
    except FileExistsError:
        pass
    except PermissionError:
        # Its mode and owner stay the host's to change.
        _bind({**step, "kind": "bind", "make": "file", "flags": MS_RDONLY}, root)
    finally:
        os.umask(mask)
        os.close(directory)


_EXECUTE = {
    "bind": _bind,
    "filesystem": _filesystem,
    "remount": _remount,
    "attributes": _attributes,
    "mask": _mask,
    "symlink": _symlink,
    "device": _device,
}


def resolve(root: int, path: str, *, make: str = "", plain: bool = False) -> int:
    """O_PATH descriptor of `path` beneath `root`, links resolved as if root were "/", or refused (`plain`).

    `make` "dir" or "file" creates what is missing (directories 0755, an empty file 0644), never through
    a link that leaves the root. Raises KernelFailure (ENOENT when missing and not to be made).
    """
    how = RESOLVE_IN_ROOT | (RESOLVE_NO_SYMLINKS if plain else 0)
    relative = os.path.normpath("/" + path).lstrip("/")
    if not relative:
        return os.dup(root)
    try:
        return syscalls.openat2(root, relative, O_PATH, resolve=how)
    except KernelFailure as error:
        if plain and error.errno == errno.ELOOP:
            error.hint = f"The image has a symbolic link at {path}; it must be a directory."
        if error.errno != errno.ENOENT or not make:
            raise
    parent, name = os.path.split(relative)
    directory = resolve(root, parent, make="dir", plain=plain)
    try:
        if make == "dir":
            os.mkdir(name, 0o755, dir_fd=directory)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_WRONLY
            os.close(os.open(name, flags, 0o644, dir_fd=directory))
    except FileExistsError:
        # A link to nowhere: following it would let the image choose where we create.
        raise KernelFailure(
            "resolve", errno.ELOOP, path, hint="The image has a dangling link there."
        ) from None
    finally:
        os.close(directory)
    return syscalls.openat2(root, relative, O_PATH, resolve=how)


def pivot_into(rootfs: str) -> None:
    """Make `rootfs` this process's "/" and drop the old root with every mount below it."""
    old = os.open("/", O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(rootfs)
        syscalls.pivot_root(".", ".")
        # The old root lies on top of the new one now; keep its going from reaching the host. From within
        # it, or what the container shares with the host would cease to be shared.
        os.fchdir(old)
        syscalls.mount("none", ".", "", MS_SLAVE | MS_REC)
        syscalls.umount(".", MNT_DETACH)
    finally:
        os.close(old)
    os.chdir("/")


def chroot_into(rootfs: str) -> None:
    """Make `rootfs`, which is mounted over this mount namespace's root, this process's "/".

    As good as `pivot_into` when nothing of the host's is below: whoever leaves a root, or joins the namespace, comes to
    what is mounted on top. Without its unmount, for which the kernel has every processor report (namespace_unlock).
    """
    os.chdir(rootfs)
    os.chroot(".")


def _fd(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"
