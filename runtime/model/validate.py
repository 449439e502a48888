"""One place that says whether a specification makes sense; types are trusted below it.

Standard library only and free of the kernel, so that a form, REST and the runtime refuse the same
things with the same words. What only the host can know (a missing controller, a path that does not
exist, a number of CPUs) is refused by the engine, naming the same fields.
"""

from __future__ import annotations

import json
import re

from runtime.errors import SpecInvalid
from runtime.model.parse import parse_signal
from runtime.model.parse_mounts import tmpfs_mount
from runtime.model.spec import ContainerSpec, Mount
from runtime.model.validate_limits import MIN_MEMORY, validate_limits
from runtime.model.validate_names import (
    ID,
    validate_absolute,
    validate_hostname,
    validate_name,
    validate_no_nul,
    validate_volume_name,
)
from runtime.model.validate_network import (
    validate_joins_and_endpoints,
    validate_network,
    validate_ports,
)
from runtime.model.validate_userns import validate_userns

__all__ = [
    "MIN_MEMORY",
    "validate_hostname",
    "validate_limits",
    "validate_name",
    "validate_network",
    "validate_spec",
    "validate_volume_name",
]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_CAPABILITY = re.compile(r"(CAP_)?[A-Z][A-Z_]{2,40}", re.ASCII)
_SYSCTL = re.compile(r"[a-z0-9_]+([./][a-zA-Z0-9_*-]+)+", re.ASCII)
_DEVICE_RULE = re.compile(r"[abc] (\d+|\*):(\d+|\*) [rwm]{1,3}", re.ASCII)
# Mounting over these would take the container's own kernel interfaces away.
_RESERVED_TARGETS = frozenset({"/", "/proc", "/sys", "/dev"})
# The files that a container may be given another view of, as by lxcfs; runc allows the same.
_PROC_TARGETS = frozenset({
    "/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/net/dev",
    "/proc/slabinfo", "/proc/stat", "/proc/swaps", "/proc/uptime",
})  # fmt: skip
_SYSCTL_NAMESPACED = (
    "net.", "kernel.msg", "kernel.sem", "kernel.shm", "kernel.domainname", "fs.mqueue."
)  # fmt: skip


def validate_spec(spec: ContainerSpec, *, made: bool = False) -> None:
    """Raise SpecInvalid for the first field that is wrong; return when all are right.

    `made` says that the container is there: its networks may have been taken from it, and its ports wait.
    """
    if not ID.fullmatch(spec.id):
        raise SpecInvalid("id", "id must be 64 hexadecimal digits.")
    validate_name(spec.name)
    if not _DIGEST.fullmatch(spec.image):
        raise SpecInvalid("image", "image must be an image's digest: sha256:<64 hex digits>.")
    _validate_process(spec)
    validate_hostname(spec.hostname, "hostname")
    if spec.domainname:
        validate_hostname(spec.domainname, "domainname")
    validate_limits(spec.limits)
    _validate_mounts(spec.mounts)
    validate_joins_and_endpoints(spec, made=made)
    validate_ports(spec)
    _validate_lifecycle(spec)
    _validate_security(spec)
    validate_userns(spec)
    for key in spec.labels:
        if not key.strip() or "\0" in key + spec.labels[key]:
            raise SpecInvalid("labels", "A label needs a name, and holds no NUL.")


