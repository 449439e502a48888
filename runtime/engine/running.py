"""What a change of limits does to what runs already, where it is not the control groups that hold them.

Each function changes all of it or raises with everything as it was, and returns how to take it back.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from runtime.errors import EngineError, KernelFailure, SpecInvalid
from runtime.kernel import capabilities, mounts, procfs, syscalls
from runtime.kernel.constants import FSCONFIG_CMD_RECONFIGURE, FSCONFIG_SET_STRING, O_PATH
from runtime.kernel.rlimits import number_of
from runtime.model.spec import ContainerSpec, Ulimit
from runtime.model.state import RunState

Pids = Callable[[], Iterable[int]]
Undone = Callable[[], None]
SHM = "/dev/shm"
_TMPFS_MAGIC = 0x01021994  # linux/magic.h
_UNLIMITED = resource.RLIM_INFINITY


def give_oom_score(pids: Pids, value: int) -> Undone:
    """Raises SpecInvalid when the kernel refuses it for one of the processes."""
    before: dict[int, str] = {}

    def undo() -> None:
        for pid, old in before.items():
            with suppress(OSError):
                _score(pid).write_text(old, encoding="ascii")

    for pid in _each(pids):
        try:
            old = _score(pid).read_text(encoding="ascii")
            _score(pid).write_text(str(value), encoding="ascii")
        except PermissionError as error:
            undo()
            raise SpecInvalid(
                "limits.oom_score_adj",
                f"This host does not let Slipway set an OOM score of {value}.",
                hint="Lowering it requires CAP_SYS_RESOURCE.",
            ) from error
        except OSError:
            continue  # gone meanwhile; what is forked later inherits from those that remain
        before[pid] = old
    return undo


def _score(pid: int) -> Path:
    return Path(f"/proc/{pid}/oom_score_adj")


def give_ulimits(pids: Pids, shim: int, now: Iterable[Ulimit], wanted: Iterable[Ulimit]) -> Undone:
    """Each process gets what differs; a limit that is not wanted any more becomes that of `shim`, the monitor,
    as in a container that was made without. Raises SpecInvalid("ulimits").
    """
    changes = _changed(shim, now, wanted)
    processes = list(_each(pids)) if changes else []
    if not capabilities.bounding() >> capabilities.NUMBERS["SYS_RESOURCE"] & 1:
        # Refused before the first is changed: what we lower we could not raise again.
        for pid in processes:
            for name, (number, (_, hard)) in changes.items():
                with suppress(ProcessLookupError):
                    if _more(hard, resource.prlimit(pid, number)[1]):
                        raise _refused(name, hard)
    before: list[tuple[int, int, tuple[int, int]]] = []

    def undo() -> None:
        for pid, number, old in reversed(before):
            with suppress(OSError, ValueError):
                resource.prlimit(pid, number, old)

    for pid in _each(pids) if changes else ():
        for name, (number, pair) in changes.items():
            try:
                before.append((pid, number, resource.prlimit(pid, number, pair)))
            except ProcessLookupError:
                break
            except (OSError, ValueError) as error:
                undo()
                raise _refused(name, pair[1]) from error
    return undo


def _changed(
    shim: int, now: Iterable[Ulimit], wanted: Iterable[Ulimit]
) -> dict[str, tuple[int, tuple[int, int]]]:
    """What to set, by name: the kernel's number, and (soft, hard)."""
    old = {limit.name: limit for limit in now}
    new = {limit.name: limit for limit in wanted}
    result = {}
    for name in old | new:
        number = number_of(name)
        if number is None or old.get(name) == new.get(name):
            continue
        limit = new.get(name)
        pair = (limit.soft, limit.hard) if limit else resource.prlimit(shim, number)
        result[name] = (number, pair)
    return result


def _more(one: int, other: int) -> bool:
    return other != _UNLIMITED and (one in (_UNLIMITED, -1) or one > other)


def _refused(name: str, hard: int) -> SpecInvalid:
    text = "without limit" if hard == _UNLIMITED else f"to {hard}"
    return SpecInvalid(
        "ulimits",
        f"This host does not let Slipway raise {name} {text} while the container runs.",
        hint="Give less, or make the container anew with it; raising it takes CAP_SYS_RESOURCE.",
    )


def _each(pids: Pids) -> Iterator[int]:
    """Every process, also one that is forked while the others are changed: it may have the old values."""
    done: set[int] = set()
    while fresh := [pid for pid in pids() if pid > 0 and pid not in done]:
        done.update(fresh)
        yield from fresh


def has_own_shm(spec: ContainerSpec) -> bool:
    """Whether /dev/shm is the container's alone, as large as it was asked to be."""
    return spec.namespaces.ipc == "" and not any(
        os.path.normpath(mount.target) == SHM for mount in spec.mounts
    )


def resize_shm(state: RunState, before: int, size: int) -> Undone:
    """Give /dev/shm of a container that runs another size. Raises SpecInvalid when it holds more already."""
    root = os.open(f"/proc/{state.pid}/root", O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # No link of the container's making is followed, and no other's file system is touched.
        shm = mounts.resolve(root, SHM, plain=True)
    finally:
        os.close(root)
    try:
        own = os.fstat(shm).st_dev != os.stat(SHM).st_dev
        if not (own and syscalls.filesystem_type(shm) == _TMPFS_MAGIC and _is_it(state)):
            raise SpecInvalid("shm_size", "The container has put something else at /dev/shm.")
        _reconfigure(shm, size)
    except KernelFailure as error:
        raise SpecInvalid(
            "shm_size",
            f"The container uses more of {SHM} now than the new size allows.",
            hint="Give a larger size, or stop the container first.",
        ) from error
    finally:
        os.close(shm)

    def undo() -> None:
        with suppress(EngineError, OSError):
            resize_shm(state, size, before)

    return undo


def _is_it(state: RunState) -> bool:
    """The pid was not another process's by the time that its root was opened."""
    return procfs.is_alive(state.pid, state.start_time)


def _reconfigure(shm: int, size: int) -> None:
    context = syscalls.fspick(shm, SHM)
    try:
        syscalls.fsconfig(context, FSCONFIG_SET_STRING, "size", str(size))
        syscalls.fsconfig(context, FSCONFIG_CMD_RECONFIGURE)
    finally:
        os.close(context)
