"""Networks that a worker makes: those whose subnet nobody asked for get one that is free, whoever is quicker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runtime.errors import Conflict
from runtime.model.spec import NetworkSpec
from runtime.model.subnets import overlapping
from tests.support.web import Site
from webui.networks.models import Network
from webui.operations.models import Operation
from workers import base, instance
from workers.tasks import networks as tasks


class Host:
    """Somebody else takes the first `taken` subnets that a network is to have, right before it has them."""

    def __init__(self, taken: int) -> None:
        self._taken = taken
        self._used: list[str] = []
        self.made: list[str] = []
        self.networks = SimpleNamespace(ensure=self._ensure, host_subnets=lambda: self._used)

    def _ensure(self, spec: NetworkSpec) -> None:
        if self._taken:
            self._taken -= 1
            self._used.append(spec.subnet)
        if overlapping(spec.subnet, self._used):
            raise Conflict(f"Subnet {spec.subnet} is in use on this host.", field="subnet")
        self.made.append(spec.subnet)


@pytest.fixture
def run(site: Site, monkeypatch: pytest.MonkeyPatch) -> Any:
    def made(host: Host, row: Any = None, **body: Any) -> Operation:
        monkeypatch.setattr(instance, "engine", lambda: host)
        row = row or site.api().post("networks", {"name": "mine", **body})
        base.execute(row["id"], tasks.create, tasks._take_back, kind="network.create")
        return Operation.objects.get(pk=row["id"])

    return made


def test_one_that_somebody_takes_at_the_last_moment_is_not_insisted_on(run: Any) -> None:
    host = Host(taken=2)
    assert run(host).status == "succeeded"
    assert host.made == [Network.objects.get(name="mine").subnet]


@pytest.mark.parametrize(("taken", "body"), [(3, {}), (1, {"subnet": "10.77.0.0/24"})])
def test_the_end_of_patience_and_a_subnet_that_was_asked_for_are_refusals(
    run: Any, taken: int, body: dict[str, str]
) -> None:
    operation = run(Host(taken), **body)
    assert operation.error["code"] == "conflict"
    assert not Network.objects.filter(name="mine").exists()


def test_one_whose_subnet_another_network_has_got_gives_way(run: Any, site: Site) -> None:
    host = Host(taken=0)
    row = site.api().post("networks", {"name": "mine"})
    mine = Network.objects.get(name="mine")
    Network.objects.create(host=site.host, name="other", subnet=mine.subnet, gateway=mine.gateway)
    assert run(host, row=row).status == "succeeded"
    mine.refresh_from_db()
    assert host.made == [mine.subnet]
    assert mine.subnet != Network.objects.get(name="other").subnet
