"""Containers on networks: addresses, published ports, names, traffic; and all of it gone afterwards."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from runtime.errors import EngineError, NotFound, PortInUse
from runtime.model.spec import PortMapping, Restart
from runtime.model.state import Status
from tests.support.engine import Instance, free_port
from tests.support.waiting import PATIENCE, wait_until

SERVER = "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


def fetch(address: str, port: int) -> str:
    try:
        with socket.create_connection((address, port), timeout=2 * PATIENCE) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            data = b""
            while chunk := connection.recv(4096):
                data += chunk
            return data.decode()
    except OSError:
        return ""


def test_a_container_has_its_address_and_answers_on_its_port(instance: Instance) -> None:
    network, port = instance.network(), free_port()
    spec = instance.run(instance.shell(SERVER, network=network, ports=(PortMapping(80, port),)))
    address = spec.endpoints[0].address
    wait_until(lambda: "hello" in fetch(address, 80), what="the container's own address")
    assert "hello" in fetch("127.0.0.1", port)
    assert "hello" in fetch(network.gateway, port)
    before = instance.engine.stats(spec.id)
    fetch("127.0.0.1", port)
    after = instance.engine.stats(spec.id)
    assert after.net_rx > before.net_rx
    assert after.net_tx > before.net_tx
    instance.engine.stop(spec.id, timeout=0)
    assert fetch("127.0.0.1", port) == ""
    assert instance.engine.networks.published() == set()


def test_a_restart_by_policy_keeps_address_and_port(instance: Instance) -> None:
    port = free_port()
    script = "mkdir -p /www; date > /www/index.html; echo hello >> /www/index.html; httpd -f -p 80 -h /www & sleep 0.5; exit 1"
    spec = instance.run(
        instance.shell(
            script,
            network=instance.network(),
            ports=(PortMapping(80, port),),
            restart=Restart("always"),
        )
    )
    wait_until(lambda: len(instance.engine.exits(spec.id)) >= 1, timeout=20)
    wait_until(lambda: "hello" in fetch("127.0.0.1", port), timeout=20)


def test_containers_reach_each_other_by_address(instance: Instance) -> None:
    network = instance.network()
    server = instance.run(instance.shell(SERVER, network=network))
    address = server.endpoints[0].address
    wait_until(lambda: "hello" in fetch(address, 80))
    client = instance.run(
        instance.shell(f"wget -qO- http://{address}/ && echo done", network=network)
    )
    assert "hello" in instance.wait_for_output(client, "done")


def test_hosts_names_the_container(instance: Instance) -> None:
    spec = instance.run(
        instance.shell(
            "cat /etc/hosts /etc/resolv.conf; echo done", network=instance.network(), hostname="box"
        )
    )
    out = instance.wait_for_output(spec, "done")
    assert f"{spec.endpoints[0].address}\tbox" in out
    assert f"nameserver {spec.endpoints[0].gateway}" in out


def test_two_networks_give_two_interfaces_and_one_way_out(instance: Instance) -> None:
    first, second = instance.network(), instance.network()
    spec = instance.spec("sh", "-c", "ip -o addr; ip route; echo done",
                         endpoints=(instance.endpoint(first), instance.endpoint(second)))  # fmt: skip
    instance.run(spec)
    out = instance.wait_for_output(spec, "done")
    assert f"{spec.endpoints[0].address}/24" in out
    assert f"{spec.endpoints[1].address}/24" in out
    assert [line for line in out.splitlines() if line.startswith("default")] == [
        f"default via {first.gateway} dev eth0 "
    ]


def test_a_port_taken_by_another_program_is_named(instance: Instance) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        spec = instance.create(
            instance.spec(network=instance.network(), ports=(PortMapping(80, port),))
        )
        with pytest.raises(PortInUse) as caught:
            instance.engine.start(spec.id)
    assert str(port) in caught.value.message
    assert instance.status(spec) == Status.EXITED
    assert instance.engine.cgroups.container_ids() == set()
    assert instance.engine.networks.published() == set()
    instance.engine.start(spec.id)
    assert instance.status(spec) == Status.RUNNING


def test_a_port_taken_by_another_container_is_named(instance: Instance) -> None:
    network, port = instance.network(), free_port()
    instance.run(instance.spec(network=network, ports=(PortMapping(80, port),)))
    second = instance.create(instance.spec(network=network, ports=(PortMapping(81, port),)))
    with pytest.raises(PortInUse):
        instance.engine.start(second.id)


def test_a_network_that_is_not_there_is_said_at_create(instance: Instance) -> None:
    network = instance.network()
    ghost = instance.endpoint(network, network_id="e" * 64)
    spec = instance.spec(endpoints=(ghost,))
    with pytest.raises(NotFound) as caught:
        instance.engine.create(spec)
    assert caught.value.extra["field"] == "endpoints[0].network_id"
    assert instance.engine.bundles.ids() == []


def test_a_network_in_use_stays(instance: Instance) -> None:
    network = instance.network()
    instance.run(instance.spec(network=network))
    with pytest.raises(EngineError):
        instance.engine.networks.remove(network.id)
