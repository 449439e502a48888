"""Whether this kernel confines by AppArmor profiles (security/apparmor in the kernel's documentation)."""

from __future__ import annotations

import os

from runtime.errors import NotFound, Unsupported


def enabled() -> bool:
    return _read("/sys/module/apparmor/parameters/enabled").strip() == "Y"


def check(profile: str, field: str) -> None:
    """Raise Unsupported where there is no AppArmor, NotFound when it does not have the profile.

    "" and "unconfined" ask for nothing and pass everywhere.
    """
    if profile in ("", "unconfined"):
        return
    if not enabled():
        raise Unsupported(
            f"The AppArmor profile {profile!r}",
            "a kernel with AppArmor",
            hint="Leave the profile out: seccomp and capabilities confine the container here.",
            field=field,
        )
    # Where securityfs is not mounted nobody can tell: the start will.
    if os.path.exists(_PROFILES) and profile not in _loaded():
        raise NotFound(
            f"There is no AppArmor profile {profile!r} on this host.",
            hint="Load it with apparmor_parser first.",
            field=field,
        )


_PROFILES = "/sys/kernel/security/apparmor/profiles"


def _loaded() -> list[str]:
    """Names; none at all is an answer, too."""
    return [line.rpartition(" (")[0] for line in _read(_PROFILES).splitlines()]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""
