"""Every option of a request reaches the specification, and an error names the option it is about."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.errors import AddressInUse, EngineError, NotFound, PortInUse, SpecInvalid
from runtime.model.spec import ContainerSpec, Device, Limits, LogOptions, Mount
from tests.support.web import CONFIG, Site
from webui.containers.building import build_spec
from webui.containers.form import initial_values
from webui.containers.requests import ContainerRequest

MIB = 2**20


def build(config: dict[str, Any] | None = None, **fields: Any) -> ContainerSpec:
    return build_spec(
        ContainerRequest(image="x", **fields),
        container_id="0" * 64,
        image="sha256:" + "0" * 64,
        config={**CONFIG, **(config or {})},
        host_ip="0.0.0.0",
    )


def test_files_of_variables_and_labels_come_under_what_is_given_one_by_one() -> None:
    spec = build(
        {"labels": {"a": "image", "z": "image"}},
        env_file="# site\nA=file\nB=file\n",
        env={"A": "mine"},
        label_file="a=file\nb=file",
        labels=["a=mine", "bare"],
    )
    assert spec.process.env == ("PATH=/bin", "A=mine", "B=file")
    assert spec.labels == {"a": "mine", "b": "file", "z": "image", "bare": ""}


@pytest.mark.parametrize(
    ("fields", "init"),
    [
        ({"command": "sleep 5"}, False),
        ({"command": "sh -c 'sleep 5'"}, True),
        ({"entrypoint": ["/bin/bash", "-ec"], "command": ["a; b"]}, True),
        ({"command": "sh -c 'sleep 5'", "init": False}, False),
        ({"command": "sh -c 'sleep 5'", "pid": "host"}, False),
        ({"command": "sleep 5", "init": True}, True),
        ({"command": "sh /script -c"}, False),
    ],
)
def test_a_line_of_a_shell_gets_an_init_unless_told_otherwise(
    fields: dict[str, Any], init: bool
) -> None:
    assert build(**fields).process.init is init


@pytest.mark.parametrize(
    ("fields", "args"),
    [
        ({}, ("serve", "--all")),
        ({"command": "x y"}, ("serve", "x", "y")),
        ({"entrypoint": ["sh"]}, ("sh",)),
        ({"entrypoint": "sh -c", "command": "'a b'"}, ("sh", "-c", "a b")),
        # Docker's way to do without the image's entrypoint, and with it without its command.
        ({"entrypoint": '""', "command": "ls -l"}, ("ls", "-l")),
        ({"entrypoint": [""], "command": ["ls"]}, ("ls",)),
        ({"entrypoint": [], "command": ["ls"]}, ("ls",)),
        ({"entrypoint": "", "command": ["ls"]}, ("serve", "ls")),
    ],
)
def test_entrypoint_and_command_combine_as_dockers_do(
    fields: dict[str, Any], args: tuple[str, ...]
) -> None:
    config = {"entrypoint": ["serve"], "cmd": ["--all"]}
    assert build(config, **fields).process.args == args


def test_without_the_images_entrypoint_there_must_be_a_command() -> None:
    with pytest.raises(SpecInvalid, match="no command"):
        build({"entrypoint": ["serve"], "cmd": ["--all"]}, entrypoint='""')


def test_limits_of_devices() -> None:
    limits = build(
        limits={
            "memory": "64m",
            "memory_swap": "-1",
            "memory_swappiness": -1,
            "cpu_shares": 0,
            "blkio_weight_device": ["/dev/sda:300"],
            "device_read_bps": {"/dev/sda": "10m"},
            "device_write_iops": "/dev/sda:500",
            "hugetlb": {"2MB": "64m"},
        }
    ).limits
    assert limits == Limits(
        memory=64 * MIB,
        memory_swap=-1,
        blkio_weight_device={"/dev/sda": 300},
        device_read_bps={"/dev/sda": 10 * MIB},
        device_write_iops={"/dev/sda": 500},
        hugetlb={"2MB": 64 * MIB},
    )


def test_mounts_come_as_objects_and_as_texts() -> None:
    spec = build(
        mounts=[
            "type=bind,source=/srv,target=/srv,readonly,bind-propagation=rslave",
            {"type": "tmpfs", "target": "/t", "tmpfs_mode": "700", "tmpfs_options": ["exec"]},
            {"target": "/anonymous"},
        ],
        tmpfs=["/run:size=1m"],
    )
    bind, memory, anonymous, run = spec.mounts
    assert bind == Mount("bind", "/srv", "/srv", read_only=True, propagation="rslave")
    assert (memory.tmpfs_mode, memory.tmpfs_options) == (0o700, ("exec",))
    assert (anonymous.anonymous, len(anonymous.source)) == (True, 64)
    assert run.tmpfs_size == MIB


def test_security_and_namespaces() -> None:
    spec = build(
        devices=["/dev/fuse:rw"],
        device_cgroup_rules=["c 13:* rwm"],
        seccomp={"defaultAction": "SCMP_ACT_ALLOW"},
        sysctls=["net.core.somaxconn=100"],
        userns="default",
        ipc="shareable",
        uts="host",
        cgroupns="host",
        masked_paths=[],
        apparmor="unconfined",
    )
    security = spec.security
    assert security.devices == (Device("/dev/fuse", "/dev/fuse", "rw"),)
    assert security.seccomp == '{"defaultAction": "SCMP_ACT_ALLOW"}'
    assert security.sysctls == {"net.core.somaxconn": "100"}
    assert (security.userns, security.apparmor) == ("", "unconfined")
    assert (security.masked_paths, security.readonly_paths) == ((), None)
    assert (spec.namespaces.ipc, spec.namespaces.uts, spec.namespaces.cgroup) == (
        "",
        "host",
        "host",
    )


def test_logs_and_exposed_ports() -> None:
    spec = build(
        {"exposed_ports": ["80/tcp"]},
        expose=["80", "5000-5001/udp"],
        publish_all=True,
        logs={"driver": "json-file", "max_size": "1m", "max_files": 5, "non_blocking": True},
    )
    assert spec.exposed == ("80/tcp", "5000/udp", "5001/udp")
    assert [(p.container_port, p.protocol, p.host_port) for p in spec.ports] == [
        (80, "tcp", 0),
        (5000, "udp", 0),
        (5001, "udp", 0),
    ]
    assert spec.logs == LogOptions(max_size=MIB, max_files=5, non_blocking=True)


def test_the_mounts_of_another_container(site: Site) -> None:
    site.make("data", volumes=["a:/a", "b:/b:ro", "/anonymous"], tmpfs=["/t"])
    spec = site.make("user", volumes_from=["data:ro"], volumes=["mine:/b"]).spec
    found = {m["target"]: (m["source"], m["read_only"]) for m in spec["mounts"]}
    assert found["/b"] == ("mine", False)
    assert found["/a"] == ("a", True)
    assert set(found) == {"/a", "/b", "/anonymous"}


def test_a_link_local_address_is_taken_once_on_a_network(site: Site) -> None:
    spec = site.make("first", link_local_ips=["169.254.1.2", "fe80:0::7"]).spec
    assert spec["endpoints"][0]["link_local"] == ["169.254.1.2", "fe80::7"]
    with pytest.raises(AddressInUse, match="first") as caught:
        site.make("second", link_local_ips=["169.254.1.3", "fe80::7"])
    assert caught.value.extra["field"] == "link_local_ips[1]"


def test_it_joins_several_networks_when_it_is_made(site: Site) -> None:
    api = site.api()
    for name, subnet in (("shop", "172.29.5.0/24"), ("lab", "172.29.6.0/24")):
        api.post("networks", {"name": name, "subnet": subnet})
    made = site.make(
        "both",
        networks=[
            {"name": "shop", "ip": "172.29.5.9", "aliases": ["db"]},
            "name=lab,alias=sql,link-local-ip=169.254.3.3",
        ],
    )
    first, shop, lab = made.spec["endpoints"]
    assert (shop["address"], shop["aliases"]) == ("172.29.5.9", ["db"])
    assert (lab["aliases"], lab["link_local"]) == (["sql"], ["169.254.3.3"])
    row = api.get("containers/both")
    assert [n["name"] for n in row["networks"]][1:] == ["shop", "lab"]
    # Each of them is in use, and its addresses are taken.
    assert api.delete("networks/lab", expect=409)["code"] == "network_in_use"
    for networks, field in (
        (["shop", "nowhere"], "networks[1]"),
        (["lab", "shop", {"name": "lab"}], "networks[2]"),
        (["name=shop,ip=172.29.5.9"], "networks[0].ip"),
        (["name=shop,ip=10.0.0.1"], "networks[0].ip"),
        (["name=shop,alias=a b"], "networks[0].aliases"),
        (["shop,alias=x"], "networks[0]"),
    ):
        with pytest.raises((SpecInvalid, NotFound, AddressInUse)) as caught:
            site.make("other", networks=networks)
        assert caught.value.extra["field"] == field
    with pytest.raises(SpecInvalid) as caught:
        site.make("other", network="none", networks=["shop"])
    assert caught.value.extra["field"] == "networks"
    assert first["network_id"] not in (shop["network_id"], lab["network_id"])
    copy = initial_values(made)["request"]
    assert copy["networks"] == ["name=shop,alias=db", "name=lab,alias=sql"]


def test_namespaces_of_another_container_are_kept_by_id(site: Site) -> None:
    other = site.make("first")
    spec = site.make("second", pid="container:first", ipc=f"container:{other.pk[:12]}").spec
    assert spec["namespaces"]["pid"] == spec["namespaces"]["ipc"] == f"container:{other.pk}"


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("pid", {"pid": "container:nobody"}),
        ("ipc", {"ipc": "sometimes"}),
        ("volumes_from[0]", {"volumes_from": ["nobody"]}),
        ("devices[1]", {"devices": ["/dev/null", "null"]}),
        ("device_cgroup_rules[0]", {"device_cgroup_rules": ["everything"]}),
        ("sysctls.kernel.panic", {"sysctls": {"kernel.panic": "1"}}),
        ("sysctls.kernel.msgmax", {"sysctls": {"kernel.msgmax": "1"}, "ipc": "host"}),
        ("tmpfs[0]", {"tmpfs": ["/run:bogus"]}),
        ("mounts[0].recursive", {"mounts": [{"target": "/v", "recursive": "disabled"}]}),
        ("mounts[0].nocopy", {"mounts": [{"type": "bind", "target": "/v", "source": "/srv", "nocopy": True}]}),
        ("limits.device_read_bps", {"limits": {"device_read_bps": ["/dev/sda"]}}),
        ("logs.max_size", {"logs": {"max_size": "1"}}),
        ("logs.max_buffer", {"logs": {"max_buffer": "1"}}),
        ("hostname", {"network": "container:first", "hostname": "x"}),
        ("dns", {"network": "container:first", "dns": ["1.1.1.1"]}),
        ("ip", {"network": "host", "ip": "172.30.0.9"}),
        ("link_local_ips[1]", {"link_local_ips": ["169.254.1.2", "10.0.0.1"]}),
        ("link_local_ips[0]", {"link_local_ips": ["169.254.255.255"]}),
        ("link_local_ips", {"link_local_ips": ["fe80::1:2", "FE80::1:2"]}),
        ("link_local_ips", {"network": "none", "link_local_ips": ["169.254.1.2"]}),
        ("env_file[0]", {"env_file": "NAME"}),
        ("seccomp", {"seccomp": "strict"}),
        ("auto_remove", {"auto_remove": True, "restart": "always"}),
    ],
)  # fmt: skip
def test_an_error_names_the_option(site: Site, field: str, fields: dict[str, Any]) -> None:
    site.make("first")
    with pytest.raises((SpecInvalid, NotFound)) as caught:
        site.make("second", **fields)
    error: EngineError = caught.value
    assert str(error.extra["field"]).startswith(field)


def test_output_that_is_not_kept_is_said_to_be_so(site: Site) -> None:
    site.make("silent", logs={"driver": "none"})
    answer = site.api().get("containers/silent/logs", expect=404)
    assert "log driver is none" in answer["message"]


def test_one_port_of_a_range_is_picked(site: Site) -> None:
    site.make("first", ports=["8000:80"])
    picked = [
        (port["host_port"], port["container_port"], port["host_ip"])
        for port in site.make("second", ports=["8000-8002:80", "8000-8002:81", "90"]).spec["ports"]
    ]
    assert picked[:2] == [(8001, 80, "0.0.0.0"), (8002, 81, "0.0.0.0")]
    assert picked[2][0] >= 32768
    with pytest.raises(PortInUse) as caught:
        site.make("third", ports=["9000:80", "8000-8002:81"])
    assert caught.value.extra["field"] == "ports[1]"
    # Another protocol has ports of its own.
    udp = site.make("fourth", ports=["8000-8002:53/udp"]).spec["ports"]
    assert (udp[0]["host_port"], set(udp[0])) == (
        8000,
        {"host_port", "container_port", "protocol", "host_ip"},
    )
