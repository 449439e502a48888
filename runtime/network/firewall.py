"""Our nftables table: kept as it should be, with the elements of networks and published ports."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from runtime.errors import FirewallFailure
from runtime.kernel.nftables import Nftables
from runtime.model.spec import NetworkSpec
from runtime.network.ports import LOOPS, MAPS, PublishedPort, from_element, loops_of
from runtime.network.ruleset import base_script, network_elements
from runtime.network.sysctls import has_ipv6
from runtime.store.paths import Config

_OWNER = re.compile(r'comment "([0-9a-f]*)"')


class Firewall:
    """Not locked by itself: the manager holds the instance's network lock around every change."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.table = config.nft_table  # name of our table, family inet
        self._generation = -1  # of the ruleset when we last saw that ours was right
        self._rules: list[Any] | None = None  # our rules as nft lists them, just after loading them

    @cached_property
    def _nft(self) -> Nftables:
        """Opened on first use: what needs no firewall also works where nftables is missing."""
        return Nftables()

    @property
    def unchanged(self) -> bool:
        """Whether nobody but us has changed any rule of the host since we last looked."""
        return self._nft.generation() == self._generation

    @property
    def present(self) -> bool:
        """Whether our table is there. It is made with all of its elements, in one transaction."""
        return self._nft.has_table(self.table)

    def restore(self, networks: Iterable[NetworkSpec], ports: Iterable[PublishedPort]) -> bool:
        """Make the table as it must be: static rules, exactly the elements of `networks` and `ports`.

        Returns whether anything was missing or too much. Raises FirewallFailure.
        """
        seen = self._nft.generation()
        listed = self._listing()
        changed = self._rules is None or _rules(listed) != self._rules
        owned = [element for network in networks for element in self._elements(network)]
        elements = "".join(f"add element {element}\n" for element in owned)
        stale = _elements(self.table, listed) - set(owned)
        wanted, present = set(ports), _ports(listed)
        extra = "".join(self._delete(p) for p in present - wanted)
        extra += "".join(f"delete element {element}\n" for element in sorted(stale))
        needless = set(_loops(listed)) - {(p.protocol, p.host_port) for p in present if p.loop}
        extra += "".join(
            f"delete element inet {self.table} {LOOPS} {{ {protocol} . {port} }}\n"
            for protocol, port in sorted(needless)
        )
        base = base_script(self.table, ipv6=has_ipv6()) if changed else ""
        script = base + elements + extra + "".join(self._create(p) for p in wanted - present)
        try:
            self._nft.run(script)
        except FirewallFailure as error:
            if not changed or error.extra.get("reason") == "denied":
                raise
            # A set or chain of another shape, from an older version: replace the table as a whole, in
            # one transaction, so that a failure leaves the old one.
            remake = f"add table inet {self.table}\ndelete table inet {self.table}\n"
            self._nft.run(remake + base + elements + "".join(map(self._create, wanted)))
        self._note(seen)
        if changed:
            self._rules = _rules(self._listing())
        return changed or bool(stale) or present != wanted

    def remove_network(self, network: NetworkSpec) -> None:
        """Take the elements of `network` out. What is not there is no error. Raises FirewallFailure."""
        script = "".join(f"delete element {e}\n" for e in self._elements(network))
        # Adding first makes one transaction of it that succeeds whatever is there.
        self._change(lambda: self._quietly(self._add(network) + script))

    def publish(self, ports: Sequence[PublishedPort]) -> None:
        """Add one map element per port, all or none.

        Raises FirewallFailure; `extra["reason"]` is "exists" when a host port is in the map already,
        "missing" when the table is gone.
        """
        script = "".join(map(self._create, ports))
        self._change(lambda: self._nft.run(script))

    def replace(self, ports: Sequence[PublishedPort]) -> None:
        """Like `publish`, in the place of elements that are there. Raises FirewallFailure."""
        stale = "".join(self._delete(port) for port in ports if self.owner(port) is not None)
        script = stale + "".join(map(self._create, ports))
        self._change(lambda: self._nft.run(script))

    def unpublish(self, ports: Iterable[PublishedPort]) -> None:
        """Remove the elements of `ports` that are still their container's. Raises FirewallFailure."""
        script = "".join(self._delete(p) for p in ports if self.owner(p) == p.container_id)
        if script:
            self._change(lambda: self._nft.run(script))

    def owner(self, port: PublishedPort) -> str | None:
        """The container id on the element with `port`'s key; None when there is no element.

        nft answers `get` as text whatever the output format (nftables 1.0.6).
        """
        try:
            text = self._nft.run(f"get element inet {self.table} {port.map} {{ {port.key} }}")
        except FirewallFailure as error:
            if error.extra.get("reason") == "missing":
                return None
            raise
        found = _OWNER.search(text)
        return found[1] if found else ""

    def published(self) -> set[PublishedPort]:
        """Every published port, read from the maps. Raises FirewallFailure."""
        return _ports(self._listing())

    def forward_policies(self) -> list[str]:
        """Chains of others that drop forwarded packets by policy, as "family table chain".

        On such a host containers reach nothing outside until its owner lets them.
        """
        return [
            f"{chain['family']} {chain['table']} {chain['name']}"
            for item in self._nft.objects("list chains")
            if (chain := item.get("chain"))
            and chain.get("hook") == "forward"
            and chain.get("policy") == "drop"
            and chain["table"] != self.table
        ]

    def remove_table(self) -> None:
        """Delete our table with everything in it; none there is no error. Raises FirewallFailure."""
        self._quietly(f"delete table inet {self.table}\n")
        self._rules = None
        self._generation = -1

    def close(self) -> None:
        if "_nft" in self.__dict__:
            self._nft.close()

    def _elements(self, network: NetworkSpec) -> list[str]:
        return network_elements(
            self.table,
            bridge=self._config.bridge(network.id),
            subnet=network.subnet,
            gateway=network.gateway,
            internal=network.internal,
            subnet6=network.subnet6,
            gateway6=network.gateway6,
        )

    def _add(self, network: NetworkSpec) -> str:
        return "".join(f"add element {element}\n" for element in self._elements(network))

    def _create(self, port: PublishedPort) -> str:
        element = f'{{ {port.key} comment "{port.container_id}" : {port.value} }}'
        script = f"create element inet {self.table} {port.map} {element}\n"
        if port.loop:
            loop = f"{{ {port.loop_key} : {port.loop} }}"
            script += f"create element inet {self.table} {LOOPS} {loop}\n"
        return script

    def _delete(self, port: PublishedPort) -> str:
        script = f"delete element inet {self.table} {port.map} {{ {port.key} }}\n"
        if port.loop:
            script += f"delete element inet {self.table} {LOOPS} {{ {port.loop_key} }}\n"
        return script

    def _listing(self) -> list[dict[str, Any]]:
        """Our table's content; [] when there is no such table."""
        try:
            return self._nft.objects(f"list table inet {self.table}")
        except FirewallFailure as error:
            if error.extra.get("reason") == "missing":
                return []
            raise

    def _quietly(self, script: str) -> None:
        try:
            self._nft.run(script)
        except FirewallFailure as error:
            if error.extra.get("reason") != "missing":
                raise

    def _change(self, transaction: Callable[[], object]) -> None:
        """Run one transaction; `unchanged` stays true when it was the only one meanwhile."""
        seen = self._nft.generation()
        transaction()
        if seen == self._generation:
            self._note(seen)

    def _note(self, seen: int) -> None:
        """Remember the state after one transaction of ours on `seen`; one without effect counts none."""
        now = self._nft.generation()
        self._generation = now if now in (seen, seen + 1) else -1


