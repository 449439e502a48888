"""A container's own process, over the stream socket: its output out, its input in, any number of clients.

    {"op": "attach", "id", "stdin"?, "tail"?: lines of output from before, "size"?: [rows, columns]}
    {"op": "resize", "id", "size": [rows, columns]}

Answers: {"type": "begun", "tty", "stdin"} (whether there is a terminal, and whether input reaches the process),
{"type": "output", "stream": "stdout" | "stderr", "data": base64}, {"type": "skipped", "bytes"} where the
client was too slow, {"type": "exit", "exit_code", "restarting"} when this life of the container ends.
Meanwhile the client may send what one of an exec may. Its going ends nothing.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from runtime.errors import SpecInvalid
from runtime.shim.attach_session import AttachSession, Output
from runtime.store.log_tail import output_tail
from workers.watcher.exec_stream import Sender, container_of, readable, said, size_of, tell

MAX_TAIL = 10_000  # lines
_BLOCK = 64 * 1024  # bytes of output at once
_END = 5.0  # seconds for the monitor to say how it ended, once its output has


class Attaching(Protocol):
    """What an engine can."""

    def attach(self, container_id: str, *, stdin: bool = False) -> AttachSession: ...

    def resize(self, container_id: str, rows: int, columns: int) -> None: ...


async def serve_resize(sender: Sender, request: dict[str, Any], engine: Attaching) -> None:
    """Raises EngineError when it cannot be done."""
    rows, columns = size_of(request.get("size"))
    await asyncio.to_thread(engine.resize, container_of(request), rows, columns)
    await tell(sender, {"type": "resized"})


async def serve_attach(
    stream: asyncio.StreamReader,
    sender: Sender,
    request: dict[str, Any],
    engine: Attaching,
    logs_dir: Callable[[str], Path],
) -> None:
    """One client, until it goes or the container's process ends. Raises EngineError when it cannot begin."""
    container_id, tail = container_of(request), request.get("tail") or 0
    if not isinstance(tail, int) or not 0 <= tail <= MAX_TAIL:
        raise SpecInvalid("tail", f"tail must be a number of lines up to {MAX_TAIL}.")
    size = request.get("size") and size_of(request["size"])
    attach = engine.attach
    session = await asyncio.to_thread(attach, container_id, stdin=bool(request.get("stdin")))
    with session:
        session.setblocking(False)
        if size and session.stdin:
            session.resize(*size)
        await tell(sender, {"type": "begun", "tty": session.terminal, "stdin": session.stdin})
        if tail:
            await _replay(sender, session, logs_dir(container_id), tail)
        output = asyncio.create_task(_output(session, sender))
        tasks = [output, asyncio.create_task(_input(stream, session))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not output.done():
                tasks[1].result()  # says what made no sense
                return
            output.result()  # who cannot be told is gone
            end = await asyncio.to_thread(session.end, _END)
            if end.skipped:
                await tell(sender, {"type": "skipped", "bytes": end.skipped})
            message = {"exit_code": end.exit.code, "restarting": end.restarting}
            await tell(sender, {"type": "exit", **message})
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _replay(sender: Sender, session: AttachSession, directory: Path, lines: int) -> None:
    """What its log has from before; the session has what comes after."""
    read = output_tail
    for stream, data in await asyncio.to_thread(read, directory, until=session.since, lines=lines):
        await _tell_output(sender, Output(stream, data))


async def _output(session: AttachSession, sender: Sender) -> None:
    """Until the end. A client that is slow holds up nobody: the monitor skips what has no room."""
    while True:
        await readable(session.fileno())
        outputs, ended = _available(session)
        for output in outputs:
            await _tell_output(sender, output)
        if ended:
            return


def _available(session: AttachSession) -> tuple[list[Output], bool]:
    """What there is now, or a block of it, neighbours of one stream as one; and whether that was the end."""
    found: list[Output] = []
    size = 0
    while size < _BLOCK:
        try:
            output = session.read()
        except BlockingIOError:
            return found, False
        if output is None:
            return found, True
        size += len(output.data)
        if found and found[-1].stream == output.stream != "":
            found[-1] = Output(output.stream, found[-1].data + output.data)
        else:
            found.append(output)
    return found, False


async def _tell_output(sender: Sender, output: Output) -> None:
    if output.skipped:
        await tell(sender, {"type": "skipped", "bytes": output.skipped})
        return
    encoded = base64.b64encode(output.data).decode()
    await tell(sender, {"type": "output", "stream": output.stream, "data": encoded})


async def _input(stream: asyncio.StreamReader, session: AttachSession) -> None:
    """What the client says, until it goes away."""
    while line := await stream.readline():
        message, data = said(line)
        size = message.get("size") and size_of(message["size"])
        if not session.stdin:
            continue
        with suppress(ConnectionError):  # it has ended, as the output will say
            if size:
                await _when_writable(session, partial(session.resize, *size))
            while data:
                written = await _when_writable(session, partial(session.write, data))
                data = data[written:]
            if message.get("end_of_input"):
                await _when_writable(session, session.end_input)


async def _when_writable(session: AttachSession, send: Callable[[], Any]) -> Any:
    """A container that reads nothing makes its client wait, and nobody else."""
    while True:
        try:
            return send()
        except BlockingIOError:
            await _writable(session.fileno())


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_writer(fd)
