"""HTTP to a registry: every wait has an end, every failure is told in our words, and another thread can
end whatever is under way.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import httpx

from runtime.errors import RegistryUnavailable

_CONNECT = 5.0  # seconds
_SLOWEST = 1024  # bytes per second, over a window of three silences


class Transport:
    """Use with `with`; safe in several threads. `silence` is the longest wait for a byte in seconds, not
    the longest download.
    """

    def __init__(self, name: str, *, silence: float | None = None) -> None:
        self.name = name
        self._silence = silence or float(os.environ.get("SLIPWAY_REGISTRY_TIMEOUT", 20.0))
        self._http = httpx.Client(
            timeout=httpx.Timeout(self._silence, connect=min(self._silence, _CONNECT)),
            # A blob is often at another host; httpx then drops the Authorization header.
            follow_redirects=True,
            headers={"User-Agent": "slipway"},
            verify=_trust(),
        )
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._aborted = False

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def abort(self) -> None:
        """Break every connection: whoever waits on one gets RegistryUnavailable at once."""
        with self._lock:
            self._aborted = True
            for connection in self._sockets:
                _break(connection)

    @contextmanager
    def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        """The answer to a GET, its body still to be read. Raises RegistryUnavailable."""
        try:
            request = self._http.build_request(
                "GET", url, headers=headers, params=parameters, extensions={"trace": self._trace}
            )
            answer = self._http.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unavailable(error) from error
        try:
            yield answer
        finally:
            answer.close()

    def body(self, answer: httpx.Response, *, raw: bool) -> Iterator[bytes]:
        """What an answer holds, as it comes; `raw` undoes no Content-Encoding, for digests of packed bytes.

        Raises RegistryUnavailable, also when it comes too slowly ever to end.
        """
        window = 3 * self._silence
        since, arrived = time.monotonic(), 0
        chunks = answer.iter_raw() if raw else answer.iter_bytes()
        try:
            for chunk in chunks:
                yield chunk
                arrived += len(chunk)
                if (passed := time.monotonic() - since) > window:
                    if arrived < passed * _SLOWEST:
                        raise self._given_up("sends next to nothing")
                    since, arrived = time.monotonic(), 0
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error

    def small_body(self, answer: httpx.Response, limit: int) -> bytes:
        """A body that must fit into memory. Raises RegistryUnavailable."""
        data = b""
        for chunk in self.body(answer, raw=False):
            data += chunk
            if len(data) > limit:
                raise self._given_up(f"sent more than {limit >> 20} MiB where a document should be")
        return data

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        # httpcore's own events: the only place where a connection shows before its first answer.
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            connection = info["return_value"].get_extra_info("socket")
            with self._lock:
                self._sockets.append(connection)
                if self._aborted:
                    _break(connection)

    def _given_up(self, why: str) -> RegistryUnavailable:
        failure = RegistryUnavailable(
            f"{self.name} {why}.",
            hint="Check its name and this host's way there, then try again.",
            field="reference",
        )
        # It has had its time; trying again at once would only take as long again.
        failure.retryable = False
        return failure

    def _unavailable(self, error: Exception) -> RegistryUnavailable:
        if isinstance(error, httpx.TimeoutException):
            return self._given_up("does not answer")
        text = str(error) or type(error).__name__
        if isinstance(error, httpx.ConnectError) and "SSL" in text:
            # What OpenSSL says of an answer in plain text.
            plain = "WRONG_VERSION_NUMBER" in text
            failure = RegistryUnavailable(
                f"{self.name} answers without TLS."
                if plain
                else f"{self.name} does not speak TLS as it should: {text}.",
                hint="For one that speaks plain HTTP add it to the registries (Admin, Registries) "
                "and allow plain HTTP.",
                field="reference",
            )
            failure.retryable = False
            return failure
        return RegistryUnavailable(
            f"{self.name} cannot be reached: {text}.",
            hint="Check its name and this host's way there.",
            field="reference",
        )


def _trust() -> ssl.SSLContext:
    """The authorities that come with httpx, and the host's: a registry of one's own may be vouched for by
    an authority of one's own.
    """
    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context


def _break(connection: socket.socket) -> None:
    with suppress(OSError):
        # Not close(): the thread that waits on it owns the descriptor.
        connection.shutdown(socket.SHUT_RDWR)
