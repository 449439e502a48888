"""One container's groups on a v1 or hybrid host: one directory per controller.

Moving a process by writing its pid to `cgroup.procs` takes the kernel's global thread-group lock, which
waits for an RCU grace period: 10 to 20 ms on an idle host. A single-threaded process that writes "0" to
`tasks` moves itself without that lock in 0.05 ms (kernel commit 9a3284fad42f), so `enter` does that.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runtime.cgroups import files
from runtime.cgroups.parse import UNLIMITED_V1, blkio_bytes, flat_keyed, number, ordered
from runtime.errors import KernelFailure, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

# Groups that are made only when a limit asks for them: entering a cpuset costs more than all others.
ON_DEMAND = frozenset({"cpuset"})

_THAWS = 3  # tries: what is frozen hears nothing, and not every error comes again

# What a sample takes of files with several lines, in their order.
_CPU_STAT = ("nr_periods ", "nr_throttled ", "throttled_time ")
_MEMORY_STAT = (
    "\nhierarchical_memory_limit ", "\ntotal_cache ", "\ntotal_swap ", "\ntotal_inactive_file "
)  # fmt: skip
_OOM_CONTROL = ("oom_kill ",)


class LegacyCgroup:
    version = "v1"

    def __init__(self, paths: dict[str, str]) -> None:
        self.paths = paths
        # Controllers may share a mount ("cpu,cpuacct").
        self._directories = list(dict.fromkeys(paths.values()))
        self._optional = {paths[c] for c in ON_DEMAND if c in paths}

    # -- membership ---------------------------------------------------------------------------

    def enter(self) -> None:
        self._attach("tasks", "0")

    def doors(self) -> list[int]:
        found = []
        for directory in self._directories:
            try:
                found.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))
            except OSError as error:
                if error.errno == errno.ENOENT and directory in self._optional:
                    continue
                raise KernelFailure("cgroup attach", error.errno or 0, directory) from error
        return found

    def add(self, pid: int) -> None:
        self._attach("cgroup.procs", str(pid))

    def _attach(self, file: str, value: str) -> None:
        for directory in self._directories:
            try:
                files.write(f"{directory}/{file}", value)
            except OSError as error:
                if error.errno == errno.ENOENT and directory in self._optional:
                    continue
                raise KernelFailure("cgroup attach", error.errno or 0, directory) from error

    def pids(self) -> list[int]:
        result: dict[int, None] = {}
        for directory in self._directories:
            if directory not in self._optional:
                _collect(directory, result)
        return list(result)

    def exists(self) -> bool:
        return any(os.path.isdir(d) for d in self._directories)

    # -- control ------------------------------------------------------------------------------

    def kill(self) -> None:
        seen: set[int] = set()
        for _ in range(10):
            found = set(self.pids()) - seen
            if not found:
                if seen:
                    # What is frozen dies only when it is let go.
                    self.thaw()
                return
            _signal(found)
            seen |= found
        # It forks faster than we look: hold it still first.
        try:
            self.freeze()
        except (KernelFailure, Unsupported):
            pass
        _signal(set(self.pids()))
        self.thaw()

    def freeze(self) -> None:
        if "freezer" not in self.paths:
            raise Unsupported("Pausing a container", "the freezer controller")
        try:
            self._freeze()
        except BaseException:
            with suppress(KernelFailure):
                self.thaw()  # nobody else would: it counts as running
            raise

    def _freeze(self) -> None:
        deadline = time.monotonic() + 5
        pause = 0.0005
        while True:
            # A task forked at the wrong moment leaves the state at FREEZING until it is set again.
            self._set("freezer", "freezer.state", "FROZEN")
            if self.frozen():
                return
            if time.monotonic() > deadline:
                raise KernelFailure("cgroup freeze", errno.EBUSY, self.paths["freezer"])
            time.sleep(pause)
            pause = min(pause * 2, 0.02)

    def thaw(self) -> None:
        if "freezer" not in self.paths:
            return
        for left in reversed(range(_THAWS)):
            try:
                self._set("freezer", "freezer.state", "THAWED")
                return
            except KernelFailure:
                if not os.path.isdir(self.paths["freezer"]):
                    return  # its monitor removes a group whose processes have ended, at any moment
                if not left:
                    raise

    def frozen(self) -> bool:
        try:
            return self.read("freezer", "freezer.state") == "FROZEN"
        except OSError:
            return False

    def remove(self) -> None:
        for directory in self._directories:
            try:
                files.remove_tree(directory)
            except OSError as error:
                raise KernelFailure("cgroup remove", error.errno or 0, directory) from error

    def renew(self) -> None:
        for directory in self._directories:
            try:
                for below in files.subdirectories(directory):
                    files.remove_tree(below)
            except OSError as error:
                raise KernelFailure("cgroup renew", error.errno or 0, directory) from error
        self.thaw()

    # -- counters -----------------------------------------------------------------------------

    def oom_kills(self) -> int:
        try:
            return flat_keyed(self.read("memory", "memory.oom_control")).get("oom_kill", 0)
        except OSError:
            return 0

    def counters(self, read: Callable[[str], str] | None = None) -> dict[str, Any]:
        """StatsSample's fields that the groups know; `read` may keep its files open."""
        get = read or self._look
        result: dict[str, Any] = {}
        if text := get("cpuacct.usage"):
            result["cpu_usage"] = int(text)
        if text := get("cpu.stat"):
            periods, throttled, time_throttled = ordered(text, _CPU_STAT)
            result["cpu_periods"] = periods
            result["cpu_throttled_periods"] = throttled
            result["cpu_throttled_time"] = time_throttled
            quota = number(get("cpu.cfs_quota_us") or "-1")
            if quota:
                period = number(get("cpu.cfs_period_us") or "100000")
                result["cpu_limit"] = quota / period
        if text := get("memory.stat"):
            limit, cache, swap, inactive = ordered(text, _MEMORY_STAT)
            usage = int(get("memory.usage_in_bytes") or "0")
            result["memory"] = max(usage - inactive, 0)
            result["memory_cache"] = cache
            result["memory_limit"] = 0 if limit >= UNLIMITED_V1 else limit
            result["swap"] = swap
            result["memory_peak"] = int(get("memory.max_usage_in_bytes") or "0")
            (result["oom_kills"],) = ordered(get("memory.oom_control"), _OOM_CONTROL)
        if text := get("pids.current"):
            result["pids"] = int(text)
            result["pids_limit"] = number(get("pids.max") or "max")
        if text := get("blkio.throttle.io_service_bytes_recursive"):
            result["block_read"], result["block_write"] = blkio_bytes(text)
        return result

    def path(self, file: str) -> str:
        directory = self.paths.get(file.partition(".")[0])
        return f"{directory}/{file}" if directory is not None else ""

    # -- files --------------------------------------------------------------------------------

    def read(self, controller: str, file: str) -> str:
        return files.read(f"{self.paths[controller]}/{file}").strip()

    def write(self, controller: str, file: str, value: str) -> None:
        files.write(f"{self.paths[controller]}/{file}", value)

    def _look(self, file: str) -> str:
        return files.look(self.path(file))

    def _set(self, controller: str, file: str, value: str) -> None:
        try:
            self.write(controller, file, value)
        except OSError as error:
            path = f"{self.paths[controller]}/{file}"
            raise KernelFailure("cgroup write", error.errno or 0, path) from error


def _collect(directory: str, into: dict[int, None]) -> None:
    try:
        text = files.read(f"{directory}/cgroup.procs")
    except OSError:
        return
    for word in text.split():
        into[int(word)] = None
    try:
        children = files.subdirectories(directory)
    except OSError:
        return
    for child in children:
        _collect(child, into)


def _signal(pids: set[int]) -> None:
    for pid in pids:
        # 0 stands for a process of another pid namespace: killing "0" would be our own group.
        if pid > 0:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
