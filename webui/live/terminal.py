"""A terminal in a container, over a websocket of its own.

Binary messages are what is typed and what is shown. Text is JSON: {"size": [rows, columns]} from the
browser; {"exit_code"}, {"detached": true} or {"code", "message", "hint"} to it, and then the end. The command, its
user and the first size are in the query: ?command=…&user=…&rows=…&columns=…; and perhaps detach_keys, as
`docker exec --detach-keys` has them, after which the command goes on alone.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from asgiref.sync import sync_to_async

from runtime.errors import EngineError, SpecInvalid
from webui.accounts.models import User
from webui.containers.execs import exec_record
from webui.containers.models import Container
from webui.containers.selectors import container_find
from webui.live.consumer import RECHECK, UNAUTHENTICATED, Receive, Send, session_holds
from webui.live.detach_keys import DetachKeys, parse_detach_keys
from webui.live.exec_client import Exec, begin_exec

NORMAL, REFUSED = 1000, 4403  # close codes
LONGEST = 1 << 16  # bytes a browser may send at once


class TerminalConsumer:
    """An ASGI application for one terminal; the process ends with the connection."""

    for_viewers = False

    @classmethod
    def as_asgi(cls) -> Callable[[dict[str, Any], Receive, Send], Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await cls(scope, receive, send).run()

        return application

    def __init__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        self._asked = {name: values[0] for name, values in query.items()}

    async def run(self) -> None:
        """Serve the connection until the process or the browser ends."""
        await self._receive()  # websocket.connect
        # Accepted first: only then does the browser get to see why not.
        await self._send({"type": "websocket.accept"})
        code = NORMAL
        user = self._scope.get("user")
        try:
            if not isinstance(user, User):
                code = UNAUTHENTICATED
            elif not (user.may_operate or self.for_viewers):
                code = REFUSED
                await self._tell(
                    {"code": "forbidden", "message": "Your role may look, not run commands."}
                )
            else:
                code = await self._serve(user)
        except EngineError as error:
            await self._tell(error.payload())
        except OSError:
            return  # the browser went away in the middle of a message
        with suppress(OSError, RuntimeError):
            await self._send({"type": "websocket.close", "code": code})

    async def _serve(self, user: User) -> int:
        """Returns the close code. Raises EngineError when the process cannot begin, or is lost."""
        words = _words(self._asked.get("command") or "/bin/sh")
        run_as = self._asked.get("user", "")
        keys = None
        if "detach_keys" in self._asked:
            keys = DetachKeys(parse_detach_keys(self._asked["detach_keys"]))
        key = self._scope["url_route"]["kwargs"]["key"]
        container = await sync_to_async(_allowed)(key, user, words, run_as)
        asked = {"args": words, "user": run_as, "tty": True, "stdin": True, "size": self._size()}
        async with begin_exec(container.pk, env=["TERM=xterm-256color"], **asked) as process:
            showing = asyncio.create_task(self._show(process))
            others = [
                asyncio.create_task(self._type(process, keys)),
                asyncio.create_task(self._recheck()),
            ]
            try:
                await asyncio.wait([showing, *others], return_when=asyncio.FIRST_COMPLETED)
                if showing.done():
                    showing.result()
                    ended = {"exit_code": process.exit_code}
                    await self._tell({"detached": True} if process.detached else ended)
                    return NORMAL
                return UNAUTHENTICATED if others[1].done() else NORMAL
            finally:
                for task in (showing, *others):
                    task.cancel()
                await asyncio.gather(showing, *others, return_exceptions=True)

    def _size(self) -> list[int]:
        try:
            return [int(self._asked.get("rows", 24)), int(self._asked.get("columns", 80))]
        except ValueError:
            raise SpecInvalid("rows", "rows and columns must be numbers.") from None

    async def _show(self, process: Exec) -> None:
        async for _, data in process.output():
            await self._send({"type": "websocket.send", "bytes": data})

    async def _type(self, process: Exec, keys: DetachKeys | None) -> None:
        """Until the browser goes away, or says what makes no sense."""
        while (event := await self._receive())["type"] != "websocket.disconnect":
            if data := event.get("bytes"):
                if len(data) > LONGEST:
                    return
                detached = False
                if keys is not None:
                    data, detached = keys.feed(data)
                await process.write(data)
                if detached:
                    await process.detach()  # answered, which ends the connection
                continue
            try:
                rows, columns = json.loads(event.get("text") or "{}")["size"]
                await process.resize(int(rows), int(columns))
            except (ValueError, KeyError, TypeError):
                return

    async def _recheck(self) -> None:
        """Until the user has signed out."""
        while True:
            await asyncio.sleep(RECHECK)
            if not await session_holds(self._scope):
                return

    async def _tell(self, message: dict[str, Any]) -> None:
        with suppress(OSError, RuntimeError):
            await self._send({"type": "websocket.send", "text": json.dumps(message)})


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise SpecInvalid("command", f"The command cannot be split into words: {error}.") from None


def _allowed(key: str, user: User, words: list[str], run_as: str) -> Container:
    container = container_find(key)
    exec_record(container=container, user=user, command=words, run_as=run_as, via="ui")
    return container
