"""Nothing that somebody asked for is missing on the details page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.model.codec import to_json
from runtime.model.spec import (
    ContainerSpec,
    Device,
    Dns,
    EndpointSpec,
    Health,
    Limits,
    LogOptions,
    Mount,
    Namespaces,
    Process,
    Security,
    Ulimit,
)
from tests.support.specs import container
from webui.containers.describing import in_words

# The page shows these anyway, each in a place of its own.
ELSEWHERE = {
    "id", "name", "image", "image_reference", "version", "process.args", "process.env", "process.cwd",
    "process.user", "hostname", "limits.memory", "limits.cpus", "limits.pids", "mounts", "ports",
    "endpoints", "restart", "stop_signal", "stop_timeout", "labels",
    "security.read_only_rootfs", "logs.max_buffer",
}  # fmt: skip
OTHER: dict[str, Any] = {
    "process.groups": ("video",),
    "process.ulimits": (Ulimit("nofile", 1, -1),),
    "limits.cpuset_cpus": "0",
    "limits.cpuset_mems": "0",
    "exposed": ("80/tcp",),
    "health": Health(("true",)),
    "dns.extra_hosts": {"db": "10.0.0.1"},
    "logs.driver": "none",
    "security.seccomp": "unconfined",
    "security.userns": "host",
    "security.devices": (Device("/dev/a", "/dev/b"),),
    "security.sysctls": {"net.x": "1"},
    "security.masked_paths": (),
    "security.readonly_paths": (),
    "namespaces.network": "container:" + "a" * 64,
}
PARTS: dict[str, Any] = {
    "process": Process(("sleep",)), "limits": Limits(), "dns": Dns(), "logs": LogOptions(),
    "security": Security(), "namespaces": Namespaces(),
}  # fmt: skip


def fields() -> Iterator[tuple[str, Any]]:
    """Every field of the specification with a value that is not its default."""
    for outer in dataclasses.fields(ContainerSpec):
        part = PARTS.get(outer.name)
        names = [outer.name]
        if part is not None:
            names = [f"{outer.name}.{inner.name}" for inner in dataclasses.fields(part)]
        for name in names:
            if name not in ELSEWHERE:
                holder = part if part is not None else container()
                yield name, OTHER.get(name, _other(getattr(holder, name.rpartition(".")[2])))


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 4096
    return {str: "host", tuple: ("x",), dict: {"/dev/sda": 4096}, type(None): 4096}[type(value)]


def words_of(spec: ContainerSpec) -> dict[str, Any]:
    return in_words(to_json(spec), lambda container_id: f"<{container_id[:4]}>")


@pytest.mark.parametrize(
    ("name", "value"), list(fields()), ids=lambda v: v if "." in str(v) else ""
)
def test_whatever_differs_is_said(name: str, value: Any) -> None:
    before = container(id="0" * 64)
    outer, _, inner = name.partition(".")
    part = dataclasses.replace(getattr(before, outer), **{inner: value}) if inner else value
    after = dataclasses.replace(before, **{outer: part})
    assert words_of(after) != words_of(before)


def test_a_container_with_nothing_special_is_not_talked_about() -> None:
    assert not any(words_of(container()).values())


def test_the_words() -> None:
    spec = container(
        limits=Limits(
            memory=64 << 20, memory_swap=64 << 20, device_read_bps={"/dev/sda": 10 << 20}
        ),
        mounts=(
            Mount("bind", "/a", "/a", read_only=True, propagation="rslave", recursive="writable"),
            Mount("tmpfs", "/t", tmpfs_size=1 << 20, tmpfs_mode=0o700, tmpfs_options=("exec",)),
        ),
        namespaces=Namespaces(network="container:" + "a" * 64, pid="host"),
        dns=Dns(extra_hosts={"up": "host-gateway"}),
        logs=LogOptions(non_blocking=True, max_files=5),
        security=Security(devices=(Device("/dev/a", "/dev/b", "r"),), masked_paths=()),
    )
    words = words_of(spec)
    assert words["limits"] == [("Swap", "none"), ("Reading /dev/sda", "at most 10 MiB/s")]
    assert words["network"] == [("Network", "shared with <aaaa>"), ("Host up", "this host")]
    assert words["mounts"] == [
        ("/a", "read-only, propagation rslave, submounts stay writable"),
        ("/t", "read-write, at most 1 MiB, mode 700, exec"),
    ]
    assert words["security"] == [
        ("User namespace", "the host's: it is given what only the host's root can use"),
        ("Device", "/dev/a as /dev/b (r)"),
        ("Hidden paths", "none"),
        ("Processes", "the host's"),
    ]
    assert words["logs"] == [
        ("Kept", "5 × 10 MiB"),
        ("Slow disk", "lines are dropped when 1 MiB wait"),
    ]


def test_a_specification_from_elsewhere_breaks_no_page() -> None:
    assert in_words({"limits": {"unknown": 1}}, str) == {}
    assert in_words({}, str) != {}


def test_addresses_that_were_chosen_are_said() -> None:
    endpoint = EndpointSpec(
        "b" * 64,
        "172.30.0.5",
        22,
        "172.30.0.1",
        "02:00:00:00:00:77",
        aliases=("db", "sql"),
        link_local=("169.254.1.2", "fe80::7"),
    )
    assert words_of(container(endpoints=(endpoint,)))["network"] == [
        ("Further names", "db, sql"),
        ("Link-local addresses", "169.254.1.2, fe80::7"),
        ("MAC address", "02:00:00:00:00:77"),
    ]
    both = container(endpoints=(endpoint, dataclasses.replace(endpoint, network_id="c" * 64)))
    assert [label for label, _ in words_of(both)["network"]] == [
        "Further names on <bbbb>", "Link-local addresses on <bbbb>", "MAC address on <bbbb>",
        "Further names on <cccc>", "Link-local addresses on <cccc>", "MAC address on <cccc>",
    ]  # fmt: skip
