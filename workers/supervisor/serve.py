"""`python -m workers.supervisor.serve`: the web process, on a socket that the supervisor opened.

The socket outlives a crash of this process: while it is started anew, connections wait instead of being
refused. It also lets an unprivileged process answer on a port below 1024.
"""

from __future__ import annotations

import os
import socket

import uvicorn
from django.urls import get_resolver

from workers.memory import keep_what_is_loaded
from workers.supervisor.processes import LISTEN_FD, READY_FD


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Views as well, which Django would load at the first request: that takes 0.2 s.
        _ = get_resolver().url_patterns
        keep_what_is_loaded()
        await super().startup(sockets)
        fd = os.environ.pop(READY_FD, "")
        if fd and self.started:
            os.write(int(fd), b"1")
            os.close(int(fd))


def main() -> None:
    listener = socket.socket(fileno=int(os.environ.pop(LISTEN_FD)))
    config = uvicorn.Config(
        "webui.asgi:application",
        lifespan="off",
        # The access log belongs to whoever stands in front; errors are logged by Django.
        access_log=False,
        log_level="warning",
        ws_ping_interval=20.0,
        # As long as other servers keep one: a script's pause between two requests is no reason to hang up.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
        server_header=False,
    )
    _Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
