"""The shim's control socket: one JSON object per line, answered by one, in any order of asking.

Request: {"op": name, …}. Answer: {"ok": true, "result": …} or {"ok": false, "error": EngineError payload}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from runtime.errors import EngineError, SpecInvalid
from runtime.shim import sockets

_MAX_REQUEST = 1 << 20


class Client:
    def __init__(self, channel: sockets.Socket) -> None:
        self.channel = channel
        self.buffer = b""
        channel.setblocking(False)

    def fileno(self) -> int:
        return self.channel.fileno()

    def requests(self) -> list[dict[str, Any]] | None:
        """Complete requests that have arrived; None when the client is gone or talks nonsense."""
        try:
            data = self.channel.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data or len(self.buffer) + len(data) > _MAX_REQUEST:
            return None
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        try:
            found = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            return None
        return found if all(isinstance(f, dict) for f in found) else None

    def answer(self, result: Any) -> None:
        self._send({"ok": True, "result": result})

    def answer_with(self, result: Any, fds: list[int]) -> None:
        """As `answer`, with descriptors. Raises OSError when the client has gone."""
        data = json.dumps({"ok": True, "result": result}).encode() + b"\n"
        sockets.send_fds(self.channel, data, fds)

    def refuse(self, error: EngineError) -> None:
        self._send({"ok": False, "error": error.payload()})

    def _send(self, message: dict[str, Any]) -> None:
        # Answers are far below a socket's buffer; a client that reads none of them is not waited for.
        try:
            self.channel.send(json.dumps(message).encode() + b"\n")
        except OSError:
            pass


def path_of(plan: Mapping[str, Any]) -> str:
    return f"{plan['run_dir']}/shim.sock"


class ControlSocket:
    """Listens at `path`, root only; `listener` is the descriptor of one that does already."""

    def __init__(self, path: str, listener: int = -1) -> None:
        self._path = path
        self.clients: dict[int, Client] = {}
        if listener >= 0:
            self.listener = sockets.adopt(listener)
            self.listener.setblocking(False)
            return
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        mask = os.umask(0o177)
        try:
            self.listener = sockets.listen(path)
        finally:
            os.umask(mask)

    def accept(self) -> Client | None:
        try:
            channel = sockets.accept(self.listener)
        except OSError:
            return None
        client = Client(channel)
        self.clients[client.fileno()] = client
        return client

    def drop(self, client: Client) -> None:
        self.clients.pop(client.fileno(), None)
        client.channel.close()

    def retire(self) -> None:
        """No new clients; those who wait are still answered."""
        try:
            os.unlink(self._path)
        except OSError:
            pass  # gone with its directory, or the engine's cleanup tries again
        self.listener.close()

    def close(self) -> None:
        for client in list(self.clients.values()):
            self.drop(client)


def dispatch(
    client: Client, request: dict[str, Any], handlers: dict[str, Callable[..., None]]
) -> None:
    """Call the handler of request["op"] with the client and the request; refuse what it raises."""
    handler = handlers.get(str(request.get("op")))
    try:
        if handler is None:
            raise SpecInvalid("op", f"The monitor knows no {request.get('op')!r}.")
        handler(client, request)
    except EngineError as error:
        client.refuse(error)
    except Exception as error:  # noqa: BLE001 - whatever is asked, the container goes on
        client.refuse(EngineError(f"The monitor failed: {type(error).__name__}: {error}"))
