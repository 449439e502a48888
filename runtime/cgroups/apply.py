"""Writing limits as a whole: every value, or none and an error that names the field."""

from __future__ import annotations

import errno

from runtime.cgroups import Cgroup
from runtime.cgroups.limits import Setting, cleared, everything
from runtime.cgroups.parse import UNLIMITED_V1, flat_keyed
from runtime.errors import EngineError, KernelFailure, SpecInvalid, Unsupported

_MISSING = frozenset({errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV})
_NO_WEIGHTS = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM})
_NOT_HERE = "this kernel, or the group that this host was given, does without the controller"
_OTHERS = {
    "memory_high": "only cgroup v2 has it",
    "memory_swappiness": "only cgroup v1 has it",
    "oom_kill_disable": "only cgroup v1 has it",
}
# Tables of devices; an update takes rows away that are asked for no longer.
TABLES = {
    "blkio": (
        "blkio.weight_device", "blkio.bfq.weight_device", "blkio.throttle.read_bps_device",
        "blkio.throttle.write_bps_device", "blkio.throttle.read_iops_device",
        "blkio.throttle.write_iops_device",
    ),
    "io": ("io.max", "io.weight", "io.bfq.weight"),
}  # fmt: skip


def write_all(cgroup: Cgroup, values: list[Setting]) -> None:
    """Write to a new group, whose previous values need no memory: the caller removes it on failure.

    Raises SpecInvalid when the kernel refuses a value, Unsupported when it lacks the file.
    """
    for setting in values:
        try:
            _write(cgroup, setting)
        except OSError as error:
            if not setting.asked and error.errno in _MISSING:
                continue
            raise translate(setting, error) from error


def change_all(cgroup: Cgroup, values: list[Setting]) -> None:
    """Write to a group in use. A refusal puts the values written before it back, then raises as above.

    Raises SpecInvalid first when the memory in use could not fit under a new limit: on v2 the kernel
    would kill the container's processes instead of refusing.
    """
    _check_memory(cgroup, values)
    undo: list[tuple[Setting, str]] = []
    try:
        for setting in _ordered(cgroup, values) + _stale_rows(cgroup, values):
            try:
                before = cgroup.read(setting.controller, setting.file)
                if setting.controller == "cpuset" and not setting.asked and not before:
                    continue  # never given (v2)
                _write(cgroup, setting)
            except (OSError, KeyError) as error:
                number = error.errno if isinstance(error, OSError) else errno.ENOENT
                if not setting.asked and number in _MISSING:
                    continue
                raise translate(setting, error) from error
            undo.append((setting, _restoring(setting, before)))
    except EngineError:
        for setting, value in reversed(undo):
            try:
                cgroup.write(setting.controller, setting.file, value)
            except OSError:
                # The refusal is what the user must see; the old value no longer fits either.
                continue
        raise


def _write(cgroup: Cgroup, setting: Setting) -> None:
    if setting.controller not in cgroup.paths:
        raise FileNotFoundError(errno.ENOENT, "no such controller", setting.file)
    cgroup.write(setting.controller, setting.file, setting.value)


def _restoring(setting: Setting, before: str) -> str:
    if setting.key:
        rows = {line.partition(" ")[0]: line for line in before.splitlines()}
        return rows.get(setting.key, cleared(setting.file, setting.key))
    if setting.file == "memory.oom_control":
        return str(flat_keyed(before).get("oom_kill_disable", 0))
    if setting.controller == "cpuset" and not before:
        # Of a group with processes no set can be emptied again.
        return everything(setting.file.removeprefix("cpuset."))
    if setting.file.endswith("_in_bytes") and int(before) >= UNLIMITED_V1:
        return "-1"
    # io.weight shows a table whose first row is the default.
    return before.splitlines()[0] if before else "\n"


def _ordered(cgroup: Cgroup, values: list[Setting]) -> list[Setting]:
    """v1 wants memory ≤ memory + swap at every moment: raise the sum first, lower it last."""
    names = [s.file for s in values]
    pair = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    if pair[0] not in names or pair[1] not in names:
        return values
    memory, both = (values[names.index(n)] for n in pair)
    try:
        current = int(cgroup.read("memory", both.file))
    except (OSError, KeyError):
        return values
    wanted = int(both.value)
    raising = wanted == -1 or wanted > current
    rest = [s for s in values if s not in (memory, both)]
    return [*((both, memory) if raising else (memory, both)), *rest]


def _stale_rows(cgroup: Cgroup, values: list[Setting]) -> list[Setting]:
    kept = {(s.file, s.key) for s in values if s.key}
    stale = []
    for controller, tables in TABLES.items():
        for file in tables:
            try:
                text = cgroup.read(controller, file)
            except (OSError, KeyError):
                continue
            for line in text.splitlines():
                key = line.partition(" ")[0]
                if ":" in key and (file, key) not in kept:
                    stale.append(Setting(controller, file, cleared(file, key), "", False, key))
    return stale


def _check_memory(cgroup: Cgroup, values: list[Setting]) -> None:
    for setting in values:
        if setting.field != "memory" or not setting.asked:
            continue
        try:
            stat = flat_keyed(cgroup.read("memory", "memory.stat"))
        except (OSError, KeyError):
            return
        # Page cache can be dropped; anonymous and shared memory cannot, without swap.
        held = stat.get("total_rss", stat.get("anon", 0)) + stat.get(
            "total_shmem", stat.get("shmem", 0)
        )
        if held > int(setting.value):
            raise _in_use(setting, held)


def _in_use(setting: Setting, held: int) -> SpecInvalid:
    more = f" ({held // 1024 // 1024} MiB)" if held else ""
    return SpecInvalid(
        "limits.memory",
        f"The container uses more memory now{more} than the new limit allows.",
        hint="Give a higher limit, or stop the container first.",
        limit=int(setting.value),
    )


def translate(setting: Setting, error: OSError | KeyError) -> EngineError:
    """What a refused write means to the person who set the limit."""
    field = f"limits.{setting.field}"
    number = error.errno if isinstance(error, OSError) else errno.ENOENT
    if setting.key and "weight" in setting.file and number in _NO_WEIGHTS:
        return SpecInvalid(
            field,
            f"The I/O scheduler of the device {setting.key} knows no weights.",
            hint="Choose bfq for it (/sys/block/<disk>/queue/scheduler), or limit its throughput.",
        )
    if setting.key and number in (errno.ENODEV, errno.EINVAL):
        return SpecInvalid(
            field,
            f"The kernel cannot limit the device {setting.key}.",
            hint="Name a whole disk, not a partition.",
        )
    if number in _MISSING:
        return Unsupported(
            f"The limit {setting.field}",
            f"the cgroup file {setting.file} ({setting.controller} controller)",
            hint=f"Leave {field} out: {_OTHERS.get(setting.field, _NOT_HERE)}.",
            field=field,
        )
    if number == errno.EBUSY and setting.controller == "memory":
        return _in_use(setting, 0)
    if setting.controller == "cpuset" and number in (
        errno.EACCES,
        errno.EINVAL,
        errno.ERANGE,
        errno.ENOSPC,
    ):
        return SpecInvalid(
            field,
            f"This host does not offer all of {setting.value}.",
            hint="Name CPUs and memory nodes that are online.",
        )
    if number in (errno.EINVAL, errno.ERANGE, errno.EOVERFLOW):
        return SpecInvalid(
            field, f"The kernel refuses {setting.value!r} for {setting.file}.", value=setting.value
        )
    return KernelFailure("cgroup write", number or 0, setting.file, field=field)
