"""What an instance has in the kernel and on disk: everything that carries its name, tag or path, whoever made it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from runtime.cgroups.detect import detect
from runtime.kernel.nftables import Nftables
from runtime.network.ports import MAPS, PublishedPort, from_element, loops_of
from runtime.store.paths import Config
from tests.support.processes import Process

Things = dict[str, set[str]]  # kind -> what there is of it

# Below these lies what containers, volumes and images hold: anybody's names.
_FOREIGN = ("upper", "work", "_data", "layers", "blobs", "db", "mount-points")


def inventory(config: Config, processes: list[Process]) -> Things:
    return {
        "container directory": set(_names(config.containers)),
        "run directory": set(_names(config.run / "containers")),
        "state file": set(_state_files(config)),
        "active mark": {n for n in _names(config.containers) if "active" in _marks(config, n)},
        "commit mark": {n for n in _names(config.containers) if "commit" in _marks(config, n)},
        "half-made file": set(_half_made(config)),
        "lock": set(_names(config.locks)),
        "held lock": set(_held_locks(config)),
        "image": set(_names(config.images)),
        "network file": set(_names(config.networks)),
        "volume": set(_names(config.volumes)),
        "ports file": set(_names(config.ports)),
        "names file": {
            f"{n}/{name}" for n in _names(config.dns) for name in _names(config.dns / n)
        },
        "cgroup": set(_cgroups(config)),
        "process": {process.label for process in processes},
        "mounts": set(_mounts(config)),
        "network namespace": set(network_namespaces(processes)),
        "container address": set(_container_addresses(config)),
        "reserved": set(_reservations(config)),
        **_links(config),
        **_firewall(config),
    }


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _state_files(config: Config) -> Iterator[str]:
    """Files that only a container with a monitor has."""
    for short in _names(config.run / "containers"):
        for name in _names(config.run / "containers" / short):
            if name in ("shim.sock", "plan.json"):
                yield f"{short}/{name}"


def _marks(config: Config, container_id: str) -> set[str]:
    """Notes on the bundle."""
    try:
        names = os.listxattr(config.bundle(container_id))
    except FileNotFoundError:
        return set()
    return {name.removeprefix("trusted.slipway.") for name in names}


def _half_made(config: Config) -> Iterator[str]:
    """Everything in the directories for it, and every name that only something half made has."""
    for directory in (config.tmp, config.spool):
        yield from (str(directory / name) for name in _names(directory))
    for top in (config.root, config.run):
        for path, directories, files in os.walk(top):
            directories[:] = [d for d in directories if d not in _FOREIGN]
            for name in (*directories, *files):
                if name.endswith(".tmp") or name.startswith(("half-", ".mount-", "rehearsal-")):
                    yield f"{path}/{name}"
    # Beside what is copied into containers.
    for top in (*config.containers.glob("*/upper"), *config.volumes.glob("*/_data")):
        yield from map(str, top.rglob(".slipway-*"))


def _held_locks(config: Config) -> Iterator[str]:
    inodes = {}
    for name in _names(config.locks):
        try:
            inodes[(config.locks / name).stat().st_ino] = name
        except FileNotFoundError:
            continue
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        inode = int(words[words.index("0") - 1].rpartition(":")[2]) if "0" in words else 0
        if inode in inodes and words[1] == "FLOCK":
            yield f"{inodes[inode]} by pid {words[4]}"


def _cgroups(config: Config) -> Iterator[str]:
    """`<hierarchy>: <path below the instance's own group>`."""
    found = detect()
    for root in {*found.roots.values(), found.unified} - {""}:
        top = f"{root}/{config.cgroup}"
        for path, _, _ in os.walk(top):
            yield f"{os.path.basename(root)}: {path.removeprefix(top).lstrip('/')}"


def _mounts(config: Config) -> Iterator[str]:
    """`<mount namespace> <who sees it>`, for every namespace that has something of the instance mounted."""
    seen: dict[str, str] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace not in seen:
                seen[namespace] = Path(f"/proc/{pid}/mountinfo").read_text()
        except OSError:
            continue
    ours = os.readlink("/proc/self/ns/mnt")
    for namespace, text in seen.items():
        if str(config.root) in text or str(config.run) in text:
            yield "host" if namespace == ours else namespace


def network_namespaces(processes: Iterable[Process]) -> Iterator[str]:
    ours = os.readlink("/proc/self/ns/net")
    for process in processes:
        yield from (ns for ns in process.network_namespaces() if ns != ours)


def _container_addresses(config: Config) -> Iterator[str]:
    """`<container> <address>` for every address in a network namespace of a container's own."""
    ours = os.readlink("/proc/self/ns/net")
    for short in _names(config.run / "containers"):
        try:
            state = json.loads((config.run / "containers" / short / "state.json").read_text())
            if not state["pid"] or os.readlink(f"/proc/{state['pid']}/ns/net") == ours:
                continue
            routes = Path(f"/proc/{state['pid']}/net/fib_trie").read_text()
            addresses = Path(f"/proc/{state['pid']}/net/if_inet6").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found = re.findall(r"\|-- (\S+)\n +/32 host LOCAL", routes)
        for line in addresses.splitlines():
            packed, _, _, scope, _, _ = line.split()
            if int(scope, 16) == 0:  # global
                found.append(str(ip_address(bytes.fromhex(packed))))
        yield from {f"{short} {address}" for address in found if not address.startswith("127.")}


