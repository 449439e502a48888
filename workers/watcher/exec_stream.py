"""A process in a container, over the stream socket: its output out, its input in.

    {"op": "exec", "id", "args", "env"?, "user"?, "cwd"?, "tty"?, "stdin"?, "privileged"?, "detach"?, "size"?: [rows, columns]}

Answers: {"type": "begun", "id", "pid", "host_pid"} (see exec_list.py), {"type": "output", "stream": "stdout" | "stderr", "data": base64} (a
terminal's is all stdout), {"type": "exit", "exit_code"}. Meanwhile the client may send {"input": base64},
{"size": [rows, columns]} and {"end_of_input": true}. When it goes away the process is ended: a terminal
hangs up, and what goes on after a moment is killed; unless the client has sent {"detach": true} before, and was
answered {"type": "detached"}. With "detach" in the request the answer ends with "begun", and the
process is left alone.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Protocol

from runtime.engine.execs import ExecRequest
from runtime.errors import EngineError, SpecInvalid
from runtime.shim.client import ExecSession
from workers.watcher.exec_list import ExecList

BeginExec = Callable[[str, ExecRequest], ExecSession]
End = Callable[[int | None], None]  # called with an exit code; the first time counts

_ID = re.compile(r"[0-9a-f]{64}")
_BLOCK = 32 * 1024  # bytes of output in one message
_DRAIN = 1.0  # seconds for output that others in the container still hold open
_HANG_UP = 2.0  # seconds between hanging up and killing
_left_alone: set[asyncio.Task[None]] = set()


class Sender(Protocol):
    async def send(self, line: str) -> None: ...


async def serve_exec(
    stream: asyncio.StreamReader,
    sender: Sender,
    request: dict[str, Any],
    begin: BeginExec,
    execs: ExecList,
) -> None:
    """One exec, from its request to its end. Raises EngineError when it cannot begin."""
    container_id, wanted = container_of(request), _request(request)
    size = request.get("size") and size_of(request["size"])
    detached = bool(request.get("detach"))
    session = await asyncio.to_thread(begin, container_id, wanted)
    if size:
        _resize(session, size)
    row = execs.begin(container_id, session.pid, wanted, detached=detached)
    begun = {"type": "begun", "id": row.id, "pid": row.pid, "host_pid": row.host_pid}
    end = partial(execs.end, row.id)
    if detached:
        _begin_leaving_alone(session, end)
        await tell(sender, begun)
        return
    async with _killed_at_end(session, end) as fate:
        await tell(sender, begun)
        writer = await _writer(session)
        outputs = [asyncio.create_task(_output(fd, name, sender)) for fd, name in _outputs(session)]
        taking = asyncio.create_task(_input(stream, writer, session))
        ending = asyncio.create_task(_exit_code(session))
        tasks: list[asyncio.Task[Any]] = [*outputs, taking, ending]
        try:
            while not ending.done() and not taking.done():
                waiting = [task for task in tasks if not task.done()]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for output in outputs:
                    if output.done():
                        output.result()  # who cannot be told is gone
            if ending.done():
                end(ending.result())
                await asyncio.wait(outputs, timeout=_DRAIN)
                await tell(sender, {"type": "exit", "exit_code": ending.result()})
            elif taking.result():  # or it says what made no sense
                fate.detached = True
                execs.detach(row.id)
                await tell(sender, {"type": "detached"})
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if writer is not None:
                writer.close()


def _request(request: dict[str, Any]) -> ExecRequest:
    for name in ("args", "env"):
        words = request.get(name, [])
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise SpecInvalid(name, f"{name} must be a list of words.")
    return ExecRequest(
        args=tuple(request.get("args", ())),
        env=tuple(request.get("env", ())),
        user=str(request.get("user") or ""),
        cwd=str(request.get("cwd") or ""),
        tty=bool(request.get("tty")),
        stdin=bool(request.get("stdin")),
        privileged=bool(request.get("privileged")),
    )


def _outputs(session: ExecSession) -> list[tuple[int, str]]:
    if session.terminal >= 0:
        return [(session.terminal, "stdout")]
    return [(session.stdout, "stdout"), (session.stderr, "stderr")]


async def tell(sender: Sender, message: dict[str, Any]) -> None:
    """One line to the client. TimeoutError when it takes nothing for long."""
    await sender.send(json.dumps(message, separators=(",", ":")))


async def _output(fd: int, name: str, sender: Sender) -> None:
    """Until its other end is closed; a reader that is slow holds the process back, not our memory."""
    async for data in _blocks(fd):
        encoded = base64.b64encode(data).decode()
        await tell(sender, {"type": "output", "stream": name, "data": encoded})


async def _blocks(fd: int) -> AsyncIterator[bytes]:
    os.set_blocking(fd, False)
    while True:
        await readable(fd)
        try:
            data = os.read(fd, _BLOCK)
        except BlockingIOError:
            continue
        except OSError:
            return  # a terminal whose other side is closed says EIO
        if not data:
            return
        yield data


async def readable(fd: int) -> None:
    """When there is something to read, or its end."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def writable(fd: int) -> None:
    """When it takes something, or nobody reads any more."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(fd)


async def _exit_code(session: ExecSession) -> int:
    await readable(session.fileno())
    return session.wait(1.0)


async def _writer(session: ExecSession) -> asyncio.StreamWriter | None:
    """Where input goes; it owns a descriptor of its own."""
    fd = session.terminal if session.terminal >= 0 else session.stdin
    if fd < 0:
        return None
    loop = asyncio.get_running_loop()
    file = os.fdopen(os.dup(fd), "wb", 0)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, file)
    if session.stdin >= 0:
        os.close(session.stdin)
        session.stdin = -1
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def _input(
    stream: asyncio.StreamReader, writer: asyncio.StreamWriter | None, session: ExecSession
) -> bool:
    """What the client says, until it goes away, or (True) wants the process left alone."""
    while line := await stream.readline():
        message, data = said(line)
        if message.get("detach"):
            return True
        if size := message.get("size"):
            _resize(session, size_of(size))
        if writer is None:
            continue
        # A process that has closed its input, or has ended, takes none: that is not our error.
        with suppress(OSError):
            if data:
                writer.write(data)
                await writer.drain()
            if message.get("end_of_input"):
                writer.close()
    return False


def said(line: bytes) -> tuple[dict[str, Any], bytes]:
    """What a client says in a line, and its input. Raises SpecInvalid."""
    try:
        message = json.loads(line)
        return message, base64.b64decode(message.get("input", ""), validate=True)
    except (ValueError, AttributeError, TypeError):
        raise SpecInvalid("input", "The message makes no sense.") from None


def container_of(request: dict[str, Any]) -> str:
    """Whose process it is about. Raises SpecInvalid."""
    container_id = str(request.get("id", ""))
    if not _ID.fullmatch(container_id):
        raise SpecInvalid("id", "id must be 64 hex digits.")
    return container_id


def size_of(size: Any) -> tuple[int, int]:
    """(rows, columns) of a terminal. Raises SpecInvalid."""
    match size:
        case [int(rows), int(columns)] if 0 < rows < 1 << 16 and 0 < columns < 1 << 16:
            return rows, columns
    raise SpecInvalid("size", "size must be [rows, columns].")


def _resize(session: ExecSession, size: tuple[int, int]) -> None:
    with suppress(OSError):  # no terminal, or none any more
        session.resize(*size)


class _Fate:
    """Of a process whose client goes: killed, unless that has detached."""

    detached = False


@asynccontextmanager
async def _killed_at_end(session: ExecSession, end: End) -> AsyncIterator[_Fate]:
    """Leave no process behind that nobody listens to."""
    fate = _Fate()
    try:
        pidfd = os.pidfd_open(session.pid)
    except ProcessLookupError:
        pidfd = -1  # it has ended already
    try:
        yield fate
    finally:
        try:
            if fate.detached:
                _begin_leaving_alone(session, end)
            else:
                await _kill(session, pidfd)
        finally:
            if not fate.detached:
                end(None)
            if pidfd >= 0:
                os.close(pidfd)


async def _kill(session: ExecSession, pidfd: int) -> None:
    terminal = session.terminal >= 0
    session.close()  # a terminal hangs up by this
    if pidfd < 0:
        return
    if terminal:
        with suppress(TimeoutError):
            await asyncio.wait_for(readable(pidfd), _HANG_UP)
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _begin_leaving_alone(session: ExecSession, end: End) -> None:
    task = asyncio.create_task(_leave_alone(session, end))
    _left_alone.add(task)
    task.add_done_callback(_left_alone.discard)


async def _leave_alone(session: ExecSession, end: End) -> None:
    """Take the output of one that nobody watches, so that it is not held back."""

    async def drop(fd: int) -> None:
        async for _ in _blocks(fd):
            pass

    drops = [asyncio.create_task(drop(fd)) for fd, _ in _outputs(session)]
    try:
        with suppress(EngineError, TimeoutError):
            end(await _exit_code(session))
        await asyncio.gather(*drops)  # what it has begun itself may go on
    finally:
        end(None)
        for task in drops:
            task.cancel()
        await asyncio.gather(*drops, return_exceptions=True)
        session.close()
