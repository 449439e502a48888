"""Networks joined and left by a container that exists: links, addresses, names and ports as the kernel has them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import Conflict, KernelFailure, NotFound, SpecInvalid
from runtime.model.codec import to_json
from runtime.model.spec import ContainerSpec, EndpointSpec, NetworkSpec, PortMapping, Restart
from runtime.model.state import Status
from runtime.network.sysctls import has_ipv6
from runtime.store.files import write_json
from tests.support.engine import CHECKOUT, Instance, free_port
from tests.support.options import Seen, started
from tests.support.resolver import lookup, resolver
from tests.support.waiting import wait_until

SERVER = ["sh", "-c", "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"]


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


def connect(
    instance: Instance, seen: Seen, network: NetworkSpec, **changes: object
) -> EndpointSpec:
    endpoint = instance.endpoint(network, **changes)
    seen.spec = instance.engine.joining.connect(seen.spec.id, endpoint)
    return endpoint


def disconnect(instance: Instance, seen: Seen, network: NetworkSpec) -> None:
    seen.spec = instance.engine.joining.disconnect(seen.spec.id, network.id)


def interfaces(seen: Seen) -> list[str]:
    lines = seen.proc("net/dev").splitlines()[2:]
    return sorted(line.partition(":")[0].strip() for line in lines)


def answers(port: int, host: str = "127.0.0.1") -> bool:
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(16).startswith(b"HTTP/1")
    except OSError:
        return False


def check_whole(instance: Instance, spec: ContainerSpec) -> None:
    """Disk and kernel say the same of its networks, and nothing else is there."""
    assert instance.engine.inspect(spec.id) == spec
    manager = instance.engine.networks
    due = {manager.ifname(spec.id, e.network_id) for e in spec.endpoints}
    assert {
        n for n in os.listdir("/sys/class/net") if n.startswith(f"{instance.config.tag}v")
    } == due
    found = set(instance.config.dns.glob(f"*/{spec.id}.json"))
    assert found == {instance.config.dns / e.network_id / f"{spec.id}.json" for e in spec.endpoints}


def test_a_running_container_joins_a_network_and_leaves_it(instance: Instance) -> None:
    front, back = instance.network(), instance.network()
    seen, other = started(instance, on=front), started(instance, on=back)
    with resolver(instance):
        endpoint = connect(instance, seen, back, aliases=("cache",))
        assert interfaces(seen) == ["eth0", "eth1", "lo"]
        shown = seen.run("ip", "addr", "show", "eth1")
        assert f"inet {endpoint.address}/24" in shown
        assert endpoint.mac_address in shown
        assert seen.run("ip", "route").count("default") == 1
        assert f"{endpoint.address}\t" in seen.run("cat", "/etc/hosts")
        seen.run("ping", "-c", "1", "-W", "3", other.spec.endpoints[0].address)
        for name in (seen.spec.name, "cache"):
            wait_until(lambda n=name: endpoint.address in lookup(other, n), what=name)  # type: ignore[misc]
        other_address = other.spec.endpoints[0].address
        wait_until(lambda: other_address in lookup(seen, other.spec.name))

        disconnect(instance, seen, back)
        assert interfaces(seen) == ["eth0", "lo"]
        assert endpoint.address not in seen.run("cat", "/etc/hosts")
        seen.fails("ping", "-c", "1", "-W", "1", other_address)
        assert lookup(other, "cache") == ""
        assert lookup(seen, other.spec.name) == ""
    instance.engine.remove(other.spec.id, force=True)
    check_whole(instance, seen.spec)


def test_networks_stay_over_restarts(instance: Instance) -> None:
    front, middle, back = (instance.network() for _ in range(3))
    seen = started(instance, on=front, also=(middle,), restart="always")
    endpoint = connect(instance, seen, back)
    disconnect(instance, seen, middle)
    assert interfaces(seen) == ["eth0", "eth2", "lo"]
    pid = seen.pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: seen.state.status == Status.RUNNING and seen.pid not in (0, pid))
    assert interfaces(seen) == ["eth0", "eth2", "lo"]
    instance.engine.restart(seen.spec.id)
    assert interfaces(seen) == ["eth0", "eth1", "lo"]
    assert f"inet {endpoint.address}/24" in seen.run("ip", "addr", "show", "eth1")
    check_whole(instance, seen.spec)


def test_ports_lead_through_the_networks_that_remain(instance: Instance) -> None:
    front, back = instance.network(), instance.network()
    port = free_port()
    seen = started(instance, on=front, command=SERVER, ports=[f"{port}:80"])
    wait_until(lambda: answers(port), what="its port")
    before = instance.engine.networks.published()
    second = connect(instance, seen, back)
    assert instance.engine.networks.published() == before
    disconnect(instance, seen, front)
    assert {p.address for p in instance.engine.networks.published()} == {second.address}
    assert seen.run("ip", "route").startswith(f"default via {back.gateway}")
    assert f"nameserver {back.gateway}" in seen.run("cat", "/etc/resolv.conf")
    wait_until(lambda: answers(port), what="its port by the other network")
    disconnect(instance, seen, back)
    assert instance.engine.networks.published() == set()
    assert not answers(port)
    assert interfaces(seen) == ["lo"]
    check_whole(instance, seen.spec)
    # So it may be started, renamed and updated as well.
    instance.engine.restart(seen.spec.id)
    instance.engine.rename(seen.spec.id, "alone")
    instance.engine.update(seen.spec.id, restart=Restart("always"))
    connect(instance, seen, front)
    wait_until(lambda: answers(port), what="its port again")


def test_an_internal_network_gives_no_way_out_and_one_with_it_comes_first(
    instance: Instance,
) -> None:
    inner, outer = instance.network(internal=True), instance.network()
    port = free_port()
    seen = started(instance, on=inner, command=SERVER, ports=[f"{port}:80"])
    assert "default" not in seen.run("ip", "route")
    outward = connect(instance, seen, outer)
    assert f"default via {outer.gateway} dev eth1" in seen.run("ip", "route")
    assert {p.address for p in instance.engine.networks.published()} == {outward.address}
    wait_until(lambda: answers(port), what="its port")
    disconnect(instance, seen, outer)
    assert "default" not in seen.run("ip", "route")


@pytest.mark.skipif(not has_ipv6(), reason="the kernel has no IPv6")
def test_ipv6_comes_and_goes_with_its_network(instance: Instance) -> None:
    plain = instance.network()
    six = instance.network(subnet6="fd00:5:1::/64", gateway6="fd00:5:1::1")
    port = free_port()
    endpoint = instance.endpoint(six, address6="fd00:5:1::7", gateway6=six.gateway6)
    on_both = (PortMapping(80, port), PortMapping(80, port, host_ip="::"))
    spec = instance.run(instance.spec(*SERVER, endpoints=(endpoint,), ports=on_both))
    seen = Seen(instance, spec)
    wait_until(lambda: answers(port, "::1"), what="its port on ::1")
    connect(instance, seen, plain)
    assert "inet6" not in seen.run("ip", "addr", "show", "eth1")
    disconnect(instance, seen, six)
    assert not answers(port, "::1")
    wait_until(lambda: answers(port), what="its port on 127.0.0.1")
    instance.engine.restart(spec.id)
    seen.spec = instance.engine.joining.connect(spec.id, endpoint)
    assert "fd00:5:1::7/64" in seen.run("ip", "addr", "show", "eth1")
    assert "fd00:5:1::1" in seen.run("ip", "-6", "route", "show", "default")
    wait_until(lambda: answers(port, "::1"), what="its port on ::1 again")


def test_one_that_does_not_run_has_its_networks_at_the_next_start(instance: Instance) -> None:
    front, back = instance.network(), instance.network()
    spec = instance.create(instance.spec(network=front))
    endpoint = instance.endpoint(back)
    changed = instance.engine.joining.connect(spec.id, endpoint)
    instance.engine.joining.disconnect(spec.id, front.id)
    assert [e.network_id for e in changed.endpoints] == [front.id, back.id]
    instance.engine.start(spec.id)
    seen = Seen(instance, instance.engine.inspect(spec.id))
    assert seen.spec.endpoints == (endpoint,)
    assert f"inet {endpoint.address}/24" in seen.run("ip", "addr", "show", "eth0")
    check_whole(instance, seen.spec)


def test_a_paused_one_and_one_between_two_lives_join_as_well(instance: Instance) -> None:
    front, back = instance.network(), instance.network()
    seen = started(instance, on=front)
    instance.engine.pause(seen.spec.id)
    endpoint = connect(instance, seen, back)
    instance.engine.unpause(seen.spec.id)
    assert f"inet {endpoint.address}/24" in seen.run("ip", "addr", "show", "eth1")
    failing = Seen(
        instance,
        instance.run(
            instance.shell("[ -e /again ] && sleep 1000; touch /again; sleep 0.2; exit 1",
                           network=front, restart=Restart("always"))
        ),
    )  # fmt: skip
    instance.wait_for(failing.spec, Status.RESTARTING)
    late = connect(instance, failing, back)
    wait_until(lambda: failing.state.restart_count == 1 and failing.state.pid)
    assert f"inet {late.address}/24" in failing.run("ip", "addr", "show", "eth1")


def test_who_shares_its_network_has_its_interfaces_and_its_files(instance: Instance) -> None:
    front, back = instance.network(), instance.network()
    first = started(instance, on=front)
    second = started(instance, network=f"container:{first.spec.id}")
    second.run("sh", "-c", "echo 192.0.2.1 mine >> /etc/hosts")
    connect(instance, first, back)
    assert interfaces(second) == interfaces(first) == ["eth0", "eth1", "lo"]
    assert first.run("cat", "/etc/hosts") in second.run("cat", "/etc/hosts").replace(
        "192.0.2.1 mine\n", ""
    )
    disconnect(instance, first, front)
    assert "192.0.2.1 mine" in second.run("cat", "/etc/hosts")
    assert first.run("cat", "/etc/resolv.conf") == second.run("cat", "/etc/resolv.conf")
    for endpoint in (instance.endpoint(front), instance.endpoint(back)):
        with pytest.raises(SpecInvalid):
            instance.engine.joining.connect(second.spec.id, endpoint)


def test_what_the_container_does_with_its_interfaces_keeps_nobody_from_changing_others(
    instance: Instance,
) -> None:
    front, middle, back = (instance.network() for _ in range(3))
    seen = started(instance, on=front, also=(middle,), cap_add=["NET_ADMIN"])
    seen.run("ip", "link", "set", "eth1", "down")
    seen.run("ip", "link", "set", "eth1", "name", "mine")
    seen.run("ip", "addr", "flush", "dev", "eth0")
    connect(instance, seen, back)
    assert interfaces(seen) == ["eth0", "eth1", "lo", "mine"]
    disconnect(instance, seen, middle)
    seen.run("ip", "link", "delete", "eth0")
    disconnect(instance, seen, front)
    assert interfaces(seen) == ["eth1", "lo"]
    assert f"default via {back.gateway} dev eth1" in seen.run("ip", "route")
    check_whole(instance, seen.spec)


def test_what_cannot_be_joined_is_said_and_changes_nothing(instance: Instance) -> None:
    network = instance.network()
    seen = started(instance, on=network)
    ghost = instance.endpoint(network, network_id="e" * 64)
    with pytest.raises(NotFound) as missing:
        instance.engine.joining.connect(seen.spec.id, ghost)
    assert missing.value.extra["field"] == "endpoints[1].network_id"
    with pytest.raises(Conflict) as twice:
        instance.engine.joining.connect(seen.spec.id, instance.endpoint(network))
    assert twice.value.hint
    for mode in ("host", "none"):
        alone = started(instance, network=mode)
        with pytest.raises(SpecInvalid) as caught:
            instance.engine.joining.connect(alone.spec.id, instance.endpoint(network))
        assert caught.value.field == "endpoints"
        instance.engine.remove(alone.spec.id, force=True)
    check_whole(instance, seen.spec)


@pytest.mark.parametrize("step", ["register_names", "republish", "write_spec", "set_up"])
def test_a_step_that_fails_takes_the_others_back(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    front, back = instance.network(), instance.network()
    port = free_port()
    seen = started(instance, on=front, command=SERVER, ports=[f"{port}:80"])
    failures = iter([KernelFailure("write", 5, "/somewhere")])
    owner = {
        "write_spec": instance.engine.bundles,
        "set_up": sys.modules["runtime.engine.inside"],
    }.get(step, instance.engine.networks)
    work = getattr(owner, step)

    def fails_once(*args: object) -> object:
        for failure in failures:
            raise failure
        return work(*args)

    monkeypatch.setattr(owner, step, fails_once)
    with pytest.raises(KernelFailure):
        instance.engine.joining.connect(seen.spec.id, instance.endpoint(back))
    assert interfaces(seen) == ["eth0", "lo"]
    check_whole(instance, seen.spec)
    wait_until(lambda: answers(port), what="its port")


_KILLED = """
import json, os, signal, sys
from runtime.engine import Engine, inside
from runtime.model.codec import from_json
from runtime.model.spec import EndpointSpec
from runtime.store.paths import Config

