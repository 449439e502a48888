"""A specification becomes a plan: every default decided, every path resolved, nothing run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.engine.etc import hosts_text, resolv_text
from runtime.engine.planning import device_rules, environment, held_capabilities, make_plan
from runtime.engine.undo import Undo
from runtime.engine.volumes import VolumeManager
from runtime.errors import BadState, CreateFailed, NotFound, SpecInvalid
from runtime.kernel.capabilities import NUMBERS
from runtime.kernel.constants import MS_RDONLY
from runtime.model.plan import Plan
from runtime.model.spec import ContainerSpec, Dns, Mount, Namespaces, NetworkSpec, Security
from runtime.store.bundles import BundleStore
from runtime.store.paths import Config
from tests.support.specs import NETWORK, container, endpoint

OTHER = "c" * 64
NETWORKS = {
    NETWORK: NetworkSpec(NETWORK, "net", "10.90.0.0/24", "10.90.0.1", mtu=1400),
    OTHER: NetworkSpec(OTHER, "inner", "10.91.0.0/24", "10.91.0.1", internal=True),
}
CGROUP_V1 = {"version": "v1", "paths": {"memory": "/sys/fs/cgroup/memory/x", "cpu": "/cpu/x"}}
CGROUP_V2 = {"version": "v2", "paths": {"memory": "/sys/fs/cgroup/x"}}


def plan_of(
    spec: ContainerSpec,
    config: Config,
    cgroup: dict[str, Any] = CGROUP_V1,
    networks: dict[str, NetworkSpec] = NETWORKS,
) -> Plan:
    return make_plan(
        spec,
        config=config,
        layers=[Path("/l/bottom"), Path("/l/top")],
        snapshot=(Path("/s/upper"), Path("/s/work"), Path("/s/rootfs")),
        volumes=VolumeManager(config, BundleStore(config)),
        cgroup=cgroup,
        networks=networks,
        pid_of=lambda container_id: 42,
    )


def targets(plan: Plan) -> list[str]:
    return [step["target"] for step in plan["mounts"]]


def test_the_upper_layer_comes_first(config: Config) -> None:
    overlay = plan_of(container(), config)["overlay"]
    assert overlay["lower"] == ["/l/top", "/l/bottom"]
    assert not overlay["read_only"]


def test_the_users_mounts_come_last_parents_first_and_replace_defaults(config: Config) -> None:
    spec = container(
        mounts=(
            Mount("tmpfs", "/a/b"),
            Mount("tmpfs", "/a"),
            Mount("tmpfs", "/dev/shm"),
            Mount("bind", "/etc/hosts", "/etc/hosts"),
        )
    )
    found = targets(plan_of(spec, config))
    assert found.index("/a") < found.index("/a/b")
    assert found.count("/dev/shm") == found.count("/etc/hosts") == 1
    assert found.index("/etc/resolv.conf") < found.index("/a")


def test_groups_are_shown_read_only(config: Config) -> None:
    for cgroup, expected in ((CGROUP_V1, "/sys/fs/cgroup/memory"), (CGROUP_V2, "/sys/fs/cgroup")):
        plan = plan_of(container(), config, cgroup)
        [step] = [s for s in plan["mounts"] if s["target"] == expected and s["kind"] != "remount"]
        assert step.get("flags", 0) & MS_RDONLY


def test_links_in_a_binds_source_are_resolved_before(config: Config, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    plan = plan_of(container(mounts=(Mount("bind", "/x", str(tmp_path / "link")),)), config)
    assert plan["mounts"][-1].get("source") == str(tmp_path / "real")


def test_sources_that_are_not_there_are_refused(config: Config) -> None:
    with pytest.raises(SpecInvalid) as caught:
        plan_of(container(mounts=(Mount("bind", "/x", "/no/such"),)), config)
    assert caught.value.field == "mounts[0].source"
    with pytest.raises(NotFound):
        plan_of(container(mounts=(Mount("volume", "/x", "none"),)), config)


def test_one_interface_has_the_way_out_of_ipv6(config: Config) -> None:
    """It may be another one than that of IPv4: the first whose network has both a way out and IPv6."""
    ends = [
        endpoint(network_id=id_, address=f"10.{n}.0.5", gateway=f"10.{n}.0.1", **six)
        for n, (id_, six) in enumerate(
            {
                "1" * 64: {},
                "2" * 64: {"address6": "fd00:2::5", "gateway6": "fd00:2::1"},
                "3" * 64: {"address6": "fd00:3::5", "gateway6": "fd00:3::1"},
                "4" * 64: {"address6": "fd00:4::5", "gateway6": "fd00:4::1"},
            }.items(),
            start=1,
        )
    ]
    networks = {
        end.network_id: NetworkSpec(
            end.network_id, "n", "10.0.0.0/24", "10.0.0.1", internal=end.network_id[0] == "2"
        )
        for end in ends
    }
    spec = container(endpoints=tuple(ends))
    planned = plan_of(spec, config, networks=networks)["interfaces"]
    assert [i["gateway"] for i in planned] == ["10.1.0.1", "", "", ""]
    assert [i.get("gateway6") for i in planned] == [None, "", "fd00:3::1", ""]


def test_one_interface_has_the_way_out(config: Config) -> None:
    inner = endpoint(network_id=OTHER, address="10.91.0.5", gateway="10.91.0.1")
    interfaces = plan_of(container(endpoints=(inner, endpoint())), config)["interfaces"]
    assert [(i["name"], i["gateway"]) for i in interfaces] == [("eth0", ""), ("eth1", "10.90.0.1")]
    assert [i.get("mtu") for i in interfaces] == [1500, 1400]


@pytest.mark.parametrize(
    ("asked", "planned"),
    [("", "own"), ("none", "own"), ("host", "host"), ("container:x", "pid:42")],
)
def test_namespaces(config: Config, asked: str, planned: str) -> None:
    plan = plan_of(container(namespaces=Namespaces(network=asked)), config)
    assert plan["namespaces"]["network"] == planned
    assert not plan["wait_for_network"]
    assert bool(plan["sysctls"]) == (planned == "own")


def test_capabilities_are_dockers_and_never_inherited() -> None:
    default = held_capabilities(container())
    assert default["bounding"] >> NUMBERS["NET_BIND_SERVICE"] & 1
    assert not default["bounding"] >> NUMBERS["SYS_ADMIN"] & 1
    assert default["inheritable"] == default["ambient"] == 0
    none = held_capabilities(container(security=Security(cap_drop=("ALL",))))
    assert none["bounding"] == 0


def test_privileged_is_not_masked(config: Config) -> None:
    plan = plan_of(container(security=Security(privileged=True)), config)
    assert (plan["masked_paths"], plan["readonly_paths"], plan["seccomp"]) == ([], [], None)
    assert device_rules(container(security=Security(privileged=True)), ["x"]) is None
    assert plan_of(container(), config)["seccomp"]


def test_the_environment_has_dockers_defaults_under_the_users() -> None:
    spec = container(process={"env": ("PATH=/x", "A=1")}, hostname="box")
    assert environment(spec) == ["PATH=/x", "HOSTNAME=box", "A=1"]


def test_hosts_and_resolv_conf() -> None:
    spec = container(
        endpoints=(endpoint(),),
        hostname="box",
        domainname="lan",
        dns=Dns(extra_hosts={"host": "host-gateway", "db": "10.0.0.9"}, search=("lan",)),
    )
    text = hosts_text(spec)
    assert "10.90.0.5\tbox.lan box\n" in text
    assert "10.90.0.1\thost\n" in text
    assert "10.0.0.9\tdb\n" in text
    assert resolv_text(spec) == "nameserver 10.90.0.1\nsearch lan\noptions ndots:0\n"
    chosen = container(endpoints=(endpoint(),), dns=Dns(servers=("9.9.9.9",)))
    # Our resolver asks it, so that containers are found all the same.
    assert resolv_text(chosen).splitlines()[:2] == [
        "# Asked for all but containers' names: 9.9.9.9",
        "nameserver 10.90.0.1",
    ]
    inside = container(endpoints=(endpoint(),), dns=Dns(servers=("127.0.0.1", "9.9.9.9")))
    assert resolv_text(inside).splitlines()[:2] == ["nameserver 127.0.0.1", "nameserver 9.9.9.9"]
    alone = container(dns=Dns(servers=("9.9.9.9",)))
    assert resolv_text(alone).startswith("nameserver 9.9.9.9\n")


# -- undo ---------------------------------------------------------------------------------------


def failing(error: Exception, *steps: Callable[[], object]) -> None:
    with Undo() as undo:
        for step in steps:
            undo.push(step)
        raise error


def test_undo_runs_backwards_and_only_on_failure() -> None:
    done: list[int] = []
    with Undo() as undo:
        undo.push(done.append, 1)
    assert done == []
    with pytest.raises(ValueError, match="x"):
        failing(ValueError("x"), lambda: done.append(1), lambda: done.append(2))
    assert done == [2, 1]


def test_a_failed_cleanup_stands_beside_the_cause() -> None:
    def fail() -> None:
        raise OSError("cleanup")

    done: list[int] = []
    with pytest.raises(CreateFailed) as caught:
        failing(BadState("start", "dead", ()), lambda: done.append(1), fail)
    assert done == [1]
    assert isinstance(caught.value.error, BadState)
    assert caught.value.extra["cleanup_errors"] == ["cleanup"]
