"""Every page for those who may, and for those who may not; what a page must say before data is lost."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.support.seed import seed
from webui.accounts.models import User
from webui.containers.models import Container
from webui.containers.views import DIALOGS, TABS
from webui.images.models import Image
from webui.networks.models import Network
from webui.operations.services import event_record
from webui.volumes.models import Volume

pytestmark = pytest.mark.django_db

LISTS = ["overview", "containers", "images", "volumes", "networks", "operations", "events", "hosts"]


@pytest.fixture
def host() -> None:
    seed()


def signed_in(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def page(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200, url
    return response.content.decode()


def container(name: str) -> Container:
    return Container.objects.get(name=name)


def every_page() -> list[str]:
    detail = reverse("container", args=[container("shop-db").id])
    return [
        *(reverse(name) for name in [*LISTS, "account", "container-create"]),
        *(f"{detail}?tab={tab}" for tab in TABS),
        reverse("container", args=[container("report-nightly").id]),
        *(reverse("image", args=[image.digest]) for image in Image.objects.all()),
    ]


def test_every_page_has_one_heading_landmarks_and_names_for_its_fields(host: None) -> None:
    client = signed_in("admin")
    for url in every_page():
        html = page(client, url)
        visible = re.sub(r"<template.*?</template>", "", html, flags=re.DOTALL)
        assert len(re.findall(r"<h1[ >]", visible)) == 1, url
        assert '<main id="main"' in html
        assert '<nav aria-label="Main"' in html
        assert "<title>" in html
        for field in re.findall(r"<(?:input|select|textarea)\b[^>]*>", visible):
            if 'type="hidden"' in field or " hidden" in field:
                continue
            identity = re.search(r'\bid="([^"]+)"', field)
            named = "aria-label=" in field or (identity and f'for="{identity[1]}"' in html)
            wrapped = re.search(r"<label[^>]*>\s*" + re.escape(field), html)
            assert named or wrapped, f"{url}: {field}"


def test_an_empty_system_teaches_the_next_step() -> None:
    User.objects.create_superuser("admin", password="slipway")
    client = signed_in("admin")
    for name in ("overview", "containers", "images", "container-create"):
        html = page(client, reverse(name))
        for way in ("use-starter", "import-image", "pull-image"):
            assert f'data-testid="{way}"' in html, (name, way)
    for name in [*LISTS, "account"]:
        page(client, reverse(name))


def test_strangers_are_sent_to_sign_in(host: None) -> None:
    for url in every_page():
        response = Client().get(url)
        assert response.status_code == 302
        assert response.headers["Location"].startswith(reverse("login"))


def test_the_sign_in_page_says_when_it_did_not_work(host: None) -> None:
    response = Client().post(reverse("login"), {"username": "admin", "password": "wrong"})
    assert response.status_code == 422
    assert 'role="alert"' in response.content.decode()


def test_a_viewer_sees_everything_and_is_offered_no_change(host: None) -> None:
    client = signed_in("viewer")
    for url in every_page():
        if url == reverse("container-create"):
            assert client.get(url).status_code == 403
            continue
        html = page(client, url)
        main = html[html.index('<main id="main"') :]
        assert "data-action=" not in main, url
        assert 'data-testid="confirm"' not in main
    for name in DIALOGS:
        url = reverse("container-dialog", args=[container("shop-db").id, name])
        assert client.get(url).status_code == 403


def test_removing_a_container_says_what_is_lost_and_what_is_kept(host: None) -> None:
    client = signed_in("admin")
    lost = page(client, reverse("container-dialog", args=[container("shop-worker").id, "remove"]))
    assert "It is running and will be killed" in lost
    assert "623 MiB" in lost
    assert "/srv/shop/cache" in lost
    assert "commit it as an image" in lost
    kept = page(client, reverse("container-dialog", args=[container("shop-db").id, "remove"]))
    assert "Kept: volume" in kept
    assert "shop-db-data" in kept


def test_a_volume_or_network_in_use_cannot_be_removed_from_its_dialog(host: None) -> None:
    client = signed_in("admin")
    html = page(client, reverse("volume-remove", args=["shop-db-data"]))
    assert "shop-db" in html
    assert re.search(r'data-testid="confirm"\s+disabled', html)
    shop = Network.objects.get(name="shop")
    html = page(client, reverse("network-remove", args=[shop.id]))
    assert re.search(r'data-testid="confirm"\s+disabled', html)


def test_an_image_in_use_cannot_be_removed_from_its_dialog(host: None) -> None:
    client = signed_in("admin")
    image = Image.objects.get(references__name__contains="postgres")
    html = page(client, reverse("image-dialog", args=[image.digest, "remove"]))
    assert re.search(r'data-testid="confirm"\s+disabled', html)


def test_every_dialog_opens(host: None) -> None:
    client = signed_in("admin")
    identity, digest = container("shop-db").id, Image.objects.first()
    assert digest is not None
    urls = [
        *(
            reverse("container-dialog", args=[identity, name])
            for name in ("remove", "kill", "rename", "limits")
        ),
        *(reverse("images-dialog", args=[name]) for name in ("pull", "import")),
        *(reverse("image-dialog", args=[digest.digest, name]) for name in ("remove", "tag")),
        *(reverse("volume-remove", args=[volume.name]) for volume in Volume.objects.all()),
        reverse("volume-create"),
        reverse("network-create"),
        reverse("token-create"),
    ]
    for url in urls:
        html = page(client, url)
        assert 'id="dialog-title"' in html
        assert 'data-testid="confirm"' in html


def test_how_a_container_ended_is_shown(host: None) -> None:
    client = signed_in("admin")
    html = page(client, reverse("container", args=[container("report-nightly").id]))
    assert "OOM-killed after 43 s (exit 137)" in html
    throttled = page(client, reverse("container", args=[container("shop-worker").id]))
    assert "throttled 14 %" in throttled


def test_the_last_ends_are_told_on_the_summary(host: None) -> None:
    db = container("shop-db")
    for number in range(7):
        event_record(
            host=db.host, type="container.exited", target_type="container", target_id=db.pk,
            target_name=db.name, data={"exit_code": number, "reason": "exited", "ran_for": 3.2},
        )  # fmt: skip
    event_record(
        host=db.host, type="container.oom_killed", target_type="container", target_id=db.pk,
        target_name=db.name, data={"exit_code": 137, "reason": "oom_killed", "ran_for": 90.0},
    )  # fmt: skip
    html = page(signed_in("viewer"), reverse("container", args=[db.id]))
    ends = html[html.index('data-testid="ends"') :]
    ends = ends[: ends.index("</section>")]
    assert "OOM-killed after 90 s (exit 137)" in ends
    assert "Exit 6 after 3 s" in ends
    assert "Exit 3 after 3 s" in ends
    assert "Exit 2" not in ends, "five are enough"
    never = page(signed_in("viewer"), reverse("container", args=[container("shop-web").id]))
    assert 'data-testid="ends"' not in never


def test_secrets_in_the_environment_are_masked(host: None) -> None:
    html = page(signed_in("admin"), reverse("container", args=[container("shop-db").id]))
    assert "<code>correct horse</code>" not in html
    assert "POSTGRES_PASSWORD" in html


def test_a_viewer_reads_names_of_variables_and_no_value(host: None) -> None:
    db = container("shop-db")
    assert db.image is not None
    items = [*db.spec["process"]["env"], *db.image.config["env"]]
    detail = reverse("container", args=[db.id])
    for url in (*(f"{detail}?tab={tab}" for tab in TABS), reverse("image", args=[db.image.digest])):
        html = page(signed_in("viewer"), url)
        values = (item.partition("=")[2] for item in items)
        assert [
            value for value in values if len(value) > 5 and "/" not in value and value in html
        ] == []
    assert "POSTGRES_PASSWORD" in page(signed_in("viewer"), detail)
    assert "may be secrets" in page(signed_in("viewer"), detail)
    assert "may be secrets" not in page(signed_in("admin"), detail)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?state=paused", {"sessions"}),
        ("?q=SHOP-w", {"shop-web", "shop-worker"}),
        ("?network=backend", {"sessions"}),
        ("?q=nothing-like-it", set()),
    ],
)
def test_the_list_of_containers_filters(host: None, query: str, names: set[str]) -> None:
    html = page(signed_in("admin"), reverse("containers") + query)
    assert set(re.findall(r'data-testid="container-row"[^>]*data-name="([^"]+)"', html)) == names


def test_the_list_of_containers_sorts_both_ways(host: None) -> None:
    client = signed_in("admin")
    rows = [
        re.findall(
            r'data-testid="container-row"[^>]*data-name="([^"]+)"',
            page(client, reverse("containers") + sort),
        )
        for sort in ("?sort=name", "?sort=-name")
    ]
    assert rows[0] == sorted(rows[0])
    assert rows[1] == sorted(rows[1], reverse=True)


def test_a_live_table_can_ask_for_single_rows(host: None) -> None:
    wanted = container("shop-web").id
    html = page(signed_in("admin"), f"{reverse('containers')}?only={wanted}")
    assert re.findall(r'data-testid="container-row" data-id="([^"]+)"', html) == [wanted]


def test_search_finds_by_name_id_and_image(host: None) -> None:
    client = signed_in("admin")
    for query in ("shop-db", container("shop-db").id[:12], "postgres"):
        groups = client.get(reverse("search"), {"q": query}).json()["groups"]
        assert "shop-db" in [item["label"] for group in groups for item in group["items"]]
    assert client.get(reverse("search"), {"q": "nothing-like-it"}).json() == {"groups": []}


def test_search_shows_names_before_images_that_hold_the_word_too(host: None) -> None:
    made = container("shop-web")
    made.name = "zz-postgres"
    made.save()
    groups = signed_in("admin").get(reverse("search"), {"q": "postgres"}).json()["groups"]
    assert groups[0]["items"][0]["label"] == "zz-postgres"
    assert len(groups[0]["items"]) > 1


def test_a_container_is_found_by_name_or_short_id(host: None) -> None:
    client = signed_in("admin")
    wanted = container("shop-web")
    for key in (wanted.id, wanted.id[:12], wanted.name):
        assert wanted.id in page(client, reverse("container", args=[key]))
    assert client.get(reverse("container", args=["nothing-like-it"])).status_code == 404


def test_a_list_costs_a_fixed_number_of_queries(
    host: None, django_assert_max_num_queries: Any
) -> None:
    seed_more = 40
    network, image = (
        Network.objects.get(name="default"),
        Image.objects.get(references__name__contains="starter"),
    )
    source = container("hello")
    for number in range(seed_more):
        Container.objects.create(
            host=network.host,
            name=f"many-{number}",
            image=image,
            image_reference="x",
            spec=source.spec,
        )
    client = signed_in("admin")
    with django_assert_max_num_queries(20):
        page(client, reverse("containers"))


def test_names_from_strangers_are_escaped(host: None) -> None:
    Container.objects.filter(name="hello").update(image_reference="<script>alert(1)</script>")
    client = signed_in("admin")
    assert "<script>alert" not in page(client, reverse("containers"))
    assert "<script>alert" not in page(
        client, f"{reverse('container-create')}?image=<script>alert(1)</script>"
    )


def rows_of(html: str) -> list[str]:
    return re.findall(r'data-testid="container-row".*? data-name="([^"]+)"', html)


def test_a_long_list_comes_in_pages(django_assert_max_num_queries: Any) -> None:
    seed(many=280)
    client = signed_in("admin")
    names = sorted(Container.objects.values_list("name", flat=True), key=str.lower)
    url = f"{reverse('containers')}?sort=name"
    with django_assert_max_num_queries(20):
        first = page(client, url)
    assert rows_of(first) == names[:50]
    assert f"1–50 of {len(names)}" in first
    assert "sort=name&amp;page=2" in first
    last = page(client, f"{url}&page=6")
    assert rows_of(last) == names[250:]
    assert "sort=state" in last
    assert not re.search(r"sort=state[^\"]*page=", last)
    for odd in ("0", "99", "x", "-1"):
        assert rows_of(page(client, f"{url}&page={odd}"))
    found = page(client, f"{url}&page=3&q=task-24")
    assert rows_of(found) == [f"task-24{n}" for n in range(10)]
    assert "page-place" not in found


def test_filters_find_by_name_label_state_image_and_network(host: None) -> None:
    client = signed_in("admin")
    chosen = container("shop-db")
    Container.objects.filter(pk=chosen.pk).update(spec={**chosen.spec, "labels": {"team": "Sales"}})
    url = reverse("containers")
    assert rows_of(page(client, f"{url}?q=team=sales")) == ["shop-db"]
    assert chosen.image is not None
    for query in (
        f"state={chosen.status}",
        f"image={chosen.image.digest}",
        f"image={chosen.image_reference}",
        f"network={chosen.endpoints.all()[0].network.name}",
    ):
        found = rows_of(page(client, f"{url}?{query}"))
        assert "shop-db" in found
        assert len(found) < Container.objects.count()


def test_the_host_tells_what_is_unmanaged_and_what_its_network_does(host: None) -> None:
    html = page(signed_in("viewer"), reverse("hosts"))
    for told in (
        "from-a-backup",
        "5a" * 32,
        "ip filter FORWARD",
        "net.ipv4.ip_forward",
        "10.0.0.0/24",
    ):
        assert told in html


def test_making_an_image_says_what_is_in_it_and_names_no_secret(host: None) -> None:
    client = signed_in("admin")
    html = page(client, reverse("container-dialog", args=[container("shop-db").id, "commit"]))
    assert "Not in it: what is at <code>/var/lib/postgresql/data</code>" in html
    assert "POSTGRES_PASSWORD" in html
    values = [item.partition("=")[2] for item in container("shop-db").spec["process"]["env"]]
    assert not any(value in html for value in values if len(value) > 5 and "/" not in value)


def test_a_directory_of_the_address_is_text_for_the_script(host: None) -> None:
    url = reverse("container", args=[container("shop-db").id])
    html = page(signed_in("admin"), f'{url}?tab=files&path=/a"><script>')
    assert 'data-path="/a&quot;&gt;&lt;script&gt;"' in html
    assert "file-browser" not in page(signed_in("viewer"), f"{url}?tab=files")
