"""Talk to the monitor of a running container."""

from __future__ import annotations

import json
import socket
from typing import Any

from runtime.errors import NotFound, ShimLost, from_payload
from runtime.model.codec import from_json
from runtime.model.state import ExitRecord, RunState
from runtime.store.paths import Config

_TIMEOUT = 10.0  # seconds for what is answered at once


class ShimClient:
    """One connection per request. Raises NotFound when there is no monitor, ShimLost when it goes away."""

    def __init__(self, config: Config, container_id: str) -> None:
        self._id = container_id
        self._path = str(config.container_run(container_id) / "shim.sock")

    def stop(self, signal: int | None = None, timeout: float | None = None) -> ExitRecord:
        """Signal, wait `timeout` seconds (None: the container's own), kill. Returns when it is gone."""
        result = self._request({"op": "stop", "signal": signal, "timeout": timeout}, None)
        return from_json(ExitRecord, result)

    def kill(self, signal: int) -> None:
        self._request({"op": "kill", "signal": signal})

    def pause(self) -> None:
        self._request({"op": "pause"})

    def unpause(self) -> None:
        self._request({"op": "unpause"})

    def wait(self, timeout: float | None = None) -> ExitRecord | None:
        """The final exit, or None when `timeout` seconds pass first."""
        try:
            return from_json(ExitRecord, self._request({"op": "wait"}, timeout))
        except TimeoutError:
            return None

    def update(self, **values: Any) -> None:
        """restart={"name", "max_retries"}, stop_timeout (s), stop_signal (number)."""
        self._request({"op": "update", **values})

    def state(self) -> RunState:
        return from_json(RunState, self._request({"op": "state"}))

    def _request(self, message: dict[str, Any], timeout: float | None = _TIMEOUT) -> Any:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(timeout)
            try:
                channel.connect(self._path)
            except (FileNotFoundError, ConnectionRefusedError) as error:
                raise NotFound(
                    f"Container {self._id[:12]} has no running monitor.", id=self._id
                ) from error
            try:
                channel.sendall(json.dumps(message).encode() + b"\n")
                line = channel.makefile("rb").readline()
            except TimeoutError:
                raise
            except OSError as error:
                raise self._lost() from error
        if not line:
            raise self._lost()
        answer = json.loads(line)
        if not answer["ok"]:
            raise from_payload(answer["error"])
        return answer["result"]

    def _lost(self) -> ShimLost:
        return ShimLost(f"The monitor of container {self._id[:12]} went away.", id=self._id)
