"""A container's own process, over a websocket: `docker attach`.

Binary messages are what is typed and what it writes. Text is JSON, from the browser {"size": [rows, columns]} and
{"end_of_input": true}; to it first {"tty", "stdin"} (whether there is a terminal, and whether what is
typed reaches the process), {"skipped"}: bytes that came too fast, and at the end {"exit_code", "restarting"},
{"detached": true} or {"code", "message", "hint"}.

The query takes what Docker's does: stdin, stdout and stderr (1, or 0 to do without), logs (1: with the end of the
log first; or so many lines), detach_keys; and rows and columns.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from asgiref.sync import sync_to_async

from runtime.errors import SpecInvalid
from webui.accounts.models import User
from webui.containers.execs import attach_record
from webui.containers.models import Container
from webui.containers.selectors import container_find
from webui.live.consumer import UNAUTHENTICATED
from webui.live.detach_keys import DetachKeys, parse_detach_keys
from webui.live.exec_client import Exec, attach
from webui.live.terminal import LONGEST, NORMAL, TerminalConsumer

LINES = 1000  # of the log, with logs=1
_MOST = 10_000


class AttachConsumer(TerminalConsumer):
    """An ASGI application for one client; the process goes on when it goes. Viewers may look."""

    for_viewers = True

    async def _serve(self, user: User) -> int:
        key = self._scope["url_route"]["kwargs"]["key"]
        keys = parse_detach_keys(self._asked.get("detach_keys", ""))
        stdin = self._flag("stdin") and user.may_operate
        streams = {name for name in ("stdout", "stderr") if self._flag(name)}
        asked: dict[str, Any] = {"stdin": stdin, "tail": self._tail()}
        if "rows" in self._asked:
            asked["size"] = self._size()
        container = await sync_to_async(_allowed)(key, user, stdin)
        async with attach(container.pk, **asked) as process:
            tty = process.begun["tty"]
            await self._tell({"tty": tty, "stdin": process.begun["stdin"]})
            # Without a terminal the keys may be bytes of a file: only who asks for them gets them.
            given = tty or "detach_keys" in self._asked
            detaching = DetachKeys(keys) if given else None
            showing = asyncio.create_task(self._show_all(process, streams))
            typing = asyncio.create_task(self._type_or_detach(process, detaching))
            rechecking = asyncio.create_task(self._recheck())
            tasks: list[asyncio.Task[Any]] = [showing, typing, rechecking]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if showing.done():
                    await self._tell(showing.result())
                elif typing.done():
                    if typing.result():
                        await self._tell({"detached": True})
                else:
                    return UNAUTHENTICATED
                return NORMAL
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _show_all(self, process: Exec, streams: set[str]) -> dict[str, Any]:
        """Until it ends; returns how."""
        while (message := await process.message())["type"] != "exit":
            if message["type"] == "skipped":
                await self._tell({"skipped": message["bytes"]})
            elif message["stream"] in streams:
                data = base64.b64decode(message["data"])
                await self._send({"type": "websocket.send", "bytes": data})
        return {"exit_code": message["exit_code"], "restarting": message["restarting"]}

    async def _type_or_detach(self, process: Exec, keys: DetachKeys | None) -> bool:
        """Until the browser goes away, says what makes no sense, or (True) detaches."""
        while (event := await self._receive())["type"] != "websocket.disconnect":
            if data := event.get("bytes"):
                if len(data) > LONGEST:
                    return False
                detached = False
                if keys is not None:
                    data, detached = keys.feed(data)
                await process.write(data)
                if detached:
                    return True
                continue
            try:
                said = json.loads(event.get("text") or "{}")
                if said.get("end_of_input"):
                    await process.end_input()
                else:
                    rows, columns = said["size"]
                    await process.resize(int(rows), int(columns))
            except (ValueError, KeyError, TypeError, AttributeError):
                return False
        return False

    def _flag(self, name: str) -> bool:
        return self._asked.get(name, "1").lower() not in ("0", "false")

    def _tail(self) -> int:
        text = self._asked.get("logs", "0").lower()
        if text in ("1", "true"):
            return LINES
        if text == "false":
            return 0
        if not text.isdecimal() or int(text) > _MOST:
            raise SpecInvalid("logs", f"logs must be 1, or a number of lines up to {_MOST}.")
        return int(text)


def _allowed(key: str, user: User, stdin: bool) -> Container:
    container = container_find(key)
    attach_record(container=container, user=user, stdin=stdin, via="ui")
    return container
