"""What an instance has in the kernel and on disk, against what its containers, networks and volumes account for.

Everything that carries the instance's name, tag or path is listed, whoever made it; what nothing accounts
for is a leak, what is accounted for and not there is missing. There are no exceptions.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from runtime.cgroups.detect import detect
from runtime.kernel.nftables import Nftables
from runtime.network.ports import MAPS, PublishedPort, from_element, loops_of
from runtime.network.ruleset import CHAINS, CHAINS6, base_script
from runtime.network.sysctls import has_ipv6
from runtime.store.paths import Config
from tests.support.processes import Process, processes_of

Things = dict[str, set[str]]  # kind -> what there is of it

# Of these, something that is accounted for may also not be there: a container that never ran.
_OPTIONAL = frozenset({"run directory", "lock", "cgroup", "mounts", "state file"})
# Of the instance as a whole, not of one thing that goes.
_INSTANCE_LOCKS = {"network.lock", "images-incoming"}
# Below these lies what containers, volumes and images hold: anybody's names.
_FOREIGN = ("upper", "work", "_data", "layers", "blobs", "db", "mount-points")


@dataclass
class Account:
    """What must be there: containers, and those that have a monitor, as id -> specification as JSON."""

    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    active: dict[str, dict[str, Any]] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)  # id -> subnet, gateway
    volumes: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=set)  # hexadecimal digits of their ids
    platform: set[int] = field(default_factory=set)  # pids of supervisor and its processes


def leaks(config: Config, account: Account) -> list[str]:
    """One line for each thing too much or too little; [] when all is as it must be."""
    processes = processes_of(config, account.platform)
    have, want = _found(config, processes), _wanted(config, account, processes)
    lines = []
    for kind in sorted(have.keys() | want.keys()):
        there, due = have.get(kind, set()), want.get(kind, set())
        lines += [
            f"leaked {kind}: {thing}{_holders(thing, processes)}" for thing in sorted(there - due)
        ]
        if kind not in _OPTIONAL:
            lines += [f"missing {kind}: {thing}" for thing in sorted(due - there)]
    return lines


def _holders(thing: str, processes: list[Process]) -> str:
    if not thing.startswith("net:["):
        return ""
    return " in " + "; ".join(p.label for p in processes if thing in p.network_namespaces())


# -- what there is ---------------------------------------------------------------------------------


def _found(config: Config, processes: list[Process]) -> Things:
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
        "network namespace": set(_network_namespaces(processes)),
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


def _network_namespaces(processes: Iterable[Process]) -> Iterator[str]:
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
                elements |= {_port(from_element(e, {})) for e in holder.get("elem", ())}
            else:
                loops = loops_of(holder.get("elem", []))
                elements |= {_loop(*key, gateway) for key, gateway in loops.items()}
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


def _loop(protocol: str, port: int, gateway: str) -> str:
    return f"loops6 {protocol} . {port} : {gateway}"


def _port(port: PublishedPort) -> str:
    return f"{port.map} {port.key} : {port.value} of {port.container_id[:12]}"


# -- what there must be ------------------------------------------------------------------------------


def _wanted(config: Config, account: Account, processes: list[Process]) -> Things:
    active = account.active
    lock_names = {f"{i}.lock" for i in account.containers} | _INSTANCE_LOCKS
    elements: set[str] = set()
    for network_id, network in account.networks.items():
        elements |= _network_elements(config.bridge(network_id), network)
    for container_id, spec in active.items():
        published = list(_published(container_id, spec))
        elements |= {_port(p) for p in published}
        elements |= {_loop(p.protocol, p.host_port, p.loop) for p in published if p.loop}
    attached = [(i, e) for i, spec in active.items() for e in spec["endpoints"]]
    by_pid = {p.pid: p for p in processes}
    due = _due_processes(config, account, processes)
    inits = [by_pid[p] for p in due.inits if p in by_pid]
    web = {p.mount_namespace for p in processes if p.pid in account.platform}
    return {
        "container directory": set(account.containers),
        "run directory": {i[:32] for i in account.containers},
        "state file": {f"{i[:32]}/{n}" for i in active for n in ("shim.sock", "plan.json")},
        "active mark": set(active),
        "lock": lock_names | {f"volume-{v}.lock" for v in account.volumes},
        "image": {f"{i}.json" for i in account.images},
        "network file": {f"{n}.json" for n in account.networks},
        "volume": set(account.volumes),
        "ports file": {f"{i}.json" for i, spec in active.items() if spec["ports"]},
        "names file": {f"{n}/network.json" for n in account.networks}
        | {f"{e['network_id']}/{i}.json" for i, e in attached},
        "cgroup": set(_due_cgroups(active)),
        "process": {by_pid[p].label if p in by_pid else f"pid {p}" for p in due.all},
        "mounts": (web | {p.mount_namespace for p in inits}) - {os.readlink("/proc/self/ns/mnt")},
        "network namespace": {p.network_namespace for p in inits}
        | set(_network_namespaces([by_pid[p] for p in due.starters])),
        "container address": {
            f"{i[:32]} {e[kind]}"
            for i, e in attached
            for kind in ("address", "address6")
            if e[kind]
        },
        "reserved": set(_due_reservations(account.containers)),
        "link": {config.bridge(n) for n in account.networks}
        | {_veth(config, i, e["network_id"]) for i, e in attached},
        "address": {
            f"{config.bridge(i)} {address}"
            for i, n in account.networks.items()
            for address in _addresses(n)
        },
        "nft table": {config.nft_table},
        "nft element": elements,
        "nft chain": _rule_counts(),
    }


@dataclass
class _Due:
    inits: set[int]
    starters: set[int]  # in reserve, with a network namespace made ahead
    all: set[int]


def _due_processes(config: Config, account: Account, processes: list[Process]) -> _Due:
    """The platform's, each active container's monitor and first process, and what runs inside it."""
    inits, due = set(), set(account.platform)
    # The launcher keeps one monitor in reserve, and that its starter. One whose call for a name failed has its parent's.
    unused = [p for p in processes if p.name in ("slw-spare", "slw-launcher")]
    spares = {p.pid for p in unused if p.parent in account.platform} - account.platform
    starters = {p.pid for p in unused if p.parent in spares}
    due |= spares | starters
    for container_id in account.active:
        state = json.loads((config.container_run(container_id) / "state.json").read_text())
        inits.add(state["pid"])
        due |= {state["pid"], state["shim_pid"]}
        group = f"/containers/{container_id[:32]}"
        due |= {p.pid for p in processes if group in p.cgroups and not p.is_zombie}
    return _Due(inits, starters, due)


def _due_cgroups(active: Iterable[str]) -> Iterator[str]:
    found = detect()
    groups = ["", "containers", "shims", *(f"containers/{i[:32]}" for i in active)]
    for root in {*found.roots.values(), found.unified} - {""}:
        yield from (f"{os.path.basename(root)}: {group}" for group in groups)


def _network_elements(bridge: str, network: dict[str, Any]) -> set[str]:
    subnet = network["subnet"]
    way = f"internal {bridge}" if network["internal"] else f"outgoing {subnet}"
    six = network["subnet6"]
    elements6 = {f"gateways6 {bridge} . {network['gateway6']}", f"subnets6 {bridge} . {six}"}
    if not network["internal"]:
        elements6.add(f"outgoing6 {six}")
    return (elements6 if six else set()) | {
        f"bridges {bridge}",
        f"pairs {bridge} . {bridge}",
        f"gateways {network['gateway']}",
        f"subnets {bridge} . {subnet}",
        way,
    }


def _addresses(network: dict[str, Any]) -> Iterator[str]:
    yield f"{network['gateway']}/{network['subnet'].partition('/')[2]}"
    if network["subnet6"]:
        yield f"{network['gateway6']}/{network['subnet6'].partition('/')[2]}"
        yield "fe80::1/64"


def _due_reservations(containers: dict[str, dict[str, Any]]) -> Iterator[str]:
    for container_id, spec in containers.items():
        yield from (f"{container_id} {e['address']} {e['address6']}" for e in spec["endpoints"])
        for port in spec["ports"]:
            yield f"{container_id} {port.get('protocol', 'tcp')} {port['host_port']}"


def _published(container_id: str, spec: dict[str, Any]) -> Iterator[PublishedPort]:
    end = spec["endpoints"][0] if spec["ports"] else {}
    end6: dict[str, Any] = next((e for e in spec["endpoints"] if e["address6"]), {})
    for port in spec["ports"]:
        six = ":" in port.get("host_ip", "")
        if six and not end6:
            continue  # it has left its network with IPv6: the port leads nowhere until it joins one
        yield PublishedPort(
            container_id=container_id,
            protocol=port.get("protocol", "tcp"),
            host_ip=port.get("host_ip") or "0.0.0.0",
            host_port=port["host_port"],
            address=end6["address6"] if six else end["address"],
            container_port=port["container_port"],
            loop=end6["gateway6"] if six else "",
        )


def _veth(config: Config, container_id: str, network_id: str) -> str:
    return config.veth(hashlib.sha256(f"{container_id}:{network_id}".encode()).hexdigest())


def _rule_counts() -> set[str]:
    lines = base_script("t", ipv6=has_ipv6()).splitlines()
    chains = CHAINS + CHAINS6 if has_ipv6() else CHAINS
    counts = {c: sum(line.startswith(f"add rule inet t {c} ") for line in lines) for c in chains}
    return {f"{chain}: {number} rules" for chain, number in counts.items()}
