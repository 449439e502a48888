"""Request bodies: small ones whole and with a limit, uploads as they come in.

Django's ASGI handler writes every body to a temporary file before anything else looks at the request.
An archive has gigabytes, and whoever sends one may not even be signed in; so the body of an upload is handed
on unread, and the view pulls it through while it writes.
"""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_started
from django.db import close_old_connections, reset_queries
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from webui.core import errors
from webui.core.threads import request_thread

Scope = dict[str, Any]


class BodyHandler(ASGIHandler):
    """Django's ASGI handler with a limit for bodies, except uploads.

    The middleware and the view run in the request's thread, in one go. Django would go to the thread and
    back for each hook of each middleware, which takes longer than what they do.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

        # Django goes to the request's thread for these alone, before it goes there for the request.
        for receiver in (reset_queries, close_old_connections):
            request_started.disconnect(receiver)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self._respond, thread_sensitive=True)(request)

    def _respond(self, request: HttpRequest) -> HttpResponseBase:
        reset_queries()
        close_old_connections()
        return self.get_response(request)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = UploadBody(receive) if is_upload(scope) else receive
        try:
            async with request_thread():
                await self.handle(scope, body, send)
        except errors.TooLarge as error:
            await _refuse(error, send)

    async def read_body(self, receive: Any) -> Any:
        """A file with the body. Raises RequestAborted, and TooLarge."""
        if isinstance(receive, UploadBody):
            return receive
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestAborted
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
                limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE >> 20
                raise errors.TooLarge(f"A request may have {limit} MiB at most.")
            more = message.get("more_body", False)
        return io.BytesIO(b"".join(parts))


def is_upload(scope: Scope) -> bool:
    """A form with files, or a stream, for a path that takes them; anything else is small."""
    if scope["method"] == "PUT" and settings.STREAM_PATHS.fullmatch(scope["path"]):
        return True
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return scope["path"] in settings.UPLOAD_PATHS and any(
        kind.lower().startswith(b"multipart/form-data") for kind in kinds
    )


async def _refuse(error: errors.TooLarge, send: Any) -> None:
    """The body is being read, so nothing has been answered yet, and no view is there to do it."""
    body = json.dumps(errors.body(error.payload())).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def upload_of(request: HttpRequest) -> UploadBody:
    """The body of an upload, which nobody has read yet."""
    body = request._stream
    assert isinstance(body, UploadBody), "settings.STREAM_PATHS does not name this path"
    return body


class UploadBody:
    """The body of one request: a file to the view's thread, blocks to a coroutine, and to the handler its `receive`.

    The server holds back a sender that is faster than the reader, so nothing piles up.
    """

    def __init__(self, receive: Any) -> None:
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._read = asyncio.Event()
        self._rest = b""
        self._more = True

    async def __call__(self) -> Any:
        """The message after the body, which is when the client goes away."""
        await self._read.wait()
        return await self._receive()

    def read(self, size: int | None = -1) -> bytes:
        """At most `size` bytes, b"" at the end. Raises OSError when the client has gone."""
        wanted = -1 if size is None else size
        parts = [self._rest]
        have = len(self._rest)
        while self._more and (wanted < 0 or not have):
            chunk = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            parts.append(chunk)
            have += len(chunk)
        whole = b"".join(parts)
        wanted = len(whole) if wanted < 0 else wanted
        self._rest = whole[wanted:]
        return whole[:wanted]

    def readline(self, size: int | None = -1) -> bytes:
        """One line: Django empties a body that nobody has read to its end line by line."""
        limit = 1 << 16 if size is None or size < 0 else size
        block = self.read(limit)
        end = block.find(b"\n") + 1
        if end:
            self._rest = block[end:] + self._rest
            return block[:end]
        return block

    async def block(self) -> bytes:
        """The next bytes, b"" at the end. Raises OSError when the client has gone.

        Called in a loop of the view's: that of the server alone may wait for what comes.
        """
        while self._more:
            coming = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            if data := await asyncio.wrap_future(coming):
                return data
        return b""

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._more = False
            self._receive = _gone
            self._read.set()
            raise ConnectionResetError("The upload broke off.")
        self._more = message.get("more_body", False)
        if not self._more:
            self._read.set()
        return bytes(message.get("body", b""))

    def close(self) -> None:
        """What was not read is the server's to drop."""


async def _gone() -> Any:
    return {"type": "http.disconnect"}