def _validate_process(spec: ContainerSpec) -> None:
    process = spec.process
    if not process.args or not process.args[0]:
        raise SpecInvalid(
            "process.args",
            "There is no command to run.",
            hint="The image names none: give a command.",
        )
    for index, arg in enumerate(process.args):
        validate_no_nul(arg, f"process.args[{index}]")
    seen: set[str] = set()
    for index, variable in enumerate(process.env):
        field = f"process.env[{index}]"
        validate_no_nul(variable, field)
        name, equals, _ = variable.partition("=")
        if not equals or not name:
            raise SpecInvalid(
                field, f"{field}: {variable!r} is not NAME=value.", hint="Write NAME=value."
            )
        if name in seen:
            raise SpecInvalid(field, f"{field}: the variable {name} is set twice.")
        seen.add(name)
    validate_absolute(process.cwd, "process.cwd")
    if process.stdin_once and not process.stdin:
        raise SpecInvalid(
            "process.stdin_once",
            "process.stdin_once: there is no standard input to close.",
            hint="Keep standard input open (stdin) as well.",
        )
    for index, text in enumerate((process.user, *process.groups)):
        field = "process.user" if index == 0 else f"process.groups[{index - 1}]"
        if re.search(r"[\s\0/]", text) or text.count(":") > (1 if index == 0 else 0):
            raise SpecInvalid(
                field, f"{field}: {text!r} is not a user.", hint="Write name, uid, or uid:gid."
            )
        for part in text.split(":"):
            if part.isascii() and part.isdigit() and int(part) > 2**32 - 2:
                raise SpecInvalid(field, f"{field}: {part} is larger than any id.")
    names: set[str] = set()
    for index, limit in enumerate(process.ulimits):
        field = f"process.ulimits[{index}]"
        if limit.name in names:
            raise SpecInvalid(field, f"{field}: {limit.name} is limited twice.")
        names.add(limit.name)
        if min(limit.soft, limit.hard) < -1:
            raise SpecInvalid(field, f"{field}: a limit is -1 (unlimited) or more.")
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise SpecInvalid(field, f"{field}: the soft limit exceeds the hard one.")


def _validate_mounts(mounts: tuple[Mount, ...]) -> None:
    targets: set[str] = set()
    for index, mount in enumerate(mounts):
        field = f"mounts[{index}]"
        validate_absolute(mount.target, f"{field}.target")
        target = "/" + "/".join(p for p in mount.target.split("/") if p not in ("", "."))
        inside_proc = target.startswith("/proc/") and target not in _PROC_TARGETS
        if target in _RESERVED_TARGETS or inside_proc:
            raise SpecInvalid(f"{field}.target", f"{target} cannot be a target of a mount.")
        if target in targets:
            raise SpecInvalid(f"{field}.target", f"Two mounts share the target {target}.")
        targets.add(target)
        if mount.type == "volume":
            validate_volume_name(mount.source, f"{field}.source")
        elif mount.type == "bind":
            validate_absolute(mount.source, f"{field}.source")
        elif mount.source:
            raise SpecInvalid(f"{field}.source", "A tmpfs has no source.")
        if mount.subpath:
            if mount.type != "volume":
                raise SpecInvalid(f"{field}.subpath", "Only a volume has a subpath.")
            if mount.subpath.startswith("/") or ".." in mount.subpath.split("/"):
                raise SpecInvalid(
                    f"{field}.subpath", f"{mount.subpath!r} would leave the volume.",
                    hint="Write a relative path without '..'.",
                )  # fmt: skip
            validate_no_nul(mount.subpath, f"{field}.subpath")
        _validate_bind_options(mount, field)
        if mount.tmpfs_size is not None and mount.tmpfs_size < 4096:
            raise SpecInvalid(
                f"{field}.tmpfs_size", "A tmpfs needs at least one page (4096 bytes)."
            )
        if not 0 <= mount.tmpfs_mode <= 0o7777:
            raise SpecInvalid(f"{field}.tmpfs_mode", "tmpfs_mode must be 0 to 7777 (octal).")


def _validate_bind_options(mount: Mount, field: str) -> None:
    if mount.type != "bind":
        for name, default in (("propagation", "rprivate"), ("recursive", "enabled")):
            if getattr(mount, name) != default:
                raise SpecInvalid(f"{field}.{name}", f"Only a host path has a {name} setting.")
    elif mount.recursive == "readonly" and not mount.read_only:
        raise SpecInvalid(
            f"{field}.recursive",
            "Submounts cannot be read-only below a mount that is writable.",
            hint="Make the mount read-only too.",
        )
    if mount.nocopy and mount.type != "volume":
        raise SpecInvalid(f"{field}.nocopy", "Only a volume is filled from the image.")
    if mount.type == "tmpfs":
        tmpfs_mount(mount.target, mount.tmpfs_options, f"{field}.tmpfs_options")


