"""Names on a network: an alias may be shared, another container's own name is refused, whichever comes later."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.web import Site
from webui.containers.models import Container
from webui.networks.models import Endpoint
from webui.operations.models import Operation

IMAGE = {"image": "slipway/starter"}


@pytest.fixture
def shop(site: Site) -> Site:
    """`db` with the alias `sql`, on the network `shop` alone."""
    site.api().post("networks", {"name": "shop", "subnet": "10.9.0.0/24"})
    site.running("db", network="shop", network_aliases=["sql"])
    return site


def _counts() -> tuple[int, int, int]:
    return Container.objects.count(), Endpoint.objects.count(), Operation.objects.count()


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ({"network": "shop", "network_aliases": ["fine", "DB"]}, "network_aliases[1]", "db is the"),
        (
            {"networks": [{"name": "shop", "aliases": ["db"]}]},
            "networks[0].aliases[0]",
            "db is the",
        ),
        ({"networks": ["name=shop,alias=x,alias=db"]}, "networks[0].aliases[1]", "db is the"),
        ({"network": "shop", "name": "sql"}, "name", "sql is an alias of container db on shop."),
        ({"networks": ["shop"], "name": "SQL"}, "name", "SQL is an alias of container db on shop."),
    ],
)
def test_what_would_take_a_name_away_is_not_made(
    shop: Site, body: dict[str, Any], field: str, says: str
) -> None:
    before = _counts()
    shop.sent.clear()
    error = shop.api().post("containers", {**IMAGE, **body}, expect=409)
    assert (error["code"], error["extra"]["field"]) == ("already_exists", field)
    assert error["message"].startswith(says)
    assert error["extra"]["hint"]
    assert _counts() == before
    assert not shop.sent


def test_to_make_and_to_connect_refuse_in_the_same_words(shop: Site) -> None:
    shop.running("web")
    made = shop.api().post("containers", {**IMAGE, "networks": ["name=shop,alias=db"]}, expect=409)
    asked = {"container": "web", "aliases": ["db"]}
    joined = shop.api().post("networks/shop/connect", asked, expect=409)
    assert (made["message"], made["extra"]["hint"]) == (joined["message"], joined["extra"]["hint"])


def test_an_alias_is_shared_and_may_be_what_another_network_calls_somebody(shop: Site) -> None:
    shop.make("db-2", network="shop", network_aliases=["sql"])
    shop.make("web", network_aliases=["db"])  # on the default network, where no db is
    shop.make("cache", network="shop", network_aliases=["cache", "Cache"])  # its own name
    shop.make("sql")


def test_who_has_the_name_of_an_alias_does_not_join(shop: Site) -> None:
    sql = shop.running("sql")
    error = shop.api().post("networks/shop/connect", {"container": "sql"}, expect=409)
    assert error["extra"]["field"] == "container"
    assert sql.endpoints.count() == 1


def test_nobody_is_renamed_to_an_alias(shop: Site) -> None:
    web = shop.running("web", networks=["shop"])
    error = shop.api().post("containers/web/rename", {"name": "Sql"}, expect=409)
    assert error["extra"]["field"] == "name"
    web.refresh_from_db()
    assert (web.name, web.spec["name"]) == ("web", "web")
    # Its own alias, or one on a network where it is not, is nobody's loss.
    shop.api().post("containers/db/rename", {"name": "sql"})
    shop.running("alone")
    shop.api().post("containers/alone/rename", {"name": "db"})