def _rules(listed: list[dict[str, Any]]) -> list[Any]:
    """Chains and rules without their handles, to compare."""
    kinds = ("chain", "rule")
    return [
        {kind: {k: v for k, v in item[kind].items() if k != "handle"}}
        for item in listed
        for kind in kinds
        if kind in item
    ]


def _elements(table: str, listed: list[dict[str, Any]]) -> set[str]:
    """The sets' elements, as `network_elements` writes them."""
    return {
        f"inet {table} {found['name']} {{ {_text(element)} }}"
        for item in listed
        if (found := item.get("set"))
        for element in found.get("elem", ())
    }


def _text(element: Any) -> str:
    if isinstance(element, str):
        # Interfaces are quoted, addresses are not; the kernel takes no interface name with a colon.
        return element if element[:1].isdigit() or ":" in element else f'"{element}"'
    if "concat" in element:
        return " . ".join(_text(part) for part in element["concat"])
    if "range" in element:
        return "-".join(element["range"])
    prefix = element["prefix"]
    return f"{prefix['addr']}/{prefix['len']}"


def _ports(listed: list[dict[str, Any]]) -> set[PublishedPort]:
    loops = _loops(listed)
    return {
        from_element(element, loops)
        for item in listed
        if (found := item.get("map")) and found["name"] in MAPS
        for element in found.get("elem", ())
    }


def _loops(listed: list[dict[str, Any]]) -> dict[tuple[str, int], str]:
    maps = (item["map"] for item in listed if "map" in item)
    return loops_of([e for each in maps if each["name"] == LOOPS for e in each.get("elem", ())])
