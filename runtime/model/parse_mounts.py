"""`data:/var/lib:ro` and `type=tmpfs,target=/run` to mounts, as `docker run` reads them."""

from __future__ import annotations

import posixpath
import re
from typing import get_args

from runtime.errors import SpecInvalid
from runtime.model.parse import VOLUME_NAME, parse_bytes
from runtime.model.spec import Mount, Propagation, Recursion


def parse_volume_spec(text: str, field: str = "volumes") -> Mount:
    """The mount of `[source:]target[:options]`, as `docker run -v` reads it.

    A source that starts with "/" is a bind, a name is a volume, none is an anonymous volume (its name
    is the caller's to make). Options: ro, rw, nocopy, a propagation; z and Z are accepted and mean
    nothing without SELinux.
    """
    parts = text.split(":")
    if len(parts) > 3 or not all(parts[:2]):
        raise SpecInvalid(
            field,
            f"{field}: {text!r} is not a volume.",
            hint="Write name:/target, /host/path:/target, and :ro for read-only.",
        )
    source, target, options = ("", parts[0], "") if len(parts) == 1 else (*parts, "")[:3]
    if not target.startswith("/"):
        raise SpecInvalid(
            field,
            f"{field}: the target {target!r} of {text!r} is not an absolute path.",
            hint="Start it with /.",
        )
    flags = [o for o in options.split(",") if o]
    propagation: Propagation = "rprivate"
    for flag in flags:
        if flag in get_args(Propagation):
            propagation = flag  # type: ignore[assignment] # it is one of the Literal's
        elif flag not in {"ro", "rw", "nocopy", "z", "Z", "cached", "delegated", "consistent"}:
            raise SpecInvalid(
                field,
                f"{field}: {flag!r} in {text!r} is not an option.",
                hint="Known: ro, rw, nocopy, rprivate, rslave, rshared.",
            )
    return Mount(
        type="bind" if source.startswith("/") else "volume",
        target=posixpath.normpath(target) if ".." not in target.split("/") else target,
        source=_mount_source(source, text, field),
        read_only="ro" in flags,
        nocopy="nocopy" in flags,
        propagation=propagation,
        anonymous=not source,
    )


def _mount_source(source: str, text: str, field: str) -> str:
    if not source or source.startswith("/") or VOLUME_NAME.fullmatch(source):
        return source
    hint = "Use letters, digits, dots, dashes and underscores for a volume, or an absolute path."
    if source.startswith((".", "~")):
        hint = "Relative paths have no meaning on the host: write the absolute path."
    raise SpecInvalid(
        field, f"{field}: {source!r} in {text!r} is neither a volume's name nor a path.", hint=hint
    )


_MOUNT_KEYS = {
    "source": "source", "src": "source", "target": "target", "dst": "target",
    "destination": "target", "readonly": "readonly", "ro": "readonly", "volume-nocopy": "nocopy",
    "volume-subpath": "subpath", "bind-propagation": "propagation", "bind-recursive": "recursive",
    "tmpfs-size": "size", "tmpfs-mode": "mode", "bind-nonrecursive": "nonrecursive",
}  # fmt: skip
# What means nothing here: how macOS keeps copies, and the driver that every volume of ours has.
_PASSED_OVER = re.compile(r"consistency(=.*)?|volume-driver=local")


