"""Advice: what is likely to hurt later, with the evidence and a way out. Pure functions of a container.

A rule has an id, a severity ("critical", "warning", "info"), a sentence that says why, and a fix where
one is safe: {"label", "method", "url", "body"} for REST, or {"label", "url"} for a page to go to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from runtime.model.state import Status
from webui.core.rows import AdviceFix, AdviceRow, Severity

if TYPE_CHECKING:
    from webui.containers.models import Container

WRITES_WORTH_SAYING = 64 * 1024  # bytes outside volumes; less is pid files and the like
THROTTLED_SHARE = 0.1
RESTARTS = 3
DATABASE_PORTS = {
    3306: "MySQL",
    5432: "PostgreSQL",
    6379: "Redis",
    27017: "MongoDB",
    9200: "Elasticsearch",
}
# Directories that hold nothing worth keeping.
DISPOSABLE = ("/tmp", "/run", "/var/run", "/var/tmp", "/var/cache", "/var/log")
EVERYWHERE = ("0.0.0.0", "::", "")


def advice_for(container: Container) -> list[AdviceRow]:
    """Every rule that applies and is not silenced, the most severe first."""
    silenced = {s.rule for s in container.silences.all()}
    found = [a for rule in RULES for a in rule(container) if a["rule"] not in silenced]
    return sorted(found, key=lambda a: ("critical", "warning", "info").index(a["severity"]))


def _advice(
    rule: str,
    severity: Severity,
    title: str,
    text: str,
    *,
    evidence: dict[str, Any] | None = None,
    fix: AdviceFix | None = None,
) -> AdviceRow:
    row: AdviceRow = {"rule": rule, "severity": severity, "title": title, "text": text, "fix": fix}
    if evidence is not None:
        row["evidence"] = evidence
    return row


def _limit_fix(container: Container, label: str, limits: dict[str, Any]) -> AdviceFix:
    url = f"/api/v1/containers/{container.pk}"
    return {"label": label, "method": "PATCH", "url": url, "body": {"limits": limits}}


def no_memory_limit(container: Container) -> Iterator[AdviceRow]:
    limits = container.spec.get("limits", {})
    if limits.get("memory"):
        return
    peak = int(container.usage.get("memory_peak") or 0)
    suggested = _suggest(peak)
    seen = f" It has used {size(peak)} at most so far." if peak else ""
    yield _advice(
        "no-memory-limit",
        "warning",
        "No memory limit",
        "It may take all memory of this host; then the kernel kills whatever it likes, other "
        f"containers too.{seen} Give it a limit above what it needs.",
        evidence={"memory_peak": peak},
        fix=_limit_fix(container, f"Limit memory to {size(suggested)}", {"memory": suggested}),
    )


def _suggest(peak: int) -> int:
    """Half as much again as was ever used, at least 256 MiB, in steps of 64 MiB."""
    step = 64 * 1024**2
    return max(256 * 1024**2, -(-peak * 3 // 2 // step) * step)


def no_cpu_limit(container: Container) -> Iterator[AdviceRow]:
    limits = container.spec.get("limits", {})
    if not (limits.get("cpus") or limits.get("cpu_quota")):
        yield _advice(
            "no-cpu-limit",
            "warning",
            "No CPU limit",
            "One busy loop in it slows everything else on this host. Give it a number of cores.",
            fix=_limit_fix(container, "Limit to 1 core", {"cpus": 1.0}),
        )


def data_outside_volumes(container: Container) -> Iterator[AdviceRow]:
    """The writable layer goes with the container; the engine measures what lies in it."""
    paths = [
        (str(path), int(size_))
        for path, size_ in container.usage.get("writable_paths") or []
        if not str(path).startswith(DISPOSABLE)
    ]
    total = sum(size_ for _, size_ in paths)
    if total < WRITES_WORTH_SAYING:
        return
    largest, amount = max(paths, key=lambda p: p[1])
    # A volume cannot cover the root itself: what writes there has to be told another directory.
    covered = largest != "/"
    way_out = (
        f"Run it again with a volume at {largest}."
        if covered
        else "Have it write to a directory of its own, and mount a volume there."
    )
    yield _advice(
        "data-outside-volume",
        "critical",
        "Data in no volume",
        f"It has written {size(amount)} to {largest}, which is in no volume: removing the container "
        f"deletes it. {way_out}",
        evidence={"bytes": total, "paths": [list(p) for p in paths[:5]]},
        fix={
            "label": f"Run again with a volume at {largest}",
            "url": f"/containers/new/?from={container.pk}&volume={largest}",
        }
        if covered
        else None,
    )


def declared_directory_unmounted(container: Container) -> Iterator[AdviceRow]:
    for mount in container.spec.get("mounts", []):
        if mount.get("anonymous"):
            yield _advice(
                "anonymous-volume",
                "info",
                "Unnamed volume",
                f"{mount['target']} is kept in a volume without a name, because the image asks for "
                "one. A named volume is easier to find again and to reuse.",
                evidence={"target": mount["target"]},
            )


def oom_killed(container: Container) -> Iterator[AdviceRow]:
    kills = int(container.usage.get("oom_kills") or 0)
    if not container.oom_killed and not kills:
        return
    limit = container.spec.get("limits", {}).get("memory") or 0
    more = limit * 2 if limit else None
    yield _advice(
        "oom-killed",
        "critical",
        "Killed for want of memory",
        f"The kernel killed a process of it over its memory limit{f' of {size(limit)}' if limit else ''}."
        " Raise the limit, or find what uses so much.",
        evidence={"kills": max(kills, 1), "limit": limit},
        fix=_limit_fix(container, f"Raise to {size(more)}", {"memory": more}) if more else None,
    )


def throttled(container: Container) -> Iterator[AdviceRow]:
    share = float(container.usage.get("throttled_share") or 0)
    if share <= THROTTLED_SHARE:
        return
    limits = container.spec.get("limits", {})
    cpus = limits.get("cpus")
    yield _advice(
        "throttled",
        "warning",
        "Held back by its CPU limit",
        f"In {share:.0%} of its time slices it wanted more CPU than its limit"
        f"{f' of {cpus:g} cores' if cpus else ''} allows. Raise the limit if it feels slow.",
        evidence={"share": share, "seconds": container.usage.get("throttled_seconds", 0)},
        fix=_limit_fix(container, f"Raise to {cpus * 2:g} cores", {"cpus": cpus * 2})
        if cpus
        else None,
    )


def restart_loop(container: Container) -> Iterator[AdviceRow]:
    if container.status == Status.RESTARTING and container.restart_count >= RESTARTS:
        yield _advice(
            "restart-loop",
            "critical",
            "Starts and ends again and again",
            f"It has been restarted {container.restart_count} times and ended with exit code "
            f"{container.exit_code}. Its last log lines say why; stop it while you look.",
            evidence={"restarts": container.restart_count, "exit_code": container.exit_code},
            fix={
                "label": "Stop it",
                "method": "POST",
                "url": f"/api/v1/containers/{container.pk}/stop",
                "body": {},
            },
        )


def privileged(container: Container) -> Iterator[AdviceRow]:
    if container.spec.get("security", {}).get("privileged"):
        yield _advice(
            "privileged",
            "critical",
            "Privileged",
            "Root in it is root on this host. Give it the single capabilities or devices it needs.",
        )


def dangerous_mounts(container: Container) -> Iterator[AdviceRow]:
    for mount in container.spec.get("mounts", []):
        source = mount.get("source", "")
        if mount.get("type") == "bind" and (
            source in ("/", "/etc", "/proc", "/sys", "/dev", "/var", "/root", "/boot")
            or source.endswith(".sock")
        ):
            yield _advice(
                "dangerous-mount",
                "critical",
                "Dangerous mount",
                f"{source} of the host is mounted at {mount['target']}: whoever is in it can take "
                "over the host. Mount just the directory it needs, read-only if possible.",
                evidence={"source": source, "target": mount["target"]},
            )


def database_published(container: Container) -> Iterator[AdviceRow]:
    # Of both address families it is one port.
    published = container.spec.get("ports", [])
    ports = {p["host_port"]: p["container_port"] for p in published if p["host_ip"] in EVERYWHERE}
    for port, inside in ports.items():
        name = DATABASE_PORTS.get(inside)
        if name:
            yield _advice(
                "database-published",
                "warning",
                "Database open to every address",
                f"Port {port} leads to {name} from anywhere that reaches this host. "
                "Containers on its network need no published port; for yourself publish on 127.0.0.1.",
                evidence={"port": port},
            )


RULES: tuple[Callable[[Container], Iterator[AdviceRow]], ...] = (
    oom_killed,
    data_outside_volumes,
    restart_loop,
    privileged,
    dangerous_mounts,
    no_memory_limit,
    no_cpu_limit,
    throttled,
    database_published,
    declared_directory_unmounted,
)

RULE_IDS = frozenset(
    {
        "no-memory-limit",
        "no-cpu-limit",
        "data-outside-volume",
        "anonymous-volume",
        "oom-killed",
        "throttled",
        "restart-loop",
        "privileged",
        "dangerous-mount",
        "database-published",
    }
)


def size(count: int | None) -> str:
    """Bytes in binary units: "412 MiB"."""
    value = float(count or 0)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
