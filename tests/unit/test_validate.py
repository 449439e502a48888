"""Every rule of a specification: what is fine passes, what is not names its field."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.errors import SpecInvalid
from runtime.model.spec import (
    Device,
    Dns,
    Health,
    Limits,
    LogOptions,
    Mount,
    Namespaces,
    NetworkSpec,
    PortMapping,
    Restart,
    Security,
    Ulimit,
)
from runtime.model.validate import validate_limits, validate_network, validate_spec
from tests.support.specs import container, endpoint

MIB = 2**20


def test_a_plain_container_is_valid() -> None:
    validate_spec(container())


def test_a_container_with_everything_is_valid() -> None:
    validate_spec(
        container(
            limits=Limits(memory=64 * MIB, memory_swap=128 * MIB, cpus=0.5, pids=50),
            mounts=(
                Mount("volume", "/data", "data", subpath="a/b"),
                Mount("bind", "/srv", "/srv", read_only=True),
                Mount("tmpfs", "/tmp", tmpfs_size=MIB),
            ),
            ports=(PortMapping(80, 8080), PortMapping(80, 8080, "udp")),
            endpoints=(endpoint(),),
            security=Security(
                cap_add=("net_admin",),
                devices=(Device("/dev/fuse", "/dev/fuse"),),
                device_cgroup_rules=("c 13:* rwm",),
                sysctls={"net.core.somaxconn": "100"},
            ),
            restart=Restart("on-failure", 3),
            health=Health(("true",)),
            dns=Dns(extra_hosts={"db": "host-gateway"}, servers=("9.9.9.9",), search=("x.y",)),
        )
    )


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("id", {"id": "xyz"}),
        ("name", {"name": "-x"}),
        ("name", {"name": "a"}),
        ("image", {"image": "nginx"}),
        ("process.args", {"process": {"args": ()}}),
        ("process.args[1]", {"process": {"args": ("a", "b\0")}}),
        ("process.env[0]", {"process": {"env": ("=x",)}}),
        ("process.env[1]", {"process": {"env": ("A=1", "A=2")}}),
        ("process.cwd", {"process": {"cwd": "tmp"}}),
        ("process.user", {"process": {"user": "a b"}}),
        ("process.user", {"process": {"user": "4294967295"}}),
        ("process.ulimits[0]", {"process": {"ulimits": (Ulimit("nofile", 2, 1),)}}),
        ("hostname", {"hostname": "-bad-"}),
        ("mounts[0].target", {"mounts": (Mount("tmpfs", "relative"),)}),
        ("mounts[0].target", {"mounts": (Mount("tmpfs", "/a/../../etc"),)}),
        ("mounts[0].target", {"mounts": (Mount("tmpfs", "//proc/"),)}),
        ("mounts[1].target", {"mounts": (Mount("tmpfs", "/a"), Mount("tmpfs", "/a/"))}),
        ("mounts[0].source", {"mounts": (Mount("volume", "/a", "../up"),)}),
        ("mounts[0].source", {"mounts": (Mount("volume", "/a", ".."),)}),
        ("mounts[0].source", {"mounts": (Mount("bind", "/a", "rel"),)}),
        ("mounts[0].source", {"mounts": (Mount("bind", "/a", "/x/../y"),)}),
        ("mounts[0].subpath", {"mounts": (Mount("volume", "/a", "d", subpath="../x"),)}),
        ("mounts[0].subpath", {"mounts": (Mount("volume", "/a", "d", subpath="/x"),)}),
        ("ports", {"ports": (PortMapping(80, 80),)}),
        ("endpoints[0].address", {"endpoints": (endpoint(address="10.90.0.0"),)}),
        ("endpoints[0].address", {"endpoints": (endpoint(address="10.90.0.1"),)}),
        ("endpoints[0].gateway", {"endpoints": (endpoint(gateway="10.91.0.1"),)}),
        ("endpoints[0].mac_address", {"endpoints": (endpoint(mac_address="03:00:00:00:00:00"),)}),
        ("endpoints[1].network_id", {"endpoints": (endpoint(), endpoint())}),
        ("endpoints", {"endpoints": (endpoint(),), "namespaces": Namespaces(network="host")}),
        ("namespaces.pid", {"namespaces": Namespaces(pid="container:x")}),
        ("dns.servers[0]", {"dns": Dns(servers=("one",))}),
        ("dns.extra_hosts.db", {"dns": Dns(extra_hosts={"db": "x"})}),
        ("restart.max_retries", {"restart": Restart("always", 2)}),
        ("auto_remove", {"auto_remove": True, "restart": Restart("always")}),
        ("stop_signal", {"stop_signal": "SIGNOPE"}),
        ("logs.max_size", {"logs": LogOptions(max_size=1)}),
        ("health.test", {"health": Health(())}),
        ("security.cap_add[0]", {"security": Security(cap_add=("net admin",))}),
        ("security.seccomp", {"security": Security(seccomp="nope")}),
        ("security.sysctls.vm.swappiness", {"security": Security(sysctls={"vm.swappiness": "1"})}),
        ("security.devices[0].permissions", {"security": Security(devices=(Device("/dev/x", "/dev/x", "z"),))}),
        ("security.device_cgroup_rules[0]", {"security": Security(device_cgroup_rules=("x",))}),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(SpecInvalid) as caught:
        validate_spec(container(**changes))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("ports", "clash"),
    [
        ((("0.0.0.0", 80), ("127.0.0.1", 80)), True),
        ((("127.0.0.1", 80), ("127.0.0.1", 80)), True),
        ((("127.0.0.1", 80), ("127.0.0.2", 80)), False),
        ((("0.0.0.0", 80), ("::", 80)), False),
    ],
)
def test_a_port_is_published_once_per_address(ports: Any, clash: bool) -> None:
    spec = container(
        endpoints=(endpoint(),),
        ports=tuple(PortMapping(80, port, host_ip=ip) for ip, port in ports),
    )
    if clash:
        with pytest.raises(SpecInvalid) as caught:
            validate_spec(spec)
        assert caught.value.field == "ports[1].host_port"
    else:
        validate_spec(spec)


@pytest.mark.parametrize(
    ("field", "limits"),
    [
        ("memory", Limits(memory=4 * MIB)),
        ("memory_swap", Limits(memory_swap=64 * MIB)),
        ("memory_swap", Limits(memory=64 * MIB, memory_swap=32 * MIB)),
        ("memory_reservation", Limits(memory=64 * MIB, memory_reservation=65 * MIB)),
        ("cpus", Limits(cpus=0)),
        ("cpus", Limits(cpus=-1)),
        ("cpus", Limits(cpus=0.001)),
        ("cpus", Limits(cpus=float("nan"))),
        ("cpus", Limits(cpus=1, cpu_quota=1000)),
        ("cpu_shares", Limits(cpu_shares=1)),
        ("cpu_period", Limits(cpu_period=10)),
        ("pids", Limits(pids=0)),
        ("pids", Limits(pids=-2)),
        ("blkio_weight", Limits(blkio_weight=5)),
        ("device_read_bps", Limits(device_read_bps={"sda": 1})),
        ("oom_score_adj", Limits(oom_score_adj=2000)),
        ("oom_kill_disable", Limits(oom_kill_disable=True)),
        ("hugetlb", Limits(hugetlb={"2M": 1})),
    ],
)
def test_limits_that_no_kernel_takes(field: str, limits: Limits) -> None:
    with pytest.raises(SpecInvalid) as caught:
        validate_limits(limits)
    assert caught.value.field == f"limits.{field}"


def test_networks() -> None:
    def network(**changes: Any) -> NetworkSpec:
        values = {"id": "a" * 64, "name": "net", "subnet": "10.1.0.0/24", "gateway": "10.1.0.1"}
        return NetworkSpec(**{**values, **changes})

    validate_network(network())
    wrong: dict[str, dict[str, Any]] = {
        "subnet": {"subnet": "10.1.0.5/24"},
        "gateway": {"gateway": "10.2.0.1"},
        "mtu": {"mtu": 10},
        "name": {"name": "!"},
    }
    for field, changes in wrong.items():
        with pytest.raises(SpecInvalid) as caught:
            validate_network(network(**changes))
        assert caught.value.field == field
    with pytest.raises(SpecInvalid):
        validate_network(network(subnet="127.0.0.0/24", gateway="127.0.0.1"))


@pytest.mark.parametrize(
    ("field", "subnet6", "gateway6", "mtu"),
    [
        ("subnet6", "fd00::1/64", "fd00::1", 1500),  # not the first address
        ("subnet6", "172.30.0.0/22", "172.30.0.1", 1500),
        ("subnet6", "nonsense", "fd00::1", 1500),
        ("subnet6", "", "fd00::1", 1500),
        ("subnet6", "fd00::/129", "fd00::1", 1500),
        ("subnet6", "fd00::/127", "fd00::1", 1500),
        ("subnet6", "fd00::/8", "fd00::1", 1500),
        ("subnet6", "fe80::/64", "fe80::1", 1500),
        ("subnet6", "ff02::/64", "ff02::1", 1500),
        ("subnet6", "::/64", "::1", 1500),
        ("subnet6", "::ffff:0:0/112", "::ffff:0:1", 1500),
        ("gateway6", "fd00::/64", "", 1500),
        ("gateway6", "fd00::/64", "fd00::", 1500),
        ("gateway6", "fd00::/64", "fd01::1", 1500),
        ("gateway6", "fd00::/64", "10.1.0.1", 1500),
        ("mtu", "fd00::/64", "fd00::1", 1279),
    ],
)
def test_what_is_no_ipv6_network(field: str, subnet6: str, gateway6: str, mtu: int) -> None:
    spec = NetworkSpec(
        id="a" * 64, name="six", subnet="10.1.0.0/24", gateway="10.1.0.1",
        subnet6=subnet6, gateway6=gateway6, mtu=mtu,
    )  # fmt: skip
    with pytest.raises(SpecInvalid) as caught:
        validate_network(spec)
    assert caught.value.field == field


def test_an_ipv6_network_is_valid_with_any_host_as_its_gateway() -> None:
    for gateway6 in ("fd00::1", "fd00::ffff:ffff:ffff:ffff"):
        validate_network(
            NetworkSpec("a" * 64, "six", "10.1.0.0/24", "10.1.0.1", "fd00::/64", gateway6)
        )
