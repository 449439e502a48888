"""A `docker run` line as a request, so that what a README says can be pasted into the form.

Flags of options that the form has come from `fields.py`; the everyday ones are here. What has no
meaning on this side (`-d`, `--pull`) is passed over and named in the answer; what would have one and is
not known is refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from runtime.errors import SpecInvalid
from runtime.model.codec import to_json
from runtime.model.parse import parse_env, parse_restart
from runtime.model.parse_mounts import parse_mount, parse_tmpfs, parse_volume_spec
from runtime.model.parse_options import parse_network
from runtime.model.parse_ports import parse_port_spec
from webui.containers.asking import mount_request
from webui.containers.fields import SECTIONS

FIELD = "line"  # of errors
_SHORT = {
    "d": "detach", "i": "interactive", "t": "tty", "p": "publish", "P": "publish-all", "v": "volume",
    "e": "env", "w": "workdir", "u": "user", "m": "memory", "c": "cpu-shares", "h": "hostname",
    "l": "label", "a": "attach", "q": "quiet",
}  # fmt: skip
_OTHER_NAMES = {
    "interactive": "i", "tty": "t", "publish-all": "P", "net": "network", "dns-opt": "dns-option",
    "net-alias": "network-alias",
}  # fmt: skip
# No meaning here; True where a value follows.
_IGNORED = {
    "detach": False, "sig-proxy": False, "quiet": False, "disable-content-trust": False,
    "attach": True, "pull": True, "platform": True, "cidfile": True, "detach-keys": True,
    "log-driver": True, "annotation": True,
}  # fmt: skip
_FILES = ("env-file", "label-file")  # of the machine where the line was written
_LOG_OPTIONS = {"max-size": "max_size", "max-file": "max_files", "max-buffer-size": "max_buffer"}


@dataclass
class _Run:
    """What has been read so far."""

    request: dict[str, Any] = field(default_factory=dict)
    ports: list[dict[str, str]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    env: list[str] = field(default_factory=list)

    def add(self, path: str, value: Any) -> None:
        """Set a dotted field, or append to one that is a list."""
        *parts, last = path.split(".")
        holder = self.request
        for part in parts:
            holder = holder.setdefault(part, {})
        if isinstance(value, list):
            holder.setdefault(last, []).extend(value)
        else:
            holder[last] = value


def parse_run_line(text: str) -> dict[str, Any]:
    """{"request", "ports", "ignored"}: what the form starts from. Raises SpecInvalid(FIELD).

    >>> parse_run_line("docker run -d --name web -p 8080:80 nginx:1.27")["request"]
    {'name': 'web', 'image': 'nginx:1.27'}
    """
    words = _words(text)
    run = _Run()
    for name, value in _options(words):
        _take(run, name, value)
    if not words:
        raise SpecInvalid(FIELD, "The line names no image.", hint="It comes after the options.")
    run.add("image", words.pop(0))
    if words:
        run.add("command", words)
    if run.env:
        variables = (item.partition("=") for item in parse_env(run.env, FIELD))
        run.add("env", {name: value for name, _, value in variables})
    return {"request": run.request, "ports": run.ports, "ignored": run.ignored}


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(re.sub(r"\\\s*\n", " ", text.strip()).removeprefix("$ "))
    except ValueError as error:
        raise SpecInvalid(
            FIELD, f"The line cannot be read: {error}.", hint="Close every quote."
        ) from None
    for expected in (("sudo",), ("docker", "podman", "nerdctl"), ("container",)):
        if words and words[0] in expected:
            words.pop(0)
    if not words or words.pop(0) not in ("run", "create"):
        raise SpecInvalid(FIELD, "This is no docker run line.", hint="It begins with docker run.")
    return words


def _options(words: list[str]) -> Iterator[tuple[str, str | None]]:
    """Long names with their values, taken off the front of `words`."""
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        if word == "--":
            return
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            yield name, (value if equals else _value(name, words))
            continue
        letters = word[1:]
        while letters:
            name = _SHORT.get(letters[0], "")
            if not name:
                raise _unknown(f"-{letters[0]}")
            letters = letters[1:]
            if letters and _takes_value(name):
                yield name, letters.removeprefix("=")
                break
            yield name, _value(name, words)


def _value(name: str, words: list[str]) -> str | None:
    if not _takes_value(name):
        return None
    if not words:
        raise SpecInvalid(FIELD, f"--{name} needs a value.")
    return words.pop(0)


def _takes_value(name: str) -> bool:
    if name in _IGNORED:
        return _IGNORED[name]
    known = _FIELDS.get(_OTHER_NAMES.get(name, name))
    return not (known and known.kind == "check") and name != "init"


_FIELDS = {
    f.flag.lstrip("-"): f
    for sections in SECTIONS.values()
    for section in sections
    for f in section.fields
    if f.flag and " " not in f.flag
}
_PLAIN = {
    "name": "name", "workdir": "working_dir", "user": "user",
    "memory": "limits.memory", "cpus": "limits.cpus",
    "pids-limit": "limits.pids",
}  # fmt: skip


def _take(run: _Run, name: str, value: str | None) -> None:
    text = value or ""
    name = _OTHER_NAMES.get(name, name)
    if name == "detach":
        return  # every container is
    if name in _IGNORED and not (name == "log-driver" and text == "none"):
        run.ignored.append(f"--{name}")
    elif name in _FILES:
        run.ignored.append(f"--{name} {text}: paste what is in it")
    elif name in _PLAIN:
        run.add(_PLAIN[name], text)
    elif name in _SPECIAL:
        _SPECIAL[name](run, text)
    else:
        known = _FIELDS.get(name)
        if known is None:
            raise _unknown(f"--{name}")
        _take_field(run, known.name, known.kind, value)


def _take_field(run: _Run, name: str, kind: str, value: str | None) -> None:
    text = value or ""
    if kind == "check":
        run.add(name, text != "false")
    elif kind == "lines":
        run.add(name, [text])
    elif kind == "pairs":
        separator = ":" if name == "extra_hosts" and "=" not in text else "="
        pair, _, rest = text.partition(separator)
        *parts, last = name.split(".")
        holder = run.request
        for part in parts:
            holder = holder.setdefault(part, {})
        holder.setdefault(last, {})[pair] = rest  # the name may have dots of its own
    elif kind == "number" and re.fullmatch(r"-?\d+", text):
        run.add(name, int(text))
    else:
        run.add(name, text)


def _network(run: _Run, text: str) -> None:
    """The first has the options of its own name (--ip, --network-alias); each further one says them itself."""
    words = parse_network(text, FIELD)
    if "network" in run.request:
        run.add("networks", [text])
        return
    for name, value in words.items():
        names = {"name": "network", "aliases": "network_aliases"}
        run.add(names.get(name, name), value)


def _publish(run: _Run, text: str) -> None:
    parse_port_spec(text, FIELD)
    rest, _, protocol = text.partition("/")
    address, _, tail = rest.rpartition("]:") if rest.startswith("[") else ("", "", rest)
    parts = ([address.lstrip("[")] if address else []) + tail.split(":")
    host_ip, host, inside = [""] * (3 - len(parts)) + parts
    run.ports.append(
        {
            "host_ip": host_ip,
            "host_port": host,
            "container_port": inside,
            "protocol": protocol or "tcp",
        }
    )


def _security(run: _Run, text: str) -> None:
    name, _, value = re.sub(r"^(\w[\w-]*):", r"\1=", text, count=1).partition("=")
    if name == "no-new-privileges":
        run.add("no_new_privileges", value != "false")
    elif (name, value) == ("systempaths", "unconfined"):
        run.add("masked_paths", [])
        run.add("readonly_paths", [])
    elif name in ("seccomp", "apparmor"):
        if name == "seccomp" and value not in ("unconfined", "default", "builtin"):
            run.ignored.append(f"--security-opt {text}: paste what is in it")
        else:
            run.add(name, "default" if value == "builtin" else value)
    elif name == "label":
        run.ignored.append(f"--security-opt {text}")
    else:
        raise _unknown(f"--security-opt {text}")


def _log_option(run: _Run, text: str) -> None:
    name, _, value = text.partition("=")
    if name == "mode":
        run.add("logs.non_blocking", value == "non-blocking")
    elif name in _LOG_OPTIONS:
        run.add(f"logs.{_LOG_OPTIONS[name]}", int(value) if value.isdigit() else value)
    else:
        run.ignored.append(f"--log-opt {text}")


def _variable(run: _Run, text: str) -> None:
    if "=" in text:
        run.env.append(text)
    else:
        run.ignored.append(f"-e {text}: it has no value here")


def _unknown(flag: str) -> SpecInvalid:
    why = _ABSENT.get(flag)
    if why:
        return SpecInvalid(FIELD, f"{flag} does not exist here: {why[0]}", hint=why[1])
    return SpecInvalid(FIELD, f"{flag} is not an option here.", hint="Take it out of the line.")


# Options that Docker has, and what to do instead.
_ABSENT = {
    "--gpus": (
        "it takes a vendor's own hook in the runtime.",
        "Name the card's device files with --device, such as /dev/dri.",
    ),
    "--runtime": ("containers have one runtime, Slipway's own.", "Leave it out."),
    "--cgroup-parent": (
        "containers have their groups below Slipway's own.",
        "Limit the container itself.",
    ),
    "--volume-driver": (
        "volumes are directories of this host.",
        "Mount the storage on the host, and name its path with -v.",
    ),
    "--cpu-rt-period": ("kernels of today have no groups for it.", "Use --ulimit rtprio."),
    "--cpu-rt-runtime": ("kernels of today have no groups for it.", "Use --ulimit rtprio."),
    "--kernel-memory": ("Linux has dropped that limit.", "-m limits all of it together."),
    "--storage-opt": (
        "the writable layer has no quota of its own.",
        "Mount a volume or a tmpfs with a size where it writes much.",
    ),
    "--link": (
        "containers of one network find each other by name.",
        "Put both into one network, and give more names with --network-alias.",
    ),
}


_SPECIAL: dict[str, Callable[[_Run, str], None]] = {
    "publish": _publish,
    "network": _network,
    "volume": lambda run, text: run.add("mounts", [mount_request(parse_volume_spec(text, FIELD))]),
    "mount": lambda run, text: run.add("mounts", [mount_request(parse_mount(text, FIELD))]),
    "tmpfs": lambda run, text: run.add("mounts", [mount_request(parse_tmpfs(text, FIELD))]),
    "env": _variable,
    "entrypoint": lambda run, text: run.add("entrypoint", [text]),
    "restart": lambda run, text: run.add("restart", to_json(parse_restart(text, FIELD))),
    "init": lambda run, text: run.add("init", text != "false"),
    "security-opt": _security,
    "log-opt": _log_option,
    "log-driver": lambda run, text: run.add("logs.driver", text),
}
