"""Which commands run in containers besides their own, and how the latest ended.

In memory: it begins anew with the watcher, as all of them but those that were detached end with it.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

from runtime.engine.execs import ExecRequest
from runtime.engine.top import pid_inside

KEPT = 200  # that have ended
_COMMAND = 500  # characters shown


@dataclass(frozen=True, slots=True)
class ExecRow:
    id: str  # 64 hex digits
    pid: int  # as the container sees it; 0 when it ended at once
    host_pid: int
    command: str
    user: str  # "": the container's own
    tty: bool
    detached: bool
    started_at: float  # Unix seconds
    running: bool = True
    finished_at: float | None = None
    exit_code: int | None = None  # none also when nobody waited for its end


class ExecList:
    def __init__(self) -> None:
        self._running: dict[str, tuple[str, ExecRow]] = {}
        self._ended: OrderedDict[str, tuple[str, ExecRow]] = OrderedDict()

    def begin(
        self, container_id: str, host_pid: int, request: ExecRequest, *, detached: bool
    ) -> ExecRow:
        row = ExecRow(
            id=secrets.token_hex(32),
            pid=pid_inside(host_pid),
            host_pid=host_pid,
            command=" ".join(request.args)[:_COMMAND],
            user=request.user,
            tty=request.tty,
            detached=detached,
            started_at=time.time(),
        )
        self._running[row.id] = (container_id, row)
        return row

    def detach(self, exec_id: str) -> None:
        """Its client has gone and left it."""
        if exec_id in self._running:
            container_id, row = self._running[exec_id]
            self._running[exec_id] = (container_id, dataclasses.replace(row, detached=True))

    def end(self, exec_id: str, exit_code: int | None) -> None:
        """The first end counts."""
        if exec_id not in self._running:
            return
        container_id, row = self._running.pop(exec_id)
        self._ended[exec_id] = (
            container_id,
            dataclasses.replace(row, running=False, finished_at=time.time(), exit_code=exit_code),
        )
        while len(self._ended) > KEPT:
            self._ended.popitem(last=False)

    def of(self, container_id: str) -> list[ExecRow]:
        """A container's, the newest first."""
        every = [*self._running.values(), *self._ended.values()]
        found = [row for whose, row in every if whose == container_id]
        return sorted(found, key=lambda row: row.started_at, reverse=True)
