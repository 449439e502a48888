"""The resolver as its own process, asked by containers in their own network namespaces.

dnspython is the other side: an implementation that is not ours reads what we write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.reversename
import pytest

from runtime.model.spec import ContainerSpec, EndpointSpec, NetworkSpec, PortMapping
from runtime.network import NetworkManager
from runtime.network.sysctls import has_ipv6
from runtime.store.paths import Config
from tests.support.netns import Machine, fresh_netns
from tests.support.networks import container_spec, endpoint, network_spec
from tests.support.waiting import PATIENCE, wait_until

RESOLVER = [sys.executable, "-m", "runtime.network.resolver"]


@dataclass
class Lab:
    config: Config
    networks: NetworkManager
    machines: list[Machine] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def resolver(self, **more: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            **more,
            "SLIPWAY_ROOT": str(self.config.root),
            "SLIPWAY_RUN": str(self.config.run),
            "SLIPWAY_NAME": self.config.name,
        }
        process = subprocess.Popen(RESOLVER, env=environment)
        self.processes.append(process)
        return process

    def network(self, subnet: str, *, internal: bool = False, subnet6: str = "") -> NetworkSpec:
        name = "net-" + subnet.split(".")[2]
        spec = network_spec(name, subnet, internal=internal, subnet6=subnet6)
        self.networks.ensure(spec)
        return spec

    def start(self, spec: ContainerSpec) -> Machine:
        machine = Machine.start()
        self.machines.append(machine)
        for index, end in enumerate(spec.endpoints):
            self.networks.attach(spec, end, index, machine.pid)
            machine.configure(
                f"eth{index}", end.address, end.prefix_length, end.gateway if index == 0 else ""
            )
        self.networks.register_names(spec)
        return machine


@pytest.fixture
def lab(config: Config) -> Iterator[Lab]:
    # The resolver becomes nobody; the fixture's directory is closed to it, as an operator's may be.
    with fresh_netns():
        made = Lab(config, NetworkManager(config))
        try:
            yield made
        finally:
            made.networks.close()
            for machine in made.machines:
                machine.stop()
            for process in made.processes:
                process.kill()
                process.wait()


def ask(
    name: str, server: str, kind: str = "A", *, tcp: bool = False, timeout: float = 5.0
) -> dns.message.Message:
    query = dns.message.make_query(name, kind, use_edns=False)
    send = dns.query.tcp if tcp else dns.query.udp
    return send(query, server, timeout=timeout * PATIENCE)


def texts(reply: dns.message.Message) -> list[str]:
    return sorted(str(item) for rrset in reply.answer for item in rrset)


def addresses(name: str, server: str) -> list[str]:
    """Addresses of `name`; [] on any failure: for waiting."""
    try:
        return texts(ask(name, server, timeout=0.2))
    except (dns.exception.DNSException, OSError):
        return []


@pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6")
def test_names_have_ipv6_addresses_where_the_network_has_them(lab: Lab) -> None:
    network = lab.network("172.30.0.0/22", subnet6="fd00:0:0:1::/64")
    lab.resolver()
    six = endpoint(network, "172.30.0.2", address6="fd00:0:0:1::2")
    lab.start(container_spec("web", [six]))
    client = lab.start(container_spec("four", [endpoint(network, "172.30.0.3")]))
    with client.inside():
        wait_until(lambda: addresses("web", network.gateway) == ["172.30.0.2"])
        assert texts(ask("web", network.gateway, "AAAA")) == ["fd00:0:0:1::2"]
        nothing = ask("four", network.gateway, "AAAA")  # no such data, which is not "no such name"
        assert (nothing.rcode(), texts(nothing)) == (dns.rcode.NOERROR, [])
        reverse = dns.reversename.from_address("fd00:0:0:1::2").to_text()
        assert texts(ask(reverse, network.gateway, "PTR")) == ["web."]
        stranger = dns.reversename.from_address("fd00:0:0:1::9").to_text()
        assert ask(stranger, network.gateway, "PTR").rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_containers_find_each_other_by_every_name(lab: Lab, tcp: bool) -> None:
    network = lab.network("172.30.0.0/22")
    web = container_spec("web", [endpoint(network, "172.30.0.2", aliases=("front", "WWW"))])
    lab.start(web)
    client = lab.start(container_spec("client", [endpoint(network, "172.30.0.3")]))
    lab.resolver()
    with client.inside():
        wait_until(lambda: addresses("web", network.gateway), what="the resolver answers")
        for name in ("web", "WEB", "wEb.", "front", "www", web.short_id):
            reply = ask(name, network.gateway, tcp=tcp)
            assert texts(reply) == ["172.30.0.2"], name
            assert reply.rcode() == dns.rcode.NOERROR
            assert reply.flags & dns.flags.RA
        empty = ask("web", network.gateway, "AAAA", tcp=tcp)
        assert empty.rcode() == dns.rcode.NOERROR
        assert texts(empty) == []
        reverse = dns.reversename.from_address("172.30.0.2").to_text()
        assert texts(ask(reverse, network.gateway, "PTR", tcp=tcp)) == ["web."]
        unknown = dns.reversename.from_address("172.30.0.77").to_text()
        assert ask(unknown, network.gateway, "PTR", tcp=tcp).rcode() == dns.rcode.NXDOMAIN


def test_names_come_and_go_while_it_runs(lab: Lab) -> None:
    lab.resolver()
    network = lab.network("172.30.0.0/22")  # a new gateway to bind
    one = container_spec("web", [endpoint(network, "172.30.0.2")])
    two = container_spec("other", [endpoint(network, "172.30.0.3", aliases=("web",))])
    lab.networks.register_names(one)
    wait_until(lambda: addresses("web", network.gateway) == ["172.30.0.2"])
    lab.networks.register_names(two)
    wait_until(lambda: addresses("web", network.gateway) == ["172.30.0.2", "172.30.0.3"])
    firsts = {str(ask("web", network.gateway).answer[0][0]) for _ in range(4)}
    assert len(firsts) == 2, "two containers of one name take turns"
    lab.networks.unregister_names(one.id)
    wait_until(lambda: addresses("web", network.gateway) == ["172.30.0.3"])
    lab.networks.remove(network.id)
    with pytest.raises((dns.exception.Timeout, OSError)):
        ask("web", network.gateway, timeout=0.3)
    again = lab.network("172.30.0.0/22")
    lab.networks.register_names(container_spec("web", [endpoint(again, "172.30.0.9")]))
    wait_until(lambda: addresses("web", again.gateway) == ["172.30.0.9"])


def _with_hostname(name: str, hostname: str, *endpoints: EndpointSpec) -> ContainerSpec:
    return dataclasses.replace(container_spec(name, endpoints), hostname=hostname)


def test_a_host_name_gives_way_to_another_containers_own_names(lab: Lab) -> None:
    lab.resolver()
    network = lab.network("172.30.0.0/22")
    db = container_spec("db", [endpoint(network, "172.30.0.2", aliases=("sql",))])
    for number, hostname in enumerate(("DB", "sql", db.short_id, "DB", "web"), 3):
        end = endpoint(network, f"172.30.0.{number}")
        lab.networks.register_names(_with_hostname(f"other-{number}", hostname, end))
    # Until somebody has it as a name, it is one, which several may have.
    wait_until(lambda: addresses("db", network.gateway) == ["172.30.0.3", "172.30.0.6"])
    assert addresses("web", network.gateway) == ["172.30.0.7"]
    lab.networks.register_names(db)
    wait_until(lambda: addresses("db", network.gateway) == ["172.30.0.2"])
    assert addresses("sql", network.gateway) == addresses(db.short_id, network.gateway)
    assert addresses("sql", network.gateway) == ["172.30.0.2"]
    assert texts(ask("db", network.gateway, "AAAA")) == []
    lab.networks.unregister_names(db.id)
    wait_until(lambda: addresses("db", network.gateway) == ["172.30.0.3", "172.30.0.6"])


def test_a_host_name_gives_way_on_every_network_of_who_asks(lab: Lab) -> None:
    one, two = lab.network("172.30.0.0/22"), lab.network("172.30.4.0/22")
    lab.start(_with_hostname("other", "db", endpoint(one, "172.30.0.2")))
    lab.start(container_spec("db", [endpoint(two, "172.30.4.2")]))
    own = lab.start(
        _with_hostname("web", "web", endpoint(one, "172.30.0.3"), endpoint(two, "172.30.4.3"))
    )
    lab.resolver()
    wait_until(lambda: addresses("web", one.gateway) and addresses("db", two.gateway))
    with own.inside():
        assert texts(ask("db", one.gateway)) == ["172.30.4.2"]
        assert texts(ask("web", one.gateway)) == ["172.30.0.3"]


def test_a_network_knows_its_own_names_only(lab: Lab) -> None:
    one, two = lab.network("172.30.0.0/22"), lab.network("172.30.4.0/22")
    lab.start(container_spec("web", [endpoint(one, "172.30.0.2")]))
    lab.start(container_spec("db", [endpoint(two, "172.30.4.2")]))
    both = lab.start(
        container_spec("both", [endpoint(one, "172.30.0.3"), endpoint(two, "172.30.4.3")])
    )
    lab.resolver()
    wait_until(lambda: addresses("web", one.gateway) and addresses("db", two.gateway))
    assert ask("db", one.gateway).rcode() != dns.rcode.NOERROR
    with both.inside():  # asks on its first network, and is known on the other
        assert texts(ask("db", one.gateway)) == ["172.30.4.2"]


def test_the_rest_of_the_world_fails_fast_when_it_is_away(lab: Lab) -> None:
    outer, inner = lab.network("172.30.0.0/22"), lab.network("172.30.4.0/22", internal=True)
    for network in (outer, inner):
        lab.networks.register_names(container_spec("web", [endpoint(network, network.gateway)]))
    lab.resolver()
    wait_until(lambda: addresses("web", outer.gateway) and addresses("web", inner.gateway))
    begin = time.monotonic()
    assert ask("example.org", outer.gateway).rcode() == dns.rcode.SERVFAIL
    assert time.monotonic() - begin < 4.5 * PATIENCE
    # An internal network's containers ask nothing outside: names would carry data out.
    assert ask("example.org", inner.gateway).rcode() == dns.rcode.NXDOMAIN


def test_it_survives_being_killed(lab: Lab) -> None:
    network = lab.network("172.30.0.0/22")
    lab.networks.register_names(container_spec("web", [endpoint(network, "172.30.0.2")]))
    first = lab.resolver()
    wait_until(lambda: addresses("web", network.gateway))
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert addresses("web", network.gateway) == []
    lab.resolver()
    wait_until(lambda: addresses("web", network.gateway) == ["172.30.0.2"])


def test_what_cannot_be_read_for_a_moment_is_not_forgotten(lab: Lab, tmp_path: Path) -> None:
    network = lab.network("172.30.0.0/22")
    lab.networks.register_names(container_spec("web", [endpoint(network, "172.30.0.2")]))
    switch, log = tmp_path / "switch", tmp_path / "switch.log"
    switch.write_bytes(bytes(16))
    lab.resolver(
        SLIPWAY_PRELOAD="tests.support.faults",
        SLIPWAY_FAULTS=f"seed=1,rate=1,switch={switch},sites=open+listdir+inotify",
    )
    wait_until(lambda: addresses("web", network.gateway))
    with switch.open("r+b") as file:
        file.write(b"\1")
    lab.networks.register_names(container_spec("db", [endpoint(network, "172.30.0.3")]))
    other = lab.network("172.30.4.0/22")
    lab.networks.register_names(container_spec("db", [endpoint(other, "172.30.4.3")]))
    wait_until(lambda: {"open", "inotify"} <= {line.split()[2] for line in _lines(log)})
    assert addresses("web", network.gateway) == ["172.30.0.2"]
    with switch.open("r+b") as file:
        file.write(b"\0")
    wait_until(lambda: addresses("db", network.gateway) == ["172.30.0.3"])
    wait_until(lambda: addresses("db", other.gateway) == ["172.30.4.3"])
    assert addresses("web", network.gateway) == ["172.30.0.2"]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_it_outlives_calls_on_its_sockets_that_fail(lab: Lab, tmp_path: Path, tcp: bool) -> None:
    network = lab.network("172.30.0.0/22")
    lab.networks.register_names(container_spec("web", [endpoint(network, "172.30.0.2")]))
    switch, log = tmp_path / "switch", tmp_path / "switch.log"
    switch.write_bytes(bytes(16))
    sites = ("recv", "send") if tcp else ("recvfrom", "sendto")
    process = lab.resolver(
        SLIPWAY_PRELOAD="tests.support.faults",
        SLIPWAY_FAULTS=f"seed=1,rate=0.5,switch={switch},sites={'+'.join(sites)}",
    )
    wait_until(lambda: addresses("web", network.gateway))
    with switch.open("r+b") as file:
        file.write(b"\1")
    met: set[str] = set()
    while met < set(sites):
        with contextlib.suppress(dns.exception.DNSException, OSError, EOFError):
            ask("web", network.gateway, tcp=tcp, timeout=0.1)
        met = {line.split()[2] for line in _lines(log)} if log.exists() else set()
    with switch.open("r+b") as file:
        file.write(b"\0")
    assert texts(ask("web", network.gateway, tcp=tcp)) == ["172.30.0.2"]
    assert process.poll() is None


def test_a_host_without_descriptors_costs_a_client_its_turn_and_no_processor(
    lab: Lab, tmp_path: Path
) -> None:
    network = lab.network("172.30.0.0/22")
    lab.networks.register_names(container_spec("web", [endpoint(network, "172.30.0.2")]))
    switch, log = tmp_path / "switch", tmp_path / "switch.log"
    switch.write_bytes(bytes(16))
    lab.resolver(
        SLIPWAY_PRELOAD="tests.support.faults",
        SLIPWAY_FAULTS=f"seed=1,rate=1,switch={switch},sites=accept",
    )
    wait_until(lambda: addresses("web", network.gateway))
    with switch.open("r+b") as file:
        file.write(b"\1")
    query = dns.message.make_query("web", "A", use_edns=False)
    with socket.create_connection((network.gateway, 53), timeout=10 * PATIENCE) as waiting:
        wait_until(lambda: len(_lines(log)) >= 3)
        first, *_, last = (float(line.split()[0]) for line in _lines(log))
        assert last - first > 0.5
        assert texts(ask("web", network.gateway)) == ["172.30.0.2"]
        with switch.open("r+b") as file:
            file.write(b"\0")
        dns.query.send_tcp(waiting, query)
        assert texts(dns.query.receive_tcp(waiting)[0]) == ["172.30.0.2"]


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_it_gives_up_root_and_stays_small(lab: Lab) -> None:
    network = lab.network("172.30.0.0/22")
    lab.networks.register_names(container_spec("web", [endpoint(network, "172.30.0.2")]))
    process = lab.resolver()
    wait_until(lambda: addresses("web", network.gateway))
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
    )
    assert status["Uid"].split() != ["0"] * 4
    assert set(status["Uid"].split()) == {status["Uid"].split()[0]}
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 1 << 10
    assert int(status["VmRSS"].split()[0]) < 24_000
    process.terminate()
    assert process.wait(5 * PATIENCE) == 0


def test_a_stranger_gets_no_answer(lab: Lab) -> None:
    network = lab.network("172.30.0.0/22")
    lab.networks.register_names(container_spec("web", [endpoint(network, "172.30.0.2")]))
    lab.resolver()
    wait_until(lambda: addresses("web", network.gateway))
    with pytest.raises(dns.exception.Timeout):
        dns.query.udp(
            dns.message.make_query("web", "A"), network.gateway, timeout=0.3, source="127.0.0.1"
        )


def test_a_container_that_publishes_port_53_everywhere_does_not_take_it(lab: Lab) -> None:
    network = lab.network("172.30.0.0/22")
    ports = tuple(PortMapping(53, 53, protocol) for protocol in ("udp", "tcp"))
    spec = container_spec("pihole", [endpoint(network, "172.30.0.2")], ports)
    client = lab.start(spec)
    lab.networks.publish(spec)
    lab.resolver()
    with client.inside():
        wait_until(lambda: addresses("pihole", network.gateway) == ["172.30.0.2"])
        assert texts(ask("pihole", network.gateway, tcp=True)) == ["172.30.0.2"]


def test_nonsense_does_not_stop_it(lab: Lab) -> None:
    network = lab.network("172.30.0.0/22")
    lab.networks.register_names(container_spec("web", [endpoint(network, "172.30.0.2")]))
    (lab.config.dns / network.id / "half.json").write_text("{")
    (lab.config.dns / "not-a-network").mkdir()
    (lab.config.dns / "stray").write_text("x")
    lab.resolver()
    wait_until(lambda: addresses("web", network.gateway))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((network.gateway, 53))
        for junk in (
            b"",
            b"\0" * 3,
            b"\xff" * 40,
            os.urandom(200),
            b"\0" * 12,
            b"\0\0\1\0\0\1" + b"\0" * 6 + b"\xc0\x0c",
        ):
            client.send(junk)
    with socket.create_connection((network.gateway, 53)) as stream:
        stream.sendall(b"\0\5junk!\xff\xff")
    assert addresses("web", network.gateway) == ["172.30.0.2"]
