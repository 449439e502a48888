"""Template vocabulary of the pages: icons, states, sizes, times. Same wording as `static/js/format.js`."""

from __future__ import annotations

import json
import re
import shlex
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django import template
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

# (url name, label, icon, url names below it)
NAVIGATION = (
    ("overview", "Overview", "overview", ()),
    ("containers", "Containers", "container", ("container", "container-create")),
    ("images", "Images", "image", ("image",)),
    ("volumes", "Volumes", "volume", ()),
    ("networks", "Networks", "network", ()),
    ("operations", "Operations", "operation", ()),
    ("events", "Events", "event", ()),
    ("hosts", "Hosts", "host", ()),
)

# kind of a live operation -> what is going on
DOING = {
    "container.create": "Creating",
    "container.start": "Starting",
    "container.stop": "Stopping",
    "container.restart": "Restarting",
    "container.kill": "Killing",
    "container.pause": "Pausing",
    "container.unpause": "Resuming",
    "container.remove": "Removing",
    "container.update": "Changing limits",
    "container.rename": "Renaming",
    "container.commit": "Making an image",
    "container.connect": "Joining a network",
    "container.disconnect": "Leaving a network",
    "network.move": "Moving to another subnet",
}


@register.simple_tag
@cache
def icon(name: str, extra: str = "") -> SafeString:
    """An icon of the sprite, hidden from assistive technology: the label stands beside it."""
    return format_html(
        '<svg class="icon {}" aria-hidden="true"><use href="{}#{}"></use></svg>',
        extra,
        static("vendor/icons.svg"),
        name,
    )


@register.simple_tag(takes_context=True)
def navigation(context: template.RequestContext) -> list[dict[str, Any]]:
    """Entries of the rail; `current` is "page" or "true" where one is at or below the entry."""
    request: HttpRequest | None = context.get("request")
    match = request.resolver_match if request else None
    name = match.url_name if match else ""
    return [
        {
            "url": reverse(url),
            "label": label,
            "icon": picture,
            "name": url,
            "current": "page" if name == url else "true" if name in below else "",
        }
        for url, label, picture, below in NAVIGATION
    ]


@register.filter
def size(value: float | str | None) -> str:
    """Bytes in binary units: 1536 → "1.5 KiB"; a dash when unknown."""
    if value in (None, ""):
        return "–"
    amount = float(value)
    for unit in UNITS:
        if abs(amount) < 1024 or unit == UNITS[-1]:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{_three(amount)} {unit}"
        amount /= 1024
    raise AssertionError("unreachable")


def _three(amount: float) -> str:
    """About three digits: 1.5, 15.2, 152."""
    text = f"{amount:.1f}" if amount < 100 else f"{amount:.0f}"
    return text.removesuffix(".0")


@register.filter
def cores(limits: dict[str, Any]) -> str:
    """ "1 core", "0.5 cores": what limits allow, however it was said; "" without a limit."""
    amount = limits.get("cpus")
    if not amount and (quota := limits.get("cpu_quota") or 0) > 0:
        amount = quota / (limits.get("cpu_period") or 100_000)
    return f"{amount:g} core{'' if amount == 1 else 's'}" if amount else ""


@register.filter
def short_id(value: str | None) -> str:
    """The twelve digits that people compare, without "sha256:"."""
    return (value or "").removeprefix("sha256:")[:12]


@register.filter
def word(status: str) -> str:
    """A container's observed status as a word."""
    return status.capitalize()


@register.filter
def doing(operation: dict[str, Any] | None) -> str:
    """A live operation as a present participle; "" without one."""
    return DOING.get(operation["kind"], "Working") if operation else ""


@register.filter
def familiar(reference: str) -> str:
    """The short form people write: "docker.io/library/nginx:latest" → "nginx:latest"."""
    return reference.removeprefix("docker.io/").removeprefix("library/")


@register.filter
def humanise(value: str) -> str:
    """ "container.oom_killed" → "Container OOM-killed"."""
    text = value.replace(".", " ").replace("_", " ").replace("oom killed", "OOM-killed")
    return text[:1].upper() + text[1:]


