"""Asking a platform over REST while its processes die and its calls fail; and what may come of that."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.platform import Api

PATIENCE = 60.0  # seconds for one operation, whatever dies meanwhile
LAG = 6.0  # seconds for the replica to say what is so


class Trouble(Exception):
    """Something that must not be."""


class Failed(Exception):
    """What was asked for failed, and the answer says why."""

    def __init__(self, what: str, error: dict[str, Any] | None) -> None:
        self.error = error or {}
        self.code = str(self.error.get("code", ""))
        super().__init__(f"{what} failed: {self.code}: {self.error.get('message')}")


def is_mistake(failure: Failed) -> bool:
    """An error that nobody foresaw."""
    return failure.code == "internal" or not failure.error.get("message")


@dataclass(frozen=True)
class Blows:
    """What befalls the platform, and so what excuses a failure."""

    kills: bool = False
    faults: bool = False

    def excuse(self, failure: Failed) -> bool:
        if self.faults:
            return not is_mistake(failure)
        gone = ("worker_lost", "launcher_unavailable", "stream_unavailable")
        return self.kills and failure.code in gone


class Asker:
    """`api` as seen by one who goes on asking while web is away."""

    def __init__(self, api: Api, *, name: str, blows: Blows, say: Callable[[str], None]) -> None:
        self.api, self.name, self.blows = api, name, blows
        self.say = say
        self._seen: set[str] = set()  # operations of ours

    def excuse(self, failure: Failed) -> None:
        """Raises Trouble when nothing excuses it."""
        if not self.blows.excuse(failure):
            raise Trouble(f"{self.name}: {failure}")
        self.say(f"{self.name}: excused: {failure}")

    # -- operations ---------------------------------------------------------------------------

    def do(
        self, method: str, path: str, kind: str, target: str, body: Any = None
    ) -> dict[str, Any]:
        """The operation, once it succeeded. Raises Failed, or Trouble when it is refused or has no end."""
        deadline = time.monotonic() + PATIENCE
        identity = self._sent(method, path, kind, target, body)
        self._seen.add(identity)
        while True:
            operation: dict[str, Any] = self.get(f"/operations/{identity}")
            if operation["status"] == "succeeded":
                return operation
            if operation["status"] not in ("pending", "running"):
                what = f"{operation['kind']} of {operation['target_name']}"
                raise Failed(what, operation["error"])
            if time.monotonic() > deadline:
                raise Trouble(
                    f"{kind} of {target[:20]} is {operation['status']} after {PATIENCE} s"
                )
            time.sleep(0.1)

    def _sent(self, method: str, path: str, kind: str, target: str, body: Any) -> str:
        """The id of the operation that was recorded, although web may die while it answers."""
        deadline = time.monotonic() + LAG
        while True:
            try:
                answer = self.api.http.request(method, path, json=body)
            except httpx.HTTPError as error:
                self.broken_off(error)
                if recorded := self._recorded(kind, target):
                    return recorded
                deadline = time.monotonic() + LAG
                continue
            if answer.status_code == 202:
                return str(answer.json()["id"])
            # What the replica does not say yet is refused; it has a moment to say it.
            if answer.status_code != 409 or time.monotonic() > deadline:
                raise Trouble(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
            time.sleep(0.2)

    def _recorded(self, kind: str, target: str) -> str:
        """An operation of this kind that we asked for without hearing of it."""
        if kind in ("container.create", "network.create"):
            thing = self.find(target, f"{kind.partition('.')[0]}s")
            if thing is None:
                return ""
            target = thing["id"]
        for operation in self.get(f"/operations?target={target}"):
            if operation["kind"] == kind and operation["via"] != "system":
                return "" if operation["id"] in self._seen else str(operation["id"])
        return ""

    # -- answers ------------------------------------------------------------------------------

    def answer(
        self,
        method: str,
        path: str,
        *,
        expected: str | None = None,
        streams: bool = False,
        **request: Any,
    ) -> httpx.Response | None:
        """Of what is answered at once; None when it broke off, or was refused for what befalls the platform.

        `expected` is the code of an error that is in order, "" for every one but a mistake; what `streams` can
        tell a call that fails in its middle by breaking off alone. Raises Trouble when it was refused without
        an excuse.
        """
        try:
            answer = self.api.http.request(method, path, **request)
        except httpx.HTTPError as error:
            if streams and self.blows.faults and isinstance(error, httpx.RemoteProtocolError):
                self.say(f"{self.name}: excused: {path[:30]} broke off: {error}")
                self.wait_for_web()
                return None
            self.broken_off(error)
            return None
        if answer.is_success:
            return answer
        failure = Failed(f"{method} {path[:30]} ({answer.status_code})", answer.json())
        if expected is None or failure.code != (expected or failure.code) or is_mistake(failure):
            self.excuse(failure)
        return None

    def timed_out(self, method: str, path: str, **request: Any) -> httpx.Response | None:
        """As `answer`, of what is to take too long: None as well when that is what is answered."""
        return self.answer(method, path, expected="timeout", **request)

    def last_words(self, method: str, path: str, **request: Any) -> httpx.Response | None:
        """As `answer`, of what ends the very thing that answers: any error is in order that somebody foresaw."""
        return self.answer(method, path, expected="", **request)

    def find(self, key: str, what: str = "containers") -> dict[str, Any] | None:
        """The row by name or id; None when there is none."""
        while True:
            try:
                answer = self.api.http.get(f"/{what}/{key}")
            except httpx.HTTPError as error:
                self.broken_off(error)
                continue
            if answer.status_code == 404:
                return None
            if not answer.is_success:
                raise Trouble(f"{what}/{key}: {answer.status_code} {answer.text[:500]}")
            row: dict[str, Any] = answer.json()
            return row

    def get(self, path: str) -> Any:
        while True:
            try:
                return self.api.get(path)
            except httpx.HTTPError as error:
                self.broken_off(error)

    def broken_off(self, error: Exception) -> None:
        """Web was killed just now: wait until it is back. Raises Trouble when nobody kills it."""
        if not self.blows.kills:
            raise Trouble(f"web broke off: {type(error).__name__}: {error}") from None
        self.wait_for_web()

    def wait_for_web(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.api.get("/operations?limit=1")
                return
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise Trouble("web does not come back") from None
                time.sleep(0.1)
