"""One container's group on a unified (v2) host: a single directory holds every controller.

Source: Documentation/admin-guide/cgroup-v2.rst. `cgroup.kill` needs Linux 5.14; without it the group is
frozen and its processes are killed one by one. To start a process inside without the cost of moving it,
clone3 takes a descriptor of `directory` (CLONE_INTO_CGROUP).
"""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from runtime.cgroups import files
from runtime.cgroups.parse import cpu_max, flat_keyed, io_stat, number, ordered, pressure
from runtime.errors import KernelFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_THAWS = 3  # tries: what is frozen hears nothing, and not every error comes again

# What a sample takes of files with several lines, in their order.
_CPU_STAT = ("usage_usec ", "nr_periods ", "nr_throttled ", "throttled_usec ")
_MEMORY_STAT = ("\nfile ", "\ninactive_file ")
_OOM_KILL = ("\noom_kill ",)


# A container that may write its groups (privileged, with an init such as systemd) can hand its controllers to groups of
# its own; the kernel then takes no process but there ("no internal processes"), and whoever joins it lives where its own
# processes do.
REFUSALS = (errno.EBUSY, errno.EOPNOTSUPP, errno.ENOENT, errno.ENODEV)


class UnifiedCgroup:
    version = "v2"

    def __init__(self, paths: dict[str, str]) -> None:
        self.paths = paths
        self.directory = next(iter(paths.values()))

    # -- membership ---------------------------------------------------------------------------

    def enter(self) -> None:
        for directory in self._populated():
            try:
                files.write(f"{directory}/cgroup.procs", "0")
            except OSError as error:
                if error.errno in REFUSALS:
                    continue
                raise KernelFailure("cgroup attach", error.errno or 0, directory) from error
            return
        raise KernelFailure("cgroup attach", errno.EBUSY, self.directory)

    def doors(self) -> list[int]:
        found = []
        for directory in self._populated():
            try:
                found.append(os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
            except OSError as error:
                if directory != self.directory:
                    continue  # it has just gone
                raise KernelFailure("cgroup attach", error.errno or 0, directory) from error
        return found

    def add(self, pid: int) -> None:
        self._set("cgroup.procs", str(pid))

    def pids(self) -> list[int]:
        return [pid for directory in self._below() for pid in _processes(directory)]

    def _below(self) -> Iterator[str]:
        """The group and those below, those nearer to it first."""
        pending = [self.directory]
        while pending:
            directory = pending.pop(0)
            yield directory
            pending += sorted(files.subdirectories(directory))

    def _populated(self) -> Iterator[str]:
        """The group itself, then those below that have processes."""
        yield self.directory
        for directory in self._below():
            if directory != self.directory and _processes(directory):
                yield directory

    def exists(self) -> bool:
        return os.path.isdir(self.directory)

    # -- control ------------------------------------------------------------------------------

    def kill(self) -> None:
        try:
            files.write(f"{self.directory}/cgroup.kill", "1")
            # The kernel kills what is frozen, too, but the next life would begin frozen.
            self.thaw()
            return
        except FileNotFoundError:
            if not self.exists():
                return
        except OSError as error:
            raise KernelFailure("cgroup kill", error.errno or 0, self.directory) from error
        self._set("cgroup.freeze", "1")
        for pid in self.pids():
            if pid > 0:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.thaw()

    def freeze(self) -> None:
        self._set("cgroup.freeze", "1")
        deadline = time.monotonic() + 5
        pause = 0.0005
        while not self.frozen():
            if time.monotonic() > deadline:
                self.thaw()
                raise KernelFailure("cgroup freeze", errno.EBUSY, self.directory)
            time.sleep(pause)
            pause = min(pause * 2, 0.02)

    def thaw(self) -> None:
        for left in reversed(range(_THAWS)):
            try:
                self._set("cgroup.freeze", "0")
                return
            except KernelFailure:
                if not self.exists():
                    return  # its monitor removes a group whose processes have ended, at any moment
                if not left:
                    raise

    def frozen(self) -> bool:
        return flat_keyed(self._try("cgroup.events")).get("frozen", 0) == 1

    def remove(self) -> None:
        try:
            files.remove_tree(self.directory)
        except OSError as error:
            raise KernelFailure("cgroup remove", error.errno or 0, self.directory) from error

    def renew(self) -> None:
        if not self.exists():
            return
        try:
            for directory in files.subdirectories(self.directory):
                files.remove_tree(directory)
            for name in self._try("cgroup.subtree_control").split():
                files.write(f"{self.directory}/cgroup.subtree_control", f"-{name}")
        except OSError as error:
            raise KernelFailure("cgroup renew", error.errno or 0, self.directory) from error
        self.thaw()

    # -- counters -----------------------------------------------------------------------------

    def oom_kills(self) -> int:
        return flat_keyed(self._try("memory.events")).get("oom_kill", 0)

    def counters(self, read: Callable[[str], str] | None = None) -> dict[str, Any]:
        """StatsSample's fields that the group knows; `read` may keep its files open."""
        get = read or self._try
        used, periods, throttled, time_throttled = ordered(get("cpu.stat"), _CPU_STAT)
        result: dict[str, Any] = {
            "cpu_usage": used * 1000,
            "cpu_periods": periods,
            "cpu_throttled_periods": throttled,
            "cpu_throttled_time": time_throttled * 1000,
            "cpu_limit": cpu_max(get("cpu.max") or "max"),
        }
        if text := get("memory.current"):
            cache, inactive = ordered(get("memory.stat"), _MEMORY_STAT)
            result["memory"] = max(int(text) - inactive, 0)
            result["memory_cache"] = cache
            result["memory_limit"] = number(get("memory.max") or "max")
            result["memory_peak"] = number(get("memory.peak") or "0")
            result["swap"] = number(get("memory.swap.current") or "0")
            (result["oom_kills"],) = ordered(get("memory.events"), _OOM_KILL)
        if text := get("pids.current"):
            result["pids"] = int(text)
            result["pids_limit"] = number(get("pids.max") or "max")
        result["block_read"], result["block_write"] = io_stat(get("io.stat"))
        result["pressure"] = {
            key: value
            for resource in ("cpu", "memory", "io")
            for key, value in pressure(get(f"{resource}.pressure"), resource).items()
        }
        return result

    def path(self, file: str) -> str:
        return f"{self.directory}/{file}"

    # -- files --------------------------------------------------------------------------------

    def read(self, controller: str, file: str) -> str:
        return files.read(f"{self.directory}/{file}").strip()

    def write(self, controller: str, file: str, value: str) -> None:
        files.write(f"{self.directory}/{file}", value)

    def _try(self, file: str) -> str:
        return files.look(self.path(file))

    def _set(self, file: str, value: str) -> None:
        try:
            files.write(f"{self.directory}/{file}", value)
        except OSError as error:
            path = f"{self.directory}/{file}"
            raise KernelFailure("cgroup write", error.errno or 0, path) from error


def _processes(directory: str) -> list[int]:
    try:
        return [int(word) for word in files.read(f"{directory}/cgroup.procs").split()]
    except OSError:
        # Gone, or a threaded group (EOPNOTSUPP), whose processes its parent lists.
        return []
