"""Names of containers on their networks, as files that the resolver reads.

    <dns>/<network id>/network.json        {"gateway", "subnet", "subnet6", "internal"}
    <dns>/<network id>/<container id>.json {"address", "address6", "names": [lower-case names], "yields": [some of these],
                                            "servers": [addresses]}

One file per container and network: a start writes one small file whatever the number of neighbours,
two starts never write the same one, and a reader sees a file whole or not at all.
"""

from __future__ import annotations

import contextlib
import ipaddress
import shutil
from pathlib import Path
from typing import TypedDict

from runtime.errors import error_context
from runtime.model.spec import ContainerSpec, EndpointSpec, NetworkSpec
from runtime.store.files import read_json, write_json
from runtime.store.paths import Config

NETWORK_FILE = "network.json"


class NetworkFacts(TypedDict):
    gateway: str
    subnet: str  # queries from elsewhere are not answered
    subnet6: str  # "" = no IPv6
    internal: bool  # nothing is asked outside for its containers


class ContainerFacts(TypedDict):
    address: str
    address6: str  # "" = none
    names: list[str]  # the first one answers a reverse lookup
    # Those of them that count only where no other container has them without yielding.
    yields: list[str]
    servers: list[str]  # asked on its behalf instead of the host's own; [] for these


def names_of(spec: ContainerSpec, endpoint: EndpointSpec) -> list[str]:
    """Every name of the container on this network, lower case: its name first, then its host name,
    its short id and its aliases."""
    names = (spec.name, spec.hostname, spec.short_id, *endpoint.aliases)
    return list(dict.fromkeys(_plain(name) for name in names if name))


def yielding(spec: ContainerSpec, endpoint: EndpointSpec) -> list[str]:
    """Those of `names_of` that give way to another container's: anybody may choose any host name."""
    own = {_plain(name) for name in (spec.name, spec.short_id, *endpoint.aliases)}
    return [_plain(spec.hostname)] if spec.hostname and _plain(spec.hostname) not in own else []


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def own_servers(spec: ContainerSpec) -> tuple[str, ...]:
    """Name servers that the resolver asks for this container (`docker run --dns`).

    None when one of them is inside the container itself: only the container can ask that.
    """
    servers = spec.dns.servers
    if any(ipaddress.ip_address(server).is_loopback for server in servers):
        return ()
    return servers


def write_network(config: Config, network: NetworkSpec) -> None:
    """Tell the resolver of a network. Raises KernelFailure, StorageFull."""
    facts: NetworkFacts = {
        "gateway": network.gateway,
        "subnet": network.subnet,
        "subnet6": network.subnet6,
        "internal": network.internal,
    }
    _write(config, network.id, NETWORK_FILE, facts)


def network_known(config: Config, network_id: str) -> bool:
    return (config.dns / network_id / NETWORK_FILE).exists()


def remove_network(config: Config, network_id: str) -> None:
    with error_context("names", network=network_id), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(config.dns / network_id)


def register(config: Config, spec: ContainerSpec) -> None:
    """Write the names of `spec` on each of its networks. Raises KernelFailure, StorageFull."""
    for endpoint in spec.endpoints:
        facts: ContainerFacts = {
            "address": endpoint.address,
            "address6": endpoint.address6,
            "names": names_of(spec, endpoint),
            "yields": yielding(spec, endpoint),
            "servers": list(own_servers(spec)),
        }
        _write(config, endpoint.network_id, f"{spec.id}.json", facts)


def unregister(config: Config, container_id: str, network_id: str = "") -> None:
    """Forget the container's names on every network, or on one; none is no error."""
    with error_context("names", container=container_id):
        for network in [config.dns / network_id] if network_id else _directories(config.dns):
            (network / f"{container_id}.json").unlink(missing_ok=True)


def registered(config: Config, network_id: str) -> dict[str, list[str]]:
    """Addresses by name, as the files say: {"web": ["172.30.0.5"]}."""
    found: dict[str, list[str]] = {}
    with contextlib.suppress(FileNotFoundError):
        for path in sorted((config.dns / network_id).iterdir()):
            if path.name != NETWORK_FILE and path.suffix == ".json":
                with contextlib.suppress(FileNotFoundError, ValueError):
                    facts: ContainerFacts = read_json(path)
                    for name in facts["names"]:
                        found.setdefault(name, []).append(facts["address"])
    return found


def _write(config: Config, network_id: str, name: str, facts: object) -> None:
    directory = config.dns / network_id
    with error_context("names", network=network_id):
        # Readable by all: the resolver gives up root. Names and addresses are no secret on a host.
        for made in (config.dns, directory):
            made.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_json(directory / name, facts, durable=False)


def _directories(path: Path) -> list[Path]:
    try:
        return [entry for entry in path.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return []
