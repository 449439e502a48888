"""Names of containers in memory, kept as the files below `Config.dns` say (see runtime/network/names.py)."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass, field
from typing import Any

NETWORK_FILE = "network.json"


@dataclass(slots=True)
class Container:
    address: str
    names: list[str]
    servers: list[str] = field(default_factory=list)  # asked on its behalf; [] for the host's own
    address6: str = ""
    yields: list[str] = field(default_factory=list)  # of `names`: see ContainerFacts


@dataclass(slots=True)
class Zone:
    """One network: who is on it, by name and by address."""

    network_id: str
    gateway: str
    internal: bool
    subnet: tuple[int, int]  # first address and mask, as numbers
    subnet6: tuple[int, int] | None = None
    containers: dict[str, Container] = field(default_factory=dict)  # by id
    by_name: dict[str, dict[str, str]] = field(default_factory=dict)  # name -> id -> address
    by_yielding: dict[str, dict[str, str]] = field(default_factory=dict)  # the same of those
    by_address: dict[str, str] = field(default_factory=dict)  # address -> id

    def holds(self, address: str) -> bool:
        subnet = self.subnet6 if ":" in address else self.subnet
        return subnet is not None and _number(address) & subnet[1] == subnet[0]

    def servers_of(self, client: str) -> list[str]:
        """Name servers that `client` has chosen; on an internal network only those within it."""
        container = self.containers.get(self.by_address.get(client, ""))
        servers = container.servers if container is not None else []
        return [s for s in servers if self.holds(s.partition("%")[0])] if self.internal else servers

    def put(self, container_id: str, container: Container) -> None:
        self.drop(container_id)
        self.containers[container_id] = container
        for address in filter(None, (container.address, container.address6)):
            self.by_address[address] = container_id
        for name in container.names:
            table = self.by_yielding if name in container.yields else self.by_name
            table.setdefault(name, {})[container_id] = container.address

    def drop(self, container_id: str) -> None:
        old = self.containers.pop(container_id, None)
        if old is None:
            return
        # A newer container may have the address already.
        for address in (old.address, old.address6):
            if self.by_address.get(address) == container_id:
                del self.by_address[address]
        for name in old.names:
            table = self.by_yielding if name in old.yields else self.by_name
            owners = table.get(name, {})
            owners.pop(container_id, None)
            if not owners:
                table.pop(name, None)


class Zones:
    """Every network of the instance. `directory` is read relative to the working directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.by_network: dict[str, Zone] = {}

    def load_network(self, network_id: str) -> Zone | None:
        """Read one network with all its containers anew; None, and forgotten, when it is no network.

        Raises OSError when it cannot be told; what is known of it stays.
        """
        facts = self._read(network_id, NETWORK_FILE)
        zone = self._zone(network_id, facts)
        if zone is None:
            self.by_network.pop(network_id, None)
            return None
        for name in self._names(network_id):
            if _is_container(name):
                self._put(zone, name)
        self.by_network[network_id] = zone
        return zone

    def load_container(self, network_id: str, file_name: str) -> None:
        """Read one container's file anew; forget the container when the file is gone.

        Raises OSError when it cannot be told; what is known of it stays.
        """
        zone = self.by_network.get(network_id)
        if zone is not None and _is_container(file_name):
            self._put(zone, file_name)

    def _zone(self, network_id: str, facts: dict[str, Any]) -> Zone | None:
        try:
            return Zone(
                network_id=network_id,
                gateway=str(facts["gateway"]),
                internal=bool(facts.get("internal", False)),
                subnet=_subnet(str(facts["subnet"])),
                subnet6=_subnet(str(facts["subnet6"])) if facts.get("subnet6") else None,
            )
        except (KeyError, ValueError, OSError):  # not there yet, or not ours
            return None

    def _names(self, network_id: str) -> list[str]:
        try:
            return os.listdir(os.path.join(self._directory, network_id))
        except FileNotFoundError:
            return []

    def _put(self, zone: Zone, file_name: str) -> None:
        container_id = file_name.removesuffix(".json")
        facts = self._read(zone.network_id, file_name)
        try:
            address = str(facts["address"])
            address6 = str(facts.get("address6", ""))
            _number(address)
            if address6:
                _number(address6)
            names = [str(name).lower() for name in facts["names"]]
            servers = [str(server) for server in facts.get("servers", ())]
            yields = [str(name).lower() for name in facts.get("yields", ())]
            zone.put(container_id, Container(address, names, servers, address6, yields))
        except (KeyError, TypeError, OSError):
            zone.drop(container_id)

    def around(self, zone: Zone, client: str) -> list[Zone]:
        """The zones whose names `client` may use: the one it asks on, then its other networks."""
        container_id = zone.by_address.get(client)
        if container_id is None:
            return [zone]
        others = (z for z in self.by_network.values() if z is not zone)
        return [zone, *(z for z in others if container_id in z.containers)]

    def _read(self, network_id: str, name: str) -> dict[str, Any]:
        try:
            with open(os.path.join(self._directory, network_id, name), "rb") as file:
                facts = json.load(file)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}


def _is_container(file_name: str) -> bool:
    return file_name != NETWORK_FILE and file_name.endswith(".json")


def owners_of(name: str, zones: list[Zone]) -> tuple[Zone, dict[str, str]] | None:
    """The first of `zones` where containers have the name, and their addresses by id; None when nobody does.

    A name that yields counts only where no other container in any of them has it without yielding.
    """
    for zone in zones:
        if owners := zone.by_name.get(name):
            return zone, owners
    for zone in zones:
        if owners := zone.by_yielding.get(name):
            return zone, owners
    return None


def reversed_address(name: str) -> str | None:
    """The address that "5.0.30.172.in-addr.arpa" asks for; None when it is no such name."""
    labels = name.split(".")
    if len(labels) == 34 and labels[32:] == ["ip6", "arpa"]:
        return _reversed6(labels[:32])
    if len(labels) != 6 or labels[4:] != ["in-addr", "arpa"]:
        return None
    address = ".".join(reversed(labels[:4]))
    try:
        return socket.inet_ntoa(socket.inet_pton(socket.AF_INET, address))
    except OSError:
        return None


def _reversed6(digits: list[str]) -> str | None:
    text = "".join(reversed(digits))
    try:
        return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(text))
    except ValueError:
        return None


def _number(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return int.from_bytes(socket.inet_pton(family, address), "big")


def _subnet(text: str) -> tuple[int, int]:
    address, _, length = text.partition("/")
    bits = 128 if ":" in address else 32
    mask = (1 << bits) - (1 << (bits - int(length)))
    return _number(address) & mask, mask
