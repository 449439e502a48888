"""Every error that leaves the runtime, as one tree.

    EngineError                     code             meaning
    ├── SpecInvalid                 spec_invalid     a field of a request is wrong; `field` names it
    ├── NotFound                    not_found        the object does not exist (proof of absence, not a guess)
    ├── Conflict                    conflict         the request clashes with something that exists
    │   ├── AlreadyExists           already_exists
    │   ├── PortInUse               port_in_use
    │   ├── AddressInUse            address_in_use
    │   ├── VolumeInUse             volume_in_use
    │   ├── NetworkInUse            network_in_use
    │   └── ImageInUse              image_in_use
    ├── BadState                    bad_state        not allowed in this status; `allowed` says what is
    ├── Unsupported                 unsupported      this host cannot do it; `requires` says what it lacks
    ├── RegistryError               registry_error
    │   ├── RegistryUnavailable     registry_unavailable
    │   ├── AuthFailed              auth_failed
    │   └── DigestMismatch          digest_mismatch
    ├── ArchiveInvalid              archive_invalid  an image archive or layer is corrupt or unsafe
    ├── StorageFull                 storage_full     no space or no inodes left on the data root
    ├── KernelFailure               kernel_failure   a system call failed: syscall, errno, path
    ├── NetlinkFailure              netlink_failure
    ├── FirewallFailure             firewall_failure
    ├── InitFailed                  init_failed      the container's first process could not start; stage, exit_code
    ├── ShimLost                    shim_lost        the monitor of a container died
    ├── LauncherUnavailable         launcher_unavailable
    ├── LockTimeout                 lock_timeout
    ├── Cancelled                   cancelled        somebody cancelled the operation
    └── CreateFailed                create_failed    `error` and, beside it, the cleanup errors

`code` is stable: clients may match on it. HTTP numbers live in webui.core.errors alone.
"""

from __future__ import annotations

