"""`slipway status`: facts from the supervisor's file, from disk and from /proc; nothing is asked of web."""

from __future__ import annotations

import json
import platform
import time
import tomllib
from dataclasses import asdict
from typing import Any

from runtime.kernel.procfs import is_alive
from runtime.store.files import read_json
from workers.supervisor import console, state
from workers.supervisor.instance import CHECKOUT, Instance

NOT_RUNNING = 3  # as LSB has it for `status` of a service


def status(instance: Instance, *, as_json: bool) -> int:
    facts = collect(instance)
    if as_json:
        console.say(json.dumps(facts, indent=2))
    else:
        _print(facts)
    return 0 if facts["running"] else NOT_RUNNING


def collect(instance: Instance) -> dict[str, Any]:
    """{name, root, run, running, url, versions, containers: {total, running}, processes: {name: {…}}}"""
    running = state.load(instance)
    return {
        "name": instance.config.name,
        "root": str(instance.config.root),
        "run": str(instance.config.run),
        "running": running is not None,
        "pid": running.pid if running else 0,
        "url": running.url if running else "",
        "started_at": running.started_at if running else 0.0,
        "versions": _versions(),
        "containers": _containers(instance),
        "processes": {p.name: asdict(p) for p in running.processes} if running else {},
    }


def _versions() -> dict[str, str]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return {
        "slipway": project["version"],
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def _containers(instance: Instance) -> dict[str, int]:
    """How many there are on disk, and how many of them have a living shim."""
    try:
        total = sum(1 for path in instance.config.containers.iterdir() if path.is_dir())
    except (FileNotFoundError, PermissionError):
        total = 0
    running = 0
    for path in (instance.config.run / "containers").glob("*/state.json"):
        try:
            run = read_json(path)
            alive = is_alive(run["shim_pid"], run["shim_start_time"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        running += alive and run.get("status") in ("running", "paused")
    return {"total": total, "running": running}


def _print(facts: dict[str, Any]) -> None:
    versions = facts["versions"]
    console.say(
        f"{console.paint('Slipway', 'bold')} {versions['slipway']}, instance {facts['name']} "
        f"(Python {versions['python']}, Linux {versions['kernel']})"
    )
    containers = facts["containers"]
    console.say(f"  containers  {containers['running']} running of {containers['total']}")
    console.say(f"  data        {facts['root']}")
    if not facts["running"]:
        console.say(f"  platform    {console.paint('down', 'yellow')}; start it: sudo ./slipway up")
        return
    console.say(f"  page        {facts['url']}")
    console.say()
    console.say(f"  {'process':<10}{'state':<10}{'pid':>8}  {'for':<12}{'restarts':>8}")
    for process in facts["processes"].values():
        good = process["state"] == "running"
        since = _duration(time.time() - process["since"]) if good else process["last_exit"]
        shown = console.paint(f"{process['state']:<10}", "green" if good else "red")
        console.say(
            f"  {process['name']:<10}{shown}{process['pid'] or '':>8}  {since:<12}"
            f"{process['restarts']:>8}"
        )


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