@register.filter
def verb(kind: str) -> str:
    """ "container.oom_killed" → "OOM-killed": what happened, said after the name of its object."""
    text = kind.rpartition(".")[2]
    known = {
        "oom_killed": "OOM-killed",
        "oom": "out of memory",
        "throttled": "held back by its CPU limit",
        "unthrottled": "no longer held back",
        "pressure": "waits much of the time",
        "pressure_passed": "no longer waits",
        "exec": "command run",
        "attach": "attached to",
        "files_read": "files taken out",
        "files_written": "files put in",
        "committed": "made an image of",
        "connected": "joined a network",
        "disconnected": "left a network",
        "moved": "got another address",
    }
    return known.get(text, text.replace("_", " "))


@register.simple_tag
def ago(moment: datetime | str | float | None, empty: str = "–") -> SafeString | str:
    """A moment (a number: Unix seconds) that the browser shows relative to now, the exact time on hover."""
    if not moment:
        return empty
    if isinstance(moment, (int, float)):
        moment = datetime.fromtimestamp(moment, UTC)
    when = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    when = when.astimezone(UTC)
    return format_html(
        '<relative-time datetime="{}">{} UTC</relative-time>',
        when.isoformat().replace("+00:00", "Z"),
        when.strftime("%Y-%m-%d %H:%M"),
    )


@register.filter
def exit_text(row: dict[str, Any]) -> str:
    """Why a container is not running: "OOM-killed after 3 s (exit 137)", "exit 1 after 2 min"."""
    if row["status"] not in ("exited", "dead", "restarting"):
        return ""
    reason, code = row["exit_reason"], row["exit_code"]
    lasted = duration(row["started_at"], row["finished_at"])
    after = f" after {lasted}" if lasted else ""
    if row["oom_killed"] or reason == "oom_killed":
        return f"OOM-killed{after}" + (f" (exit {code})" if code is not None else "")
    if reason == "reboot":
        return "the host restarted"
    if reason == "shim_lost":
        return "exit code unknown: its monitor died"
    if reason == "start_failed":
        return f"did not start (exit {code})" if code is not None else "did not start"
    if code is None:
        return ""
    if reason == "stopped" and code == 0:
        return f"stopped{after}"
    name = _signal(code)
    return f"exit {code}{f' ({name})' if name else ''}{after}"


@register.filter
def ended_badly(row: dict[str, Any]) -> bool:
    """Its last end was not what somebody asked for."""
    if row["status"] not in ("exited", "dead", "restarting"):
        return False
    asked_for = row["exit_code"] == 0 or row["exit_reason"] in ("stopped", "reboot")
    return bool(row["oom_killed"] or not asked_for)


def _signal(code: int) -> str:
    try:
        return signal.Signals(code - 128).name if code > 128 else ""
    except ValueError:
        return ""


def duration(start: str | None, end: str | None) -> str:
    """Time between two RFC 3339 moments, in its largest unit: "3 s", "5 min", "2 h", "4 d"."""
    if not start or not end:
        return ""
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    if seconds < 0:
        return ""
    return span(seconds)