import errno as errno_names
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class EngineError(Exception):
    """Base of all; `str(error)` is one sentence for people, `hint` says the way out.

    `extra` holds JSON values only and travels with the error through operations and REST.
    """

    code = "engine_error"
    retryable = False

    def __init__(self, message: str, *, hint: str = "", **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.extra: dict[str, Any] = extra

    def payload(self) -> dict[str, Any]:
        """The error as JSON: {code, message, hint, retryable, extra}."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
            "extra": self.extra,
        }


class SpecInvalid(EngineError):
    """`field` is the dotted path in the request: "limits.memory", "ports[0].host_port"."""

    code = "spec_invalid"

    def __init__(self, field: str, message: str, *, hint: str = "", **extra: Any) -> None:
        super().__init__(message, hint=hint, field=field, **extra)
        self.field = field


class NotFound(EngineError):
    code = "not_found"


class Conflict(EngineError):
    code = "conflict"


class AlreadyExists(Conflict):
    code = "already_exists"


class PortInUse(Conflict):
    code = "port_in_use"


class AddressInUse(Conflict):
    code = "address_in_use"


class VolumeInUse(Conflict):
    code = "volume_in_use"


class NetworkInUse(Conflict):
    code = "network_in_use"


class ImageInUse(Conflict):
    code = "image_in_use"


class BadState(EngineError):
    code = "bad_state"

    def __init__(
        self, action: str, status: str, allowed: Sequence[str], *, hint: str = "", **extra: Any
    ) -> None:
        able = ", ".join(allowed) or "nothing"
        super().__init__(
            f"Cannot {action} a container that is {status}.",
            hint=hint or f"Possible now: {able}.",
            action=action,
            status=status,
            allowed=list(allowed),
            **extra,
        )


class Unsupported(EngineError):
    code = "unsupported"

    def __init__(self, feature: str, requires: str, *, hint: str = "", **extra: Any) -> None:
        super().__init__(
            f"{feature} is not possible on this host: it requires {requires}.",
            hint=hint,
            feature=feature,
            requires=requires,
            **extra,
        )


class RegistryError(EngineError):
    code = "registry_error"


class RegistryUnavailable(RegistryError):
    code = "registry_unavailable"
    retryable = True


class AuthFailed(RegistryError):
    code = "auth_failed"


class DigestMismatch(RegistryError):
    code = "digest_mismatch"


class ArchiveInvalid(EngineError):
    code = "archive_invalid"


class StorageFull(EngineError):
    code = "storage_full"


class KernelFailure(EngineError):
    """`syscall`, `errno` (its name) and `path` are in `extra`."""

    code = "kernel_failure"

    def __init__(
        self, syscall: str, errno: int, path: str = "", *, hint: str = "", **extra: Any
    ) -> None:
        name = errno_names.errorcode.get(errno, str(errno))
        where = f" on {path}" if path else ""
        super().__init__(
            f"{syscall}{where} failed: {os.strerror(errno)} ({name}).",
            hint=hint,
            syscall=syscall,
            errno=name,
            path=path,
            **extra,
        )
        self.errno = errno


class NetlinkFailure(EngineError):
    code = "netlink_failure"


class FirewallFailure(EngineError):
    code = "firewall_failure"


class InitFailed(EngineError):
    """The container's first process did not start.

    `stage` is the step that failed (mounts, network, user, exec, …); `exit_code` is what `docker run`
    would exit with: 127 command not found, 126 found but not executable, 128 everything before.
    """

    code = "init_failed"

    def __init__(
        self, stage: str, message: str, *, exit_code: int = 128, hint: str = "", **extra: Any
    ) -> None:
        super().__init__(message, hint=hint, stage=stage, exit_code=exit_code, **extra)
        self.stage = stage
        self.exit_code = exit_code


class ShimLost(EngineError):
    code = "shim_lost"


class LauncherUnavailable(EngineError):
    code = "launcher_unavailable"
    retryable = True


class LockTimeout(EngineError):
    code = "lock_timeout"
    retryable = True


class Cancelled(EngineError):
    code = "cancelled"


class CreateFailed(EngineError):
    """Creation failed *and* so did part of the cleanup; the cause comes first."""

    code = "create_failed"

    def __init__(self, error: EngineError, cleanup_errors: Sequence[BaseException]) -> None:
        super().__init__(
            error.message,
            hint=error.hint,
            cause=error.payload(),
            cleanup_errors=[str(e) for e in cleanup_errors],
        )
        self.error = error
        self.cleanup_errors = tuple(cleanup_errors)


def from_payload(payload: dict[str, Any]) -> EngineError:
    """The error whose `payload()` crossed a socket; an unknown code comes back as EngineError."""
    cls = _by_code().get(str(payload.get("code", "")), EngineError)
    error = cls.__new__(cls)
    EngineError.__init__(
        error,
        str(payload.get("message", "")),
        hint=str(payload.get("hint", "")),
        **dict(payload.get("extra") or {}),
    )
    for name in ("field", "stage", "exit_code"):
        if name in error.extra:
            setattr(error, name, error.extra[name])
    return error


def _by_code() -> dict[str, type[EngineError]]:
    found: dict[str, type[EngineError]] = {}
    queue: list[type[EngineError]] = [EngineError]
    while queue:
        cls = queue.pop()
        found.setdefault(cls.code, cls)
        queue.extend(cls.__subclasses__())
    return found


_FULL = {errno_names.ENOSPC, errno_names.EDQUOT}


@contextmanager
def error_context(stage: str, **extra: Any) -> Iterator[None]:
    """Attach stage and object to whatever leaves the block; turn OSError into the tree.

    >>> with error_context("unpack", layer="sha256:…"):
    ...     write_files()

    Deep code raises plainly (OSError, EngineError); the caller that knows the object adds it here.
    """
    try:
        yield
    except EngineError as error:
        error.extra.setdefault("stage", stage)
        for key, value in extra.items():
            error.extra.setdefault(key, value)
        raise
    except OSError as error:
        path = str(error.filename or "")
        if error.errno in _FULL:
            raise StorageFull(
                f"No space left while writing {path}."
                if path
                else f"No space left on this host's disk ({stage}).",
                hint="Free disk space: remove unused images or stopped containers.",
                stage=stage,
                path=path,
                **extra,
            ) from error
        raise KernelFailure(stage, error.errno or 0, path, **{"stage": stage, **extra}) from error
