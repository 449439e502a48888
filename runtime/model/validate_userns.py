"""When a container cannot, or should not, have a user namespace of its own. See docs/design/012."""

from __future__ import annotations

from runtime.errors import SpecInvalid
from runtime.model.spec import ContainerSpec

# The kernel looks for these in the host's user namespace only: inside another one they do nothing.
_ONLY_ON_THE_HOST = frozenset({
    "ALL", "AUDIT_CONTROL", "AUDIT_READ", "BLOCK_SUSPEND", "BPF", "DAC_READ_SEARCH", "IPC_LOCK",
    "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "PERFMON", "SYSLOG", "SYS_BOOT",
    "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG",
    "WAKE_ALARM",
})  # fmt: skip


def validate_userns(spec: ContainerSpec) -> None:
    """Raise SpecInvalid for userns=private together with what needs the host's rights."""
    if spec.security.userns not in ("", "host", "private"):
        raise SpecInvalid(
            "security.userns",
            f"{spec.security.userns!r} is no user namespace.",
            hint="Write host, private, or nothing for the default.",
        )
    if spec.security.userns == "private" and (field := _in_the_way(spec)):
        raise SpecInvalid(
            "security.userns",
            f"A user namespace of its own takes from the container what {field} gives it.",
            hint=f"Choose userns=host, or leave {field} out.",
            other=field,
        )


def needs_host(spec: ContainerSpec) -> bool:
    """It is given something of the host that its root could not use from inside a user namespace."""
    # Rules for devices are for nodes that the container makes itself.
    return bool(_in_the_way(spec) or spec.security.device_cgroup_rules) or any(
        name.upper().removeprefix("CAP_") in _ONLY_ON_THE_HOST for name in spec.security.cap_add
    )


def _in_the_way(spec: ContainerSpec) -> str:
    """The field that hands out a part of the host as a whole; "" when there is none."""
    if spec.security.privileged:
        return "security.privileged"
    for kind in ("network", "pid", "ipc"):
        if getattr(spec.namespaces, kind) == "host":
            return f"namespaces.{kind}=host"
    for index, mount in enumerate(spec.mounts):
        if mount.propagation in ("shared", "rshared"):
            return f"mounts[{index}].propagation={mount.propagation}"
    return ""
