"""What an instance has in the kernel and on disk, against what its containers, networks and volumes account for.

Everything that carries the instance's name, tag or path is listed, whoever made it; what nothing accounts
for is a leak, what is accounted for and not there is missing. There are no exceptions.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from runtime.cgroups.detect import detect
from runtime.network.ports import PublishedPort
from runtime.network.ruleset import CHAINS, CHAINS6, base_script
from runtime.network.sysctls import has_ipv6
from runtime.store.paths import Config
from tests.support.inventory import Things, inventory, loop_line, network_namespaces, port_line
from tests.support.processes import Process, processes_of

# Of these, something that is accounted for may also not be there: a container that never ran.
_OPTIONAL = frozenset({"run directory", "lock", "cgroup", "mounts", "state file"})
# Of the instance as a whole, not of one thing that goes.
_INSTANCE_LOCKS = {"network.lock", "images-incoming"}


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
    have, want = inventory(config, processes), _wanted(config, account, processes)
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


def _wanted(config: Config, account: Account, processes: list[Process]) -> Things:
    active = account.active
    lock_names = {f"{i}.lock" for i in account.containers} | _INSTANCE_LOCKS
    elements: set[str] = set()
    for network_id, network in account.networks.items():
        elements |= _network_elements(config.bridge(network_id), network)
    for container_id, spec in active.items():
        published = list(_published(container_id, spec))
        elements |= {port_line(p) for p in published}
        elements |= {loop_line(p.protocol, p.host_port, p.loop) for p in published if p.loop}
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
        | set(network_namespaces([by_pid[p] for p in due.starters])),
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
