"""Networks with IPv6 and what containers claim on them, in /api/v1/networks and /containers."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from runtime.model.codec import from_json
from runtime.model.spec import ContainerSpec
from runtime.model.subnets import overlapping
from tests.support.web import Site
from webui.containers.asking import request_of
from webui.containers.form import initial_values
from webui.containers.models import Container
from webui.containers.moving import network_spec
from webui.containers.run_line import parse_run_line
from webui.core.templatetags.ui import port_text
from webui.networks.models import Endpoint, Network

STARTER = "slipway/starter"
SIX = {"name": "six", "subnet6": "fd00:0:0:1::/64"}


def test_a_network_with_ipv6_gets_a_private_subnet_of_its_own(site: Site) -> None:
    site.work = lambda operation: {"id": operation.target_id}
    row = site.api().post("networks?wait=true", {"name": "six", "ipv6": True}, expect=201)
    assert row["ipv6"] is True
    assert row["subnet"] == "172.30.4.0/22"
    assert overlapping(row["subnet6"], ["fd00::/8"])
    assert row["subnet6"].endswith("::/64")
    assert row["gateway6"] == row["subnet6"].removesuffix("/64") + "1"
    spec = network_spec(Network.objects.get(name="six"))
    assert (spec.subnet6, spec.gateway6) == (row["subnet6"], row["gateway6"])
    default = site.api().get("networks/default")
    assert (default["ipv6"], default["subnet6"], default["gateway6"]) == (False, "", "")


@pytest.mark.parametrize(
    "fields",
    [
        {"subnet6": "FD00:0000::9:0:0:0:0/64"},  # written at length
        {"ipv6": True, "subnet": "fd00:0:0:9::/64"},  # as docker network create --ipv6 --subnet
    ],
)
def test_a_subnet_may_be_chosen_in_any_writing(site: Site, fields: dict[str, Any]) -> None:
    site.api().post("networks", {"name": "six", **fields})
    network = Network.objects.get(name="six")
    assert (network.subnet6, network.gateway6) == ("fd00:0:0:9::/64", "fd00:0:0:9::1")
    assert network.subnet == "172.30.4.0/22"


def test_both_subnets_and_gateways_may_be_chosen(site: Site) -> None:
    fields = {"subnet": "10.9.0.0/24", "gateway": "10.9.0.9", "gateway6": "fd00:0:0:1::9"}
    site.api().post("networks", {**SIX, **fields})
    network = Network.objects.get(name="six")
    assert (network.subnet, network.gateway) == ("10.9.0.0/24", "10.9.0.9")
    assert (network.subnet6, network.gateway6) == ("fd00:0:0:1::/64", "fd00:0:0:1::9")


@pytest.mark.parametrize(
    ("fields", "field", "status"),
    [
        ({"subnet6": "nonsense"}, "subnet6", 422),
        ({"subnet6": "10.0.0.0/24"}, "subnet6", 422),
        ({"subnet6": "fd00::1/64"}, "subnet6", 422),
        ({"subnet6": "fd00::/128"}, "subnet6", 422),
        ({"subnet6": "fd00::/4"}, "subnet6", 422),
        ({"subnet6": "fe80::/64"}, "subnet6", 422),
        ({"subnet6": "ff05::/64"}, "subnet6", 422),
        ({"subnet6": "fd00:0:0:1::/80"}, "subnet6", 409),
        ({"subnet6": "fd00::/48"}, "subnet6", 409),
        ({"subnet6": "fd01::/64", "gateway6": "fd02::1"}, "gateway6", 422),
        ({"subnet6": "fd01::/64", "gateway6": "nonsense"}, "gateway6", 422),
        ({"gateway6": "fd02::1"}, "gateway6", 422),
        ({"subnet": "fd01::/64", "subnet6": "fd02::/64"}, "subnet", 422),
        ({"ipv6": "perhaps"}, "ipv6", 422),
    ],
)
def test_bad_input_names_the_field(
    site: Site, fields: dict[str, Any], field: str, status: int
) -> None:
    site.api().post("networks", SIX)
    error = site.api().post("networks", {"name": "other", **fields}, expect=status)
    assert error["extra"]["field"] == field
    assert Network.objects.count() == 2


# -- containers --------------------------------------------------------------------------------


@pytest.fixture
def six(site: Site) -> Site:
    site.api().post("networks", SIX)
    return site


def spec_of(container: Container) -> ContainerSpec:
    return from_json(ContainerSpec, container.spec)


def published(container: Container) -> list[tuple[str, int]]:
    return [(port.host_ip, port.host_port) for port in spec_of(container).ports]


def test_a_container_gets_the_next_address_or_the_one_it_asks_for(six: Site) -> None:
    first, second = (
        six.make("one", network="six"),
        six.make("two", network="six", ip6="fd00:0:0:1::3"),
    )
    third = six.make("three", network="six")
    ends = [spec_of(each).endpoints[0] for each in (first, second, third)]
    assert [e.address6 for e in ends] == ["fd00:0:0:1::2", "fd00:0:0:1::3", "fd00:0:0:1::4"]
    assert {(e.prefix_length6, e.gateway6) for e in ends} == {(64, "fd00:0:0:1::1")}
    row = six.api().get("containers/two")
    assert row["networks"][0]["address6"] == "fd00:0:0:1::3"
    members = six.api().get("networks/six")["containers"]
    assert {m["address6"] for m in members} == {e.address6 for e in ends}
    assert spec_of(six.make("four")).endpoints[0].address6 == ""


@pytest.mark.parametrize(
    ("fields", "field", "status"),
    [
        ({"ip6": "fd00:0:0:2::2"}, "ip6", 422),
        ({"ip6": "fd00:0:0:1::"}, "ip6", 422),
        ({"ip6": "fd00:0:0:1::1"}, "ip6", 422),
        ({"ip6": "172.30.4.9"}, "ip6", 422),
        ({"ip6": "nonsense"}, "ip6", 422),
        ({"ip6": "FD00:0:0:1:0::7"}, "ip6", 409),
        ({"ip": "fd00:0:0:1::9"}, "ip", 422),
        ({"network": "default", "ip6": "fd00:0:0:1::9"}, "ip6", 422),
        ({"network": "none", "ip6": "fd00:0:0:1::9"}, "ip6", 422),
        ({"network": "default", "ports": ["8080:80", "[::1]:8081:80"]}, "ports[1]", 422),
        ({"network": "default", "ports": ["[::]:8081:80"]}, "ports[0]", 422),
        ({"ports": ["[::1%eth0]:8080:80"]}, "ports[0]", 422),
        ({"ports": ["[::ffff:127.0.0.1]:8080:80"]}, "ports[0]", 422),
        ({"ports": ["8080:80", "[::]:8080:81"]}, "ports[1]", 422),
        ({"ports": ["[::]:9090:80"]}, "ports[0]", 409),
        ({"ports": ["[::1]:9090:80"]}, "ports[0]", 409),
        ({"ports": ["9090:80"]}, "ports[0]", 409),
    ],
)
def test_bad_input_makes_no_container(
    six: Site, fields: dict[str, Any], field: str, status: int
) -> None:
    six.make("holder", network="six", ip6="fd00:0:0:1::7", ports=["9090:80"])
    body = {"image": STARTER, "network": "six", **fields}
    error = six.api().post("containers", body, expect=status)
    assert error["extra"]["field"] == field
    assert Container.objects.count() == 1


def test_one_address_is_never_given_twice(six: Site) -> None:
    holder, other = six.make("one", network="six"), six.make("two")
    with pytest.raises(IntegrityError), transaction.atomic():
        Endpoint.objects.create(
            container=other,
            network=Network.objects.get(name="six"),
            address="172.30.4.200",
            address6=holder.endpoints.get().address6,
        )
    six.make("three")  # any number of endpoints have none at all


def test_a_port_without_an_address_is_on_every_one_of_both_families(six: Site) -> None:
    both = six.make("both", network="six", ports=["8080:80", "127.0.0.1:8081:80", "[::1]:8082:80"])
    assert published(both) == [
        ("0.0.0.0", 8080), ("127.0.0.1", 8081), ("::1", 8082), ("::", 8080),
    ]  # fmt: skip
    four = six.make("four", network="six", ports=["0.0.0.0:8090:80"])
    assert published(four) == [("0.0.0.0", 8090)]
    # … whose other half another container may have.
    assert published(six.make("half", network="six", ports=["[::]:8090:80"])) == [("::", 8090)]
    assert published(six.make("plain", ports=["8091:80"])) == [("0.0.0.0", 8091)]


def test_a_port_that_is_picked_is_free_in_both_families(six: Site) -> None:
    six.make("holder", network="six", ports=["[::]:8000:80"])
    chosen = published(six.make("range", network="six", ports=["8000-8002:80"]))
    assert chosen == [("0.0.0.0", 8001), ("::", 8001)]
    one, other = published(six.make("any", network="six", ports=["80"]))
    assert one[1] == other[1]


def test_a_copy_asks_for_what_the_first_one_asked_for(six: Site) -> None:
    made = six.make("web", network="six", ports=["8080:80", "[::1]:8081:81", "0.0.0.0:8082:82"])
    request = request_of(spec_of(made), {}, networks={}, names={})
    assert request["ports"] == ["8080:80/tcp", "[::1]:8081:81/tcp", "0.0.0.0:8082:82/tcp"]
    assert "ip6" not in request
    rows = initial_values(made)["ports"]
    assert [row["host_ip"] for row in rows] == ["", "::1", "0.0.0.0"]


def test_ports_are_shown_with_brackets() -> None:
    port = {"host_ip": "::", "host_port": 8080, "container_port": 80, "protocol": "tcp"}
    assert port_text(port) == "[::]:8080→80/tcp"
    assert port_text({**port, "host_ip": "::1"}) == "[::1]:8080→80/tcp"
    assert port_text({**port, "host_ip": "0.0.0.0"}) == "8080→80/tcp"


def test_a_docker_run_line_has_both() -> None:
    line = "docker run --network six --ip6 fd00:0:0:1::9 -p [::1]:8080:80 slipway/starter"
    read = parse_run_line(line)
    assert read["request"]["ip6"] == "fd00:0:0:1::9"
    assert read["ports"][0] == {
        "host_ip": "::1", "host_port": "8080", "container_port": "80", "protocol": "tcp"
    }  # fmt: skip
