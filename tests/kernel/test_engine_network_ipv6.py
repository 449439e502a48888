"""Whole containers on networks with IPv6."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from runtime.model.spec import PortMapping, Restart
from runtime.network.sysctls import has_ipv6
from tests.support.engine import Instance, free_port
from tests.support.netns import TIMEOUT, fresh_netns, reaches
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6")

ONE = "fd00:0:0:1::/64"


@pytest.fixture
def instance() -> Iterator[Instance]:
    with fresh_netns(), Instance() as made:
        yield made


def settings_script() -> str:
    names = ("disable_ipv6", "accept_ra")
    return "; ".join(f"echo {n}=$(cat /proc/sys/net/ipv6/conf/eth0/{n})" for n in names)


def test_a_container_has_its_addresses_route_and_names(instance: Instance) -> None:
    network = instance.network(subnet6=ONE, gateway6="fd00:0:0:1::1")
    six = {"address6": "fd00:0:0:1::5", "prefix_length6": 64, "gateway6": network.gateway6}
    end = instance.endpoint(network, **six)
    script = f"ip -6 addr show dev eth0; ip -6 route; cat /etc/hosts; {settings_script()}; echo end"
    spec = instance.run(instance.shell(script, endpoints=(end,)))
    output = instance.wait_for_output(spec, "\nend")
    assert "inet6 fd00:0:0:1::5/64 scope global" in output
    assert "tentative" not in output
    assert "default via fd00:0:0:1::1 dev eth0" in output
    assert f"fd00:0:0:1::5\t{spec.short_id}" in output
    assert "disable_ipv6=0" in output
    assert "accept_ra=0" in output


def test_a_container_without_ipv6_has_none_but_its_loopback(instance: Instance) -> None:
    script = f"{settings_script()}; cat /proc/net/if_inet6; echo end"
    spec = instance.run(instance.shell(script, network=instance.network()))
    output = instance.wait_for_output(spec, "\nend")
    assert "disable_ipv6=1" in output
    assert "eth0" not in output
    assert " lo\n" in output


def test_a_web_server_answers_by_literal_and_on_the_published_port(instance: Instance) -> None:
    network, port = instance.network(subnet6=ONE, gateway6="fd00:0:0:1::1"), free_port()
    six = {"prefix_length6": 64, "gateway6": network.gateway6}
    script = "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p [::]:80 -h /www"
    server = instance.shell(
        script,
        endpoints=(instance.endpoint(network, address6="fd00:0:0:1::5", **six),),
        ports=(PortMapping(80, port, host_ip="::1"),),
    )
    server = instance.run(server)
    wait_until(lambda: reaches("::1", port, TIMEOUT), what="the published port")
    loop = "until wget -qO- http://[fd00:0:0:1::5]/; do sleep 0.1; done; echo end"
    client = instance.shell(
        loop, endpoints=(instance.endpoint(network, address6="fd00:0:0:1::6", **six),)
    )
    assert "hello" in instance.wait_for_output(instance.run(client), "end")
    instance.engine.stop(server.id, timeout=0)
    assert not reaches("::1", port)
    assert instance.engine.networks.published() == set()


def test_a_restart_by_policy_keeps_address_and_port(instance: Instance) -> None:
    network, port = instance.network(subnet6=ONE, gateway6="fd00:0:0:1::1"), free_port()
    end = instance.endpoint(network, address6="fd00:0:0:1::5", gateway6=network.gateway6)
    script = "httpd -f -p [::]:80 -h /etc & sleep 0.5; exit 1"
    spec = instance.run(
        instance.shell(
            script,
            endpoints=(end,),
            ports=(PortMapping(80, port, host_ip="::1"),),
            restart=Restart("always"),
        )
    )
    wait_until(lambda: len(instance.engine.exits(spec.id)) >= 1, timeout=20)
    wait_until(lambda: answers(port), timeout=20, what="the port of the second run")


def answers(port: int) -> bool:
    """Whether a server answers, not just the network on its way to it."""
    try:
        with socket.create_connection(("::1", port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
            return connection.recv(16).startswith(b"HTTP/1.")
    except OSError:
        return False