def parse_mount(text: str, field: str = "mounts") -> Mount:
    """The mount of `type=bind,source=/a,target=/b,readonly`, as `docker run --mount` reads it."""
    values: dict[str, str] = {}
    kind = "volume"
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if key.strip() == "type":
            kind = value.strip()
            continue
        if _PASSED_OVER.fullmatch(part.strip()):
            continue
        known = _MOUNT_KEYS.get(key.strip())
        if known is None:
            raise SpecInvalid(
                field,
                f"{field}: {key!r} in {text!r} is not a known key.",
                hint=f"Known: type, {', '.join(_MOUNT_KEYS)}.",
            )
        values[known] = value if equals else "true"
    if kind not in ("bind", "volume", "tmpfs"):
        raise SpecInvalid(
            field, f"{field}: {kind!r} is not a type of mount.", hint="Use bind, volume or tmpfs."
        )
    target, source = values.get("target", ""), values.get("source", "")
    if not target.startswith("/"):
        raise SpecInvalid(
            field, f"{field}: {text!r} needs an absolute target.", hint="Add target=/path."
        )
    propagation = values.get("propagation", "rprivate")
    if propagation not in get_args(Propagation):
        raise SpecInvalid(field, f"{field}: {propagation!r} is not a propagation.")
    # Docker's older word for it.
    alone = values.get("nonrecursive", "false").lower() in ("true", "1")
    recursive = values.get("recursive", "disabled" if alone else "enabled")
    if recursive not in get_args(Recursion):
        raise SpecInvalid(
            field,
            f"{field}: {recursive!r} is not a way to take submounts along.",
            hint=f"Use {', '.join(get_args(Recursion))}.",
        )
    return Mount(
        type=kind,  # type: ignore[arg-type] # checked against the three above
        target=target,
        source=source,
        read_only=values.get("readonly", "false").lower() in ("true", "1"),
        nocopy=values.get("nocopy", "false").lower() in ("true", "1"),
        subpath=values.get("subpath", ""),
        propagation=propagation,  # type: ignore[arg-type] # checked above
        recursive=recursive,  # type: ignore[arg-type] # checked above
        tmpfs_size=parse_bytes(values["size"], field) if "size" in values else None,
        tmpfs_mode=_mode(values.get("mode", "1777"), field),
        anonymous=kind == "volume" and not source,
    )


# What tmpfs and mount(8) know; everything else is refused here rather than by the kernel at the start.
TMPFS_FLAGS = frozenset(
    ("rw", "ro", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "atime",
     "noatime", "diratime", "nodiratime", "relatime", "strictatime")
)  # fmt: skip
TMPFS_VALUES = frozenset(("uid", "gid", "nr_inodes", "nr_blocks", "huge"))


def parse_tmpfs(text: str, field: str = "tmpfs") -> Mount:
    """The mount of `/run:size=64m,mode=700,uid=1000,exec`, as `docker run --tmpfs` reads it.

    Without options it is 1777, as large as half of the memory, and noexec, nosuid, nodev.
    """
    target, _, rest = text.strip().partition(":")
    if not target.startswith("/"):
        raise SpecInvalid(
            field, f"{field}: {text!r} needs an absolute path.", hint="Write /run:size=64m."
        )
    options = tuple(filter(None, (part.strip() for part in rest.split(","))))
    return tmpfs_mount(target, options, field)


def tmpfs_mount(target: str, options: tuple[str, ...], field: str) -> Mount:
    """A tmpfs with the options as mount(8) writes them; the last of a kind wins."""
    size: int | None = None
    mode, read_only = 0o1777, False
    kept: list[str] = []
    for option in options:
        name, equals, value = option.partition("=")
        if name == "size" and equals:
            size = _tmpfs_size(value, field)
        elif name == "mode" and equals:
            mode = _mode(value, field)
        elif option in ("ro", "rw"):
            read_only = option == "ro"
        elif (name in TMPFS_VALUES and value) or option in TMPFS_FLAGS:
            kept.append(option)
        else:
            raise SpecInvalid(
                field,
                f"{field}: {option!r} is not an option of a tmpfs.",
                hint="Known: size=, mode=, uid=, gid=, nr_inodes=, ro, exec, suid, dev, noatime.",
            )
    return Mount(
        type="tmpfs", target=target, read_only=read_only, tmpfs_size=size, tmpfs_mode=mode,
        tmpfs_options=tuple(kept),
    )  # fmt: skip


def _tmpfs_size(value: str, field: str) -> int | None:
    if value.strip("%") in ("", "0"):
        return None  # half of the memory, as without
    return parse_bytes(value, field)


def _mode(text: str, field: str) -> int:
    if not re.fullmatch(r"0?[0-7]{1,4}", text, re.ASCII):
        raise SpecInvalid(field, f"{field}: {text!r} is not an octal mode.", hint="Write 1777.")
    return int(text, 8)
