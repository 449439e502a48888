"""Further processes in a running container."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from runtime.engine.lifecycle import require
from runtime.engine.observe import Observer
from runtime.engine.planning import held_capabilities
from runtime.errors import BadState, NotFound, SpecInvalid, error_context
from runtime.model.state import Status
from runtime.shim.client import ExecSession, ShimClient
from runtime.store.bundles import BundleStore
from runtime.store.paths import Config

_VARIABLE = re.compile(r"[^=\0]+=[^\0]*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """What `docker exec` can say; what is empty is as the container's own process has it."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()  # "NAME=value", over the container's own
    user: str = ""  # as in a container's specification; resolved inside
    cwd: str = ""
    tty: bool = False
    stdin: bool = False
    privileged: bool = False  # every capability that this host's root has


class Execs:
    def __init__(self, config: Config, bundles: BundleStore, observer: Observer) -> None:
        self._config = config
        self._bundles = bundles
        self._observer = observer

    def start(self, container_id: str, request: ExecRequest) -> ExecSession:
        """Begin it and return its descriptors; it has been executed then.

        Raises SpecInvalid with the field, NotFound, BadState unless the container runs, and InitFailed with
        exit code 127 (no such command), 126 (cannot be executed) or 125.
        """
        _check(request)
        with error_context("exec", id=container_id):
            observed = self._observer.observe(container_id)
            require(observed, "exec")
            options: dict[str, object] = {"env": list(request.env), "tty": request.tty}
            options["stdin"] = request.stdin
            if request.user:
                # Its supplementary groups are the other user's.
                options |= {"user": request.user, "groups": []}
            if request.cwd:
                options["cwd"] = request.cwd
            if request.privileged:
                spec = self._bundles.spec(container_id)
                every = dataclasses.replace(spec.security, privileged=True)
                options["capabilities"] = held_capabilities(
                    dataclasses.replace(spec, security=every)
                )
            try:
                return ShimClient(self._config, container_id).exec(request.args, **options)
            except NotFound:
                # It has ended between the two looks.
                raise BadState("exec", Status.EXITED, Status.EXITED.actions) from None


def _check(request: ExecRequest) -> None:
    if not request.args or not request.args[0]:
        raise SpecInvalid("command", "Name a command.")
    for word in request.args:
        if "\0" in word:
            raise SpecInvalid("command", "A command holds no NUL.")
    for variable in request.env:
        if not _VARIABLE.fullmatch(variable):
            raise SpecInvalid("env", f"{variable!r} is not NAME=value.")
    if request.cwd and (not request.cwd.startswith("/") or "\0" in request.cwd):
        raise SpecInvalid("workdir", f"{request.cwd!r} is not an absolute path.")
