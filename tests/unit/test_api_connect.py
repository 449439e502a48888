"""/api/v1/networks/…/connect and …/disconnect: what is reserved, refused, and left when it fails."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client

from runtime.errors import KernelFailure, NotFound
from runtime.model.codec import from_json
from runtime.model.spec import ContainerSpec, EndpointSpec
from runtime.model.state import Observed, RunState, Status
from tests.support.web import Site
from webui.containers.models import Container
from webui.networks.models import Endpoint
from webui.operations.models import Event, Operation
from webui.operations.services import operation_cancel
from workers import base, instance
from workers.tasks import joining as tasks


class Host:
    """The engine's part: what the host's disk says of one container."""

    def __init__(self, container: Container) -> None:
        self.spec = from_json(ContainerSpec, container.spec)
        self.joining = self
        self.networks = SimpleNamespace(get=lambda network_id: None)
        self.failure: Exception | None = None
        self.enforced: list[str] = []

    def connect(self, container_id: str, endpoint: EndpointSpec) -> ContainerSpec:
        if self.failure:
            raise self.failure
        self.spec = replace(self.spec, endpoints=(*self.spec.endpoints, endpoint))
        return self.spec

    def disconnect(self, container_id: str, network_id: str) -> ContainerSpec:
        if self.failure:
            raise self.failure
        kept = tuple(e for e in self.spec.endpoints if e.network_id != network_id)
        self.spec = replace(self.spec, endpoints=kept)
        return self.spec

    def enforce(self, container_id: str, network_id: str) -> ContainerSpec:
        self.enforced.append(network_id)
        return self.spec

    def inspect(self, container_id: str) -> ContainerSpec:
        if isinstance(self.failure, NotFound):
            raise self.failure
        return self.spec

    def observe(self, container_id: str) -> Observed:
        return Observed(container_id, Status.RUNNING, RunState(Status.RUNNING, "boot"))


@pytest.fixture
def web(site: Site) -> Container:
    site.api().post("networks", {"name": "backend", "subnet": "10.9.0.0/24", "ipv6": True})
    site.sent.clear()
    return site.running("web", network_aliases=["www"])


@pytest.fixture
def host(web: Container, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(web)
    monkeypatch.setattr(instance, "engine", lambda: made)
    return made


def work(kind: str) -> Operation:
    """What the worker does with the operation of this kind that waits."""
    operation = Operation.objects.get(kind=f"container.{kind}", status=Operation.Status.PENDING)
    base.execute(str(operation.pk), getattr(tasks, kind), tasks._follow)
    operation.refresh_from_db()
    return operation


def networks(site: Site) -> list[str]:
    return [n["name"] for n in site.api().get("containers/web")["networks"]]


def test_a_container_is_connected_and_disconnected(site: Site, web: Container, host: Host) -> None:
    body = {"container": "web", "aliases": ["db"], "ip": "10.9.0.7"}
    asked = site.api().post("networks/backend/connect", body)
    assert (asked["kind"], asked["target_name"]) == ("container.connect", "web")
    # Reserved at once: nobody else gets the address meanwhile.
    other = site.api().post(
        "containers",
        {"image": "slipway/starter", "network": "backend", "ip": "10.9.0.7"},
        expect=409,
    )
    assert other["extra"]["field"] == "ip"
    assert work("connect").status == "succeeded"
    assert networks(site) == ["default", "backend"]
    web.refresh_from_db()
    endpoint = from_json(ContainerSpec, web.spec).endpoints[1]
    assert (endpoint.address, endpoint.aliases) == ("10.9.0.7", ("db",))
    assert endpoint.address6
    assert endpoint == host.spec.endpoints[1]
    [event] = Event.objects.filter(type="container.connected")
    assert (event.user, event.data["network_name"]) == (site.users["operator"], "backend")

    site.api().post("networks/backend/disconnect", {"container": web.pk[:12]})
    assert Endpoint.objects.filter(address="10.9.0.7").exists()
    assert work("disconnect").status == "succeeded"
    assert not Endpoint.objects.filter(address="10.9.0.7").exists()
    web.refresh_from_db()
    assert [e["network_id"] for e in web.spec["endpoints"]] == [site.network.pk]
    assert Event.objects.filter(type="container.disconnected").count() == 1
    assert networks(site) == ["default"]


def test_the_last_network_may_be_left(site: Site, web: Container, host: Host) -> None:
    site.api().post("networks/default/disconnect", {"container": "web"})
    work("disconnect")
    assert networks(site) == []
    # What is changed later may be changed all the same.
    site.api().patch("containers/web", {"ulimits": ["nofile=1024"]})


@pytest.mark.parametrize(
    ("network", "body", "field", "status"),
    [
        ("backend", {"ip": "10.8.0.7"}, "ip", 422),
        ("backend", {"ip": "10.9.0.1"}, "ip", 422),
        ("backend", {"ip": "10.9.0.9"}, "ip", 409),
        ("backend", {"ip": "nonsense"}, "ip", 422),
        ("other", {"ip6": "fd00::7"}, "ip6", 422),
        ("backend", {"mac_address": "03:00:00:00:00:01"}, "mac_address", 422),
        ("backend", {"aliases": ["not a name"]}, "aliases[0]", 422),
        ("backend", {"aliases": ["fine", "DB"]}, "aliases[1]", 409),
        ("backend", {"link_local_ips": ["10.0.0.1"]}, "link_local_ips[0]", 422),
        ("backend", {"colour": "red"}, "colour", 422),
        ("default", {}, "container", 409),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(
    site: Site, web: Container, network: str, body: dict[str, Any], field: str, status: int
) -> None:
    site.api().post("networks", {"name": "other"})
    site.make("db", network="backend", ip="10.9.0.9")
    path = f"networks/{network}/connect"
    error = site.api().post(path, {"container": "web", **body}, expect=status)
    assert error["extra"]["field"] == field
    assert error["extra"]["hint"]
    assert web.endpoints.count() == 1


def test_unknown_names_are_not_found(site: Site, web: Container) -> None:
    api = site.api()
    for action in ("connect", "disconnect"):
        api.post(f"networks/nowhere/{action}", {"container": "web"}, expect=404)
        api.post(f"networks/backend/{action}", {"container": "nobody"}, expect=404)
    error = api.post("networks/backend/disconnect", {"container": "web"}, expect=404)
    assert error["extra"]["field"] == "container"
    assert "default" in error["extra"]["hint"]


@pytest.mark.parametrize("network", ["host", "none", "container:web"])
def test_only_a_network_of_its_own_can_be_joined_to_others(
    site: Site, web: Container, network: str
) -> None:
    site.running("alone", network=network)
    error = site.api().post("networks/backend/connect", {"container": "alone"}, expect=422)
    assert error["extra"]["field"] == "container"
    assert error["extra"]["hint"]


def test_one_that_is_not_made_yet_or_dead_waits(site: Site, web: Container) -> None:
    site.make("new")
    Container.objects.filter(name="web").update(status="dead")
    for name in ("new", "web"):
        error = site.api().post("networks/backend/connect", {"container": name}, expect=409)
        assert error["code"] == "bad_state"


def test_one_change_of_a_network_comes_after_the_other(site: Site, web: Container) -> None:
    api = site.api()
    api.post("networks/backend/connect", {"container": "web"})
    for action in ("connect", "disconnect"):
        api.post(f"networks/backend/{action}", {"container": "web"}, expect=409)
    error = api.delete("networks/backend", expect=409)
    assert error["extra"]["members"] == ["web"]


def test_a_network_that_is_being_removed_takes_nobody(site: Site, web: Container) -> None:
    site.api().delete("networks/backend")
    error = site.api().post("networks/backend/connect", {"container": "web"}, expect=409)
    assert error["extra"]["field"] == "network"


def test_a_connection_that_fails_leaves_nothing(site: Site, web: Container, host: Host) -> None:
    host.failure = KernelFailure("write", 5, "/somewhere")
    site.api().post("networks/backend/connect", {"container": "web"})
    assert work("connect").status == "failed"
    assert (networks(site), web.endpoints.count()) == (["default"], 1)
    assert host.enforced == [Operation.objects.first().params["network"]]  # type: ignore[union-attr]
    assert not Event.objects.filter(type="container.connected").exists()


def test_a_disconnection_that_fails_keeps_the_address(
    site: Site, web: Container, host: Host
) -> None:
    host.failure = KernelFailure("write", 5, "/somewhere")
    site.api().post("networks/default/disconnect", {"container": "web"})
    assert work("disconnect").status == "failed"
    assert networks(site) == ["default"]


def test_a_container_that_is_gone_reserves_nothing(site: Site, web: Container, host: Host) -> None:
    host.failure = NotFound("There is no such container.")
    site.api().post("networks/backend/connect", {"container": "web"})
    assert work("connect").status == "failed"
    assert web.endpoints.count() == 1


def test_a_worker_that_dies_after_the_work_is_followed_by_one_that_finishes_it(
    site: Site, web: Container, host: Host
) -> None:
    site.api().post("networks/backend/connect", {"container": "web"})
    operation = Operation.objects.get(kind="container.connect")
    endpoint = from_json(EndpointSpec, operation.params["endpoint"])
    host.connect(web.pk, endpoint)  # and the worker died
    host.connect = lambda *_: host.spec  # type: ignore[method-assign]
    assert work("connect").status == "succeeded"
    assert networks(site) == ["default", "backend"]


def test_a_connection_that_is_cancelled_before_it_began_reserves_nothing(
    site: Site, web: Container
) -> None:
    site.api().post("networks/backend/connect", {"container": "web"})
    operation_cancel(operation=Operation.objects.get(kind="container.connect"), user=None)
    assert web.endpoints.count() == 1


def test_who_may_only_look_changes_nothing(site: Site, web: Container) -> None:
    for api, expect in ((site.api("viewer"), 403), (site.stranger(), 401)):
        for action in ("connect", "disconnect"):
            api.post(f"networks/default/{action}", {"container": "web"}, expect=expect)


def _page(site: Site, role: str, path: str, *, expect: int = 200) -> str:
    client = Client()
    client.force_login(site.users[role])
    answer = client.get(path)
    assert answer.status_code == expect
    return answer.content.decode()


def test_its_page_offers_it_to_those_who_may(site: Site, web: Container) -> None:
    path = f"/containers/{web.pk}/"
    seen = _page(site, "viewer", path)
    assert 'data-testid="container-network"' in seen
    assert "connect-network" not in seen
    seen = _page(site, "operator", path)
    assert 'data-testid="connect-network"' in seen
    assert 'data-testid="disconnect-network"' in seen
    alone = site.running("alone", network="host")
    assert "connect-network" not in _page(site, "operator", f"/containers/{alone.pk}/")


def test_the_dialogs_say_what_it_means(site: Site, web: Container) -> None:
    alone = site.running("alone", network="none")
    published = site.running("published", ports=["8080:80"], network="backend")
    backend = published.endpoints.get().network_id
    connect = _page(site, "operator", f"/containers/{web.pk}/networks/connect/")
    assert backend in connect
    assert site.network.pk not in connect
    to = _page(site, "operator", f"/networks/{backend}/connect/")
    assert ">web<" in to
    assert ">alone<" not in to
    assert ">published<" not in to
    assert f"/containers/{published.pk}/networks/{backend}/disconnect/" in to
    leave = f"/containers/{published.pk}/networks/{backend}/disconnect/"
    assert "stop answering" in _page(site, "operator", leave)
    assert "last network" in _page(
        site, "operator", f"/containers/{web.pk}/networks/{site.network.pk}/disconnect/"
    )
    for path in (leave, f"/containers/{web.pk}/networks/connect/", f"/networks/{backend}/connect/"):
        _page(site, "viewer", path, expect=403)
    _page(site, "operator", f"/containers/{alone.pk}/networks/{backend}/disconnect/", expect=404)