step, container, asked = sys.argv[1:]
engine = Engine(Config.from_env())
owner = {"write_spec": engine.bundles, "set_up": inside}.get(step, engine.networks)
setattr(owner, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
asked = json.load(open(asked))
if isinstance(asked, str):
    engine.joining.disconnect(container, asked)
else:
    engine.joining.connect(container, from_json(EndpointSpec, asked))
"""


def _killed_at(instance: Instance, step: str, spec: ContainerSpec, asked: object) -> None:
    """A worker that dies by SIGKILL when it comes to this step."""
    note = instance.config.run / "asked.json"
    write_json(note, asked)
    environment = {
        **os.environ, "SLIPWAY_ROOT": str(instance.config.root),
        "SLIPWAY_RUN": str(instance.config.run), "SLIPWAY_NAME": instance.config.name,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, step, spec.id, str(note)],
        cwd=CHECKOUT, env=environment, check=False,
    )  # fmt: skip
    Path(note).unlink()
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("step", ["set_up", "republish", "register_names", "write_spec"])
def test_a_connection_whose_worker_is_killed_is_made_by_the_next(
    instance: Instance, step: str
) -> None:
    front, back = instance.network(), instance.network()
    seen, endpoint = started(instance, on=front), instance.endpoint(back)
    if step == "republish":
        seen = started(instance, on=front, ports=[f"{free_port()}:80"])
    _killed_at(instance, step, seen.spec, to_json(endpoint))
    seen.spec = instance.engine.joining.connect(seen.spec.id, endpoint)
    assert f"inet {endpoint.address}/24" in seen.run("ip", "addr", "show", "eth1")
    for other in set(instance.engine.bundles.ids()) - {seen.spec.id}:
        instance.engine.remove(other, force=True)
    check_whole(instance, seen.spec)


@pytest.mark.parametrize("step", ["unregister_names", "detach", "write_spec"])
def test_a_disconnection_whose_worker_is_killed_is_done_or_taken_back(
    instance: Instance, step: str
) -> None:
    front, back = instance.network(), instance.network()
    seen = started(instance, on=front, also=(back,))
    _killed_at(instance, step, seen.spec, back.id)
    # As after the last attempt: disk says what is.
    instance.engine.joining.enforce(seen.spec.id, back.id)
    assert interfaces(seen) == ["eth0", "eth1", "lo"]
    address = seen.spec.endpoints[1].address
    assert f"inet {address}/24" in seen.run("ip", "addr", "show", "eth1")
    check_whole(instance, seen.spec)
    _killed_at(instance, step, seen.spec, back.id)
    disconnect(instance, seen, back)
    assert interfaces(seen) == ["eth0", "lo"]
    check_whole(instance, seen.spec)


def test_traffic_is_counted_on_networks_that_came_later(instance: Instance) -> None:
    front, back = instance.network(), instance.network()
    seen, other = started(instance, on=front), started(instance, on=back)
    instance.engine.stats(seen.spec.id)
    connect(instance, seen, back)
    before = instance.engine.stats(seen.spec.id)
    seen.run("ping", "-c", "2", "-i", "0.2", "-s", "1000", other.spec.endpoints[0].address)
    after = instance.engine.stats(seen.spec.id)
    assert after.net_tx - before.net_tx > 2000