def _reservations(config: Config) -> Iterator[str]:
    """Addresses and ports of the host that the database keeps from others."""
    with closing(sqlite3.connect(f"file:{config.db}/slipway.sqlite3?mode=ro", uri=True)) as rows:
        for row in rows.execute("select container_id, address, address6 from networks_endpoint"):
            yield " ".join(row)
        query = "select container_id, protocol, host_port from networks_portreservation"
        yield from {f"{i} {protocol} {port}" for i, protocol, port in rows.execute(query)}


def _links(config: Config) -> Things:
    with IPRoute() as route:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in route.get_links()}
        mine = {i: name for i, name in names.items() if name.startswith(config.tag)}
        addresses = {
            f"{mine[a['index']]} {a.get_attr('IFA_ADDRESS')}/{a['prefixlen']}"
            for a in route.get_addr()
            if a["index"] in mine
        }
    return {"link": set(mine.values()), "address": addresses}


def _firewall(config: Config) -> Things:
    with Nftables() as nft:
        tables = {t["table"]["name"] for t in nft.objects("list tables")}
        mine = {t for t in tables if t == config.nft_table}
        listed = nft.objects(f"list table inet {config.nft_table}") if mine else []
    elements: set[str] = set()
    rules: dict[str, int] = {}
    for item in listed:
        if holder := item.get("set"):
            elements |= {f"{holder['name']} {_plain(e)}" for e in holder.get("elem", ())}
        elif holder := item.get("map"):
            if holder["name"] in MAPS:
                elements |= {port_line(from_element(e, {})) for e in holder.get("elem", ())}
            else:
                loops = loops_of(holder.get("elem", []))
                elements |= {loop_line(*key, gateway) for key, gateway in loops.items()}
        elif holder := item.get("rule"):
            rules[holder["chain"]] = rules.get(holder["chain"], 0) + 1
    counted = {f"{chain}: {number} rules" for chain, number in rules.items()}
    return {"nft table": mine, "nft element": elements, "nft chain": counted}


def _plain(element: Any) -> str:
    """An element of a set as nft writes it in text."""
    if isinstance(element, str):
        return element
    if "concat" in element:
        return " . ".join(_plain(part) for part in element["concat"])
    prefix = element["prefix"]
    return f"{prefix['addr']}/{prefix['len']}"


def loop_line(protocol: str, port: int, gateway: str) -> str:
    return f"loops6 {protocol} . {port} : {gateway}"


def port_line(port: PublishedPort) -> str:
    return f"{port.map} {port.key} : {port.value} of {port.container_id[:12]}"