def _validate_lifecycle(spec: ContainerSpec) -> None:
    if spec.restart.max_retries < 0 or (
        spec.restart.max_retries and spec.restart.name != "on-failure"
    ):
        raise SpecInvalid("restart.max_retries", "Only on-failure takes a number of retries.")
    if spec.auto_remove and spec.restart.name != "no":
        raise SpecInvalid(
            "auto_remove", "A container that is removed at its end cannot restart as well."
        )
    parse_signal(spec.stop_signal, "stop_signal")
    if not -1 <= spec.stop_timeout <= 86400:
        raise SpecInvalid("stop_timeout", "stop_timeout must be 0 to 86400 s, or -1 to wait on.")
    if spec.shm_size < 4096:
        raise SpecInvalid("shm_size", "shm_size must be one page (4096 bytes) or more.")
    logs = spec.logs
    if logs.max_size < 4096:
        raise SpecInvalid("logs.max_size", "A log file needs room for 4096 bytes or more.")
    if not 1 <= logs.max_files <= 1000:
        raise SpecInvalid("logs.max_files", "logs.max_files must be 1 to 1000.")
    if not 4096 <= logs.max_buffer <= 2**30:
        raise SpecInvalid("logs.max_buffer", "logs.max_buffer must be 4096 bytes to 1 GiB.")
    health = spec.health
    if health is None:
        return
    if not health.test:
        raise SpecInvalid("health.test", "A health check needs a command.")
    for name in ("interval", "timeout", "start_interval"):
        if not 0.001 <= getattr(health, name) <= 86400:
            raise SpecInvalid(f"health.{name}", f"{name} must be 1 ms to 86400 s.")
    if health.start_period < 0:
        raise SpecInvalid("health.start_period", "start_period must not be negative.")
    if health.retries < 1:
        raise SpecInvalid("health.retries", "retries must be 1 or more.")


def _validate_security(spec: ContainerSpec) -> None:
    security = spec.security
    for name in ("cap_add", "cap_drop"):
        for index, capability in enumerate(getattr(security, name)):
            if not _CAPABILITY.fullmatch(capability.upper()):
                raise SpecInvalid(
                    f"security.{name}[{index}]",
                    f"{capability!r} is not a capability.",
                    hint="Write NET_ADMIN, SYS_PTRACE … or ALL.",
                )
    if security.seccomp not in ("default", "unconfined"):
        try:
            profile = json.loads(security.seccomp)
        except ValueError:
            profile = None
        if not isinstance(profile, dict):
            raise SpecInvalid(
                "security.seccomp",
                "The seccomp profile is neither default, unconfined nor a JSON object.",
            )
    for index, device in enumerate(security.devices):
        field = f"security.devices[{index}]"
        validate_absolute(device.source, f"{field}.source")
        validate_absolute(device.target, f"{field}.target")
        permissions = device.permissions
        if not permissions or set(permissions) - set("rwm"):
            raise SpecInvalid(f"{field}.permissions", "Permissions are letters of rwm.")
    for index, rule in enumerate(security.device_cgroup_rules):
        if not _DEVICE_RULE.fullmatch(rule):
            raise SpecInvalid(
                f"security.device_cgroup_rules[{index}]",
                f"{rule!r} is not a rule for devices.",
                hint="Write: c 13:* rwm.",
            )
    for name, value in security.sysctls.items():
        field = f"security.sysctls.{name}"
        validate_no_nul(value, field)
        dotted = name.replace("/", ".")
        if not _SYSCTL.fullmatch(name) or ".." in name:
            raise SpecInvalid(field, f"{name!r} is not the name of a sysctl.")
        if not dotted.startswith(_SYSCTL_NAMESPACED):
            raise SpecInvalid(
                field,
                f"{name} belongs to the whole host, not to a namespace.",
                hint="Only net.*, fs.mqueue.* and the IPC settings of kernel.* can be set.",
            )
        if dotted.startswith("net.") and spec.namespaces.network == "host":
            raise SpecInvalid(field, f"{name} would change the host: it shares the host's network.")
        if dotted.startswith(("kernel.", "fs.")):
            kind = "uts" if dotted == "kernel.domainname" else "ipc"
            if getattr(spec.namespaces, kind) == "host":
                raise SpecInvalid(
                    field, f"{name} would change the host: it shares the host's {kind} namespace."
                )
    for name in ("masked_paths", "readonly_paths"):
        for index, path in enumerate(getattr(security, name) or ()):
            validate_absolute(path, f"security.{name}[{index}]")
