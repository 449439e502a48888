"""OOM kills as the kernel's log tells them: which process, of which container, over which limit.

A record of /dev/kmsg is `priority,number,microseconds,flags;text` and comes one per read (Linux,
Documentation/ABI/testing/dev-kmsg). Of a kill in a control group the log has, among eighty lines,

    memory: usage 32768kB, limit 32768kB, failcnt 29
    oom-kill:constraint=CONSTRAINT_MEMCG,…,oom_memcg=/…,task_memcg=/…,task=NAME,pid=N,uid=N

Both are left out when the kernel limits its own output (ten kills in five seconds); the counter of the group
(facts.py) knows of those.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

KMSG = Path("/dev/kmsg")
# Bridges and links fill the log whenever containers start: look at most this often, unless a kill is being told.
REST = 0.25  # seconds
_RECORD = 8192  # bytes; longer ones are refused by the kernel (CONSOLE_EXT_LOG_MAX)
_FROM_KERNEL = (
    8  # priorities below are the kernel's own: a process that may write the log cannot pretend
)
_USAGE = re.compile(r"memory: usage \d+kB, limit (\d+)kB")
_UNLIMITED = 1 << 62


@dataclass(frozen=True, slots=True)
class OomKill:
    """One process that the kernel killed for want of memory."""

    container: str  # the first 32 digits of the id
    process: str  # its name, at most 15 characters
    host_pid: int
    limit: int  # bytes; 0 = the log did not say, or the host itself was out of memory
    host_wide: bool  # not a limit, but the whole host
    time: float  # Unix seconds


class OomParser:
    """Finds kills in the groups `<cgroup>/containers/…` among the log's records, fed one after the other."""

    def __init__(self, cgroup: str) -> None:
        self._kill = re.compile(
            r"oom-kill:constraint=(\w+),.*?,task_memcg=[^,]*/"
            + re.escape(cgroup)
            + r"/containers/([0-9a-f]{32})\b[^,]*,task=(.*),pid=(\d+),uid=\d+$"
        )
        self._limit = 0
        self.telling = False  # a kill has been announced, and its line is still to come

    def feed(self, record: bytes, now: float) -> OomKill | None:
        """`now`: Unix seconds, to within the time that it took to read the record."""
        head, _, rest = record.partition(b";")
        line = rest.partition(b"\n")[0]
        if b"oom" not in line and b"memory: usage" not in line:
            return None
        try:
            if int(head.split(b",", 1)[0]) >= _FROM_KERNEL:
                return None
        except ValueError:
            return None
        text = line.decode("utf-8", "replace")
        if "invoked oom-killer" in text:
            self._limit, self.telling = 0, True
        elif found := _USAGE.search(text):
            limit = int(found[1]) * 1024
            self._limit = 0 if limit >= _UNLIMITED else limit
        elif text.startswith("oom-kill:"):
            limit, self._limit, self.telling = self._limit, 0, False
            if found := self._kill.match(text):
                host_wide = found[1] != "CONSTRAINT_MEMCG"
                return OomKill(
                    container=found[2],
                    process=found[3],
                    host_pid=int(found[4]),
                    limit=0 if host_wide else limit,
                    host_wide=host_wide,
                    time=now,
                )
        return None


class KernelLog:
    """Reads what the log gets from now on, on the running loop, and calls `told` for each kill."""

    def __init__(self, cgroup: str, told: Callable[[OomKill], None], path: Path = KMSG) -> None:
        self._parser = OomParser(cgroup)
        self._told = told
        self._path = path
        self._fd = -1

    def open(self) -> bool:
        """False when this host does not let us read it."""
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
            asyncio.get_running_loop().add_reader(self._fd, self._read)
        except OSError as error:
            logger.info("OOM kills are told by their counter alone: %s", error)
            self.close()
            return False
        return True

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        while True:
            try:
                record = os.read(self._fd, _RECORD)
            except BrokenPipeError:
                continue  # overwritten before it was read: the next read begins with the oldest there is
            except BlockingIOError:
                break
            except OSError as error:
                logger.warning("The kernel's log cannot be read any more: %s", error)
                self.close()
                return
            if not record:
                break
            if kill := self._parser.feed(record, time.time()):
                self._told(kill)
        if not self._parser.telling:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._fd)
            loop.call_later(REST, self._again)

    def _again(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().add_reader(self._fd, self._read)