@register.filter
def span(seconds: float) -> str:
    """Seconds in the largest unit that fits."""
    for unit, length in (("y", 31_557_600), ("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit in ("d", "h") and seconds >= length * 1.5):
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


@register.filter
def command_line(words: Sequence[str]) -> str:
    """Words as a shell would be given them: ("sh", "-c", "a; b") → "sh -c 'a; b'"."""
    return shlex.join(words)


@register.filter
def took(operation: dict[str, Any]) -> str:
    """How long a finished operation worked."""
    return duration(operation["started_at"], operation["finished_at"])


@register.filter
def port_text(port: dict[str, Any]) -> str:
    """A port mapping as `docker ps` writes it, without the address that means everywhere."""
    address = port["host_ip"]
    address = f"[{address}]" if ":" in address else address
    where = "" if address in ("", "0.0.0.0") else f"{address}:"
    return f"{where}{port['host_port']}→{port['container_port']}/{port['protocol']}"


@register.filter
def as_json(value: Any) -> str:
    """JSON for an attribute; the template escapes it."""
    return json.dumps(value)


@register.filter
def get(mapping: dict[str, Any] | None, key: str) -> Any:
    """A key that a template cannot spell; None when absent."""
    return (mapping or {}).get(key)


@register.simple_tag(takes_context=True)
def sort_link(context: template.RequestContext, key: str) -> dict[str, str]:
    """URL that sorts by `key` (again: the other way), and the `aria-sort` of its header."""
    request: HttpRequest = context["request"]
    current = request.GET.get("sort", "")
    query = request.GET.copy()
    query.pop("page", None)
    query["sort"] = f"-{key}" if current == key else key
    order = {key: "ascending", f"-{key}": "descending"}.get(current, "none")
    return {"url": f"?{query.urlencode()}", "order": order}


@register.filter
def percent(share: float) -> str:
    """0.153 → "15 %"."""
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.1f} %"


SECRETS = re.compile(r"pass|secret|token|api_?key|private|credential", re.IGNORECASE)


@register.filter
def env_pair(item: str) -> tuple[str, str, bool]:
    """ "NAME=value" → (name, value, looks like a secret)."""
    name, _, value = item.partition("=")
    return name, value, bool(value and SECRETS.search(name))


@register.filter
def is_bad_event(kind: str) -> bool:
    """A fact that somebody should look at."""
    return kind.rpartition(".")[2] in (
        "oom_killed",
        "oom",
        "failed",
        "unhealthy",
        "shim_lost",
        "dead",
    )


@register.filter
def event_icon(kind: str) -> str:
    """The icon of an event's kind, "container.started" → "play"."""
    verb = kind.rpartition(".")[2]
    known = {
        "created": "add",
        "exec": "terminal",
        "attach": "terminal",
        "files_read": "download",
        "exported": "download",
        "saved": "download",
        "files_written": "import",
        "started": "play",
        "unpaused": "play",
        "exited": "stop",
        "stopped": "stop",
        "killed": "kill",
        "paused": "pause",
        "restarting": "restart",
        "restarted": "restart",
        "removed": "remove",
        "pulled": "pull",
        "imported": "import",
        "tagged": "tag",
        "renamed": "edit",
        "updated": "settings",
        "committed": "image",
        "connected": "network",
        "disconnected": "network",
        "moved": "network",
    }
    return "danger" if is_bad_event(kind) else known.get(verb, "event")


def _people(items: Any) -> list[dict[str, str]]:
    """Containers that a row names, whichever way: dicts with id and name, or ids alone."""
    return [
        item if isinstance(item, dict) else {"id": item, "name": str(item)[:12]}
        for item in items or []
    ]


@register.filter
def image_users(row: dict[str, Any]) -> list[dict[str, str]]:
    """Containers made from an image."""
    return _people(row.get("containers"))


@register.filter
def volume_users(row: dict[str, Any]) -> list[dict[str, str]]:
    """Containers that mount a volume."""
    return _people(row.get("containers") or row.get("used_by"))


@register.filter
def network_users(row: dict[str, Any]) -> list[dict[str, str]]:
    """Containers on a network, with their addresses."""
    return _people(row.get("containers") or row.get("endpoints"))


@register.filter
def code_spans(text: str) -> SafeString:
    """What stands between backticks in our own documents, as code; the rest is escaped."""
    parts = [
        format_html("<code>{}</code>", part) if number % 2 else format_html("{}", part)
        for number, part in enumerate(text.split("`"))
    ]
    return SafeString("".join(parts))


@register.filter
def size_input(value: int) -> str:
    """Bytes as people type them into a limit: 536870912 → "512m"; exact, or plain bytes."""
    for suffix, unit in (("g", 1024**3), ("m", 1024**2), ("k", 1024)):
        if value % unit == 0:
            return f"{value // unit}{suffix}"
    return str(value)
