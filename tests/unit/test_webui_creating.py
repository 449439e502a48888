"""From a request and an image to a complete spec, and back to nothing when it fails."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.errors import SpecInvalid
from runtime.model.codec import from_json
from runtime.model.spec import ContainerSpec
from runtime.model.validate import validate_spec
from tests.support.web import CONFIG, Site
from webui.containers.building import build_spec
from webui.containers.models import Container
from webui.containers.replica import container_delete_row
from webui.containers.requests import ContainerRequest
from webui.containers.wording import request_field
from webui.networks.models import Endpoint, PortReservation
from webui.volumes.models import Volume


def build(config: dict[str, Any] | None = None, **fields: Any) -> ContainerSpec:
    return build_spec(
        ContainerRequest(image="x", **fields),
        container_id="0" * 64,
        image="sha256:" + "0" * 64,
        config={**CONFIG, **(config or {})},
        host_ip="0.0.0.0",
    )


@pytest.mark.parametrize(
    ("config", "fields", "args"),
    [
        ({"cmd": ["a"]}, {}, ("a",)),
        ({"entrypoint": ["e"], "cmd": ["a"]}, {}, ("e", "a")),
        ({"entrypoint": ["e"], "cmd": ["a"]}, {"command": ["b"]}, ("e", "b")),
        ({"entrypoint": ["e"], "cmd": ["a"]}, {"entrypoint": ["f"]}, ("f",)),
        ({"entrypoint": ["e"], "cmd": ["a"]}, {"entrypoint": ["f"], "command": "b c"}, ("f", "b", "c")),
        ({"entrypoint": ["e"], "cmd": ["a"]}, {"entrypoint": [], "command": ["b"]}, ("b",)),
        ({}, {"command": "sh -c 'echo $HOME'"}, ("sh", "-c", "echo $HOME")),
    ],
)  # fmt: skip
def test_command_and_entrypoint_combine_as_dockers_do(
    config: dict[str, Any], fields: dict[str, Any], args: tuple[str, ...]
) -> None:
    assert build(config, **fields).process.args == args


def test_no_command_at_all_is_an_error() -> None:
    with pytest.raises(SpecInvalid) as caught:
        build({"cmd": []})
    assert caught.value.field == "command"


def test_what_the_image_says_is_merged_in() -> None:
    config = {
        "env": ["PATH=/bin", "A=image"],
        "working_dir": "/srv",
        "user": "app",
        "stop_signal": "SIGQUIT",
        "labels": {"a": "image", "b": "image"},
        "exposed_ports": ["80/tcp"],
        "volumes": ["/data", "/cache"],
    }
    spec = build(config, env={"A": "mine"}, labels={"a": "mine"}, volumes=["named:/data"])
    assert spec.process.env == ("PATH=/bin", "A=mine")
    assert (spec.process.cwd, spec.process.user, spec.stop_signal) == ("/srv", "app", "SIGQUIT")
    assert spec.labels == {"a": "mine", "b": "image"}
    assert spec.exposed == ("80/tcp",)
    named, anonymous = spec.mounts
    assert (named.source, named.target, named.anonymous) == ("named", "/data", False)
    assert (anonymous.target, anonymous.anonymous) == ("/cache", True)
    assert len(anonymous.source) == 64


def test_every_port_the_image_exposes_can_be_published() -> None:
    config = {"exposed_ports": ["80/tcp", "53/udp"]}
    spec = build(config, ports=["8080:80"], publish_all=True)
    assert [(p.host_port, p.container_port, p.protocol) for p in spec.ports] == [
        (8080, 80, "tcp"),
        (0, 53, "udp"),
    ]


def test_a_health_check_of_the_image_counts_nanoseconds() -> None:
    check = {"Test": ["CMD-SHELL", "curl localhost"], "Interval": 5_000_000_000, "Retries": 2}
    health = build({"healthcheck": check}).health
    assert health is not None
    assert health.test == ("/bin/sh", "-c", "curl localhost")
    assert (health.interval, health.timeout, health.retries) == (5.0, 30.0, 2)
    assert build({"healthcheck": {"Test": ["NONE"]}}).health is None


def test_limits_take_numbers_and_sizes() -> None:
    limits = build(limits={"memory": "512m", "cpus": "1.5", "pids": "100"}).limits
    assert (limits.memory, limits.cpus, limits.pids) == (512 * 1024**2, 1.5, 100)
    limits = build(limits={"memory": "", "cpus": "", "pids": 0}).limits
    assert (limits.memory, limits.cpus, limits.pids) == (None, None, None)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("process.cwd", "working_dir"),
        ("process.env[3]", "env[3]"),
        ("endpoints[0].address", "ip"),
        ("ports[0].host_port", "ports[0]"),
        ("ports[2].host_port", "ports[0]"),
        ("ports[3].host_port", "ports[1]"),
        ("ports[4].host_port", "publish_all"),
        ("mounts[0].target", "mounts[0].target"),
        ("mounts[1].target", "volumes[0]"),
        ("mounts[2].target", "tmpfs[0]"),
        ("mounts[3].target", "image"),
        ("limits.memory", "limits.memory"),
        ("name", "name"),
    ],
)
def test_errors_name_the_field_of_the_request(field: str, expected: str) -> None:
    request = ContainerRequest(
        image="x",
        ports=["8000-8002:80-82", "9000:90"],
        mounts=[{"target": "/a"}],
        volumes=["b:/b"],
        tmpfs=["/c"],
    )
    assert request_field(field, request) == expected


def test_what_is_stored_is_a_valid_spec_with_everything_reserved(site: Site) -> None:
    image = site.add_image("library/db:1", "sha256:" + "ef" * 32, volumes=["/var/lib/db"])
    container = site.make("db", image="db:1", ports=["5432:5432"], network_aliases=["sql"])
    spec = from_json(ContainerSpec, container.spec, "spec")
    validate_spec(spec)
    assert spec.image == image.digest
    (endpoint,) = spec.endpoints
    assert (endpoint.address, endpoint.mac_address) == ("172.30.0.2", "02:42:ac:1e:00:02")
    assert (endpoint.gateway, endpoint.prefix_length) == ("172.30.0.1", 22)
    assert endpoint.aliases == ("sql",)
    (mount,) = container.volume_mounts.all()
    assert (mount.target, mount.volume.anonymous) == ("/var/lib/db", True)


def test_names_are_made_up_when_none_is_given(site: Site) -> None:
    names = {site.make().name for _ in range(5)}
    assert len(names) == 5


def test_removing_the_row_gives_everything_back(site: Site) -> None:
    container = site.make("db", ports=["80:80"], volumes=["keep:/data", "/scratch"])
    container_delete_row(container_id=container.pk)
    for model in (Container, Endpoint, PortReservation):
        assert not model.objects.exists()
    assert site.make("db", ports=["80:80"]).endpoints.get().address == "172.30.0.2"


def test_a_container_that_never_was_leaves_no_unnamed_volume(site: Site) -> None:
    container = site.make("db", volumes=["/scratch"])
    container_delete_row(container_id=container.pk)
    assert not Volume.objects.exists()


def test_a_shared_network_has_no_endpoint_and_no_ports(site: Site) -> None:
    other = site.make("first")
    joined = site.make("second", network="container:first")
    assert joined.spec["namespaces"]["network"] == f"container:{other.pk}"
    assert not joined.endpoints.exists()
    assert not site.make("third", network="none").endpoints.exists()
