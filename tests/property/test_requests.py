"""A specification says how to ask for it again: whatever was asked, the answer makes the same one."""

from __future__ import annotations

import dataclasses
import string
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import SpecInvalid
from runtime.model.codec import from_json, to_json
from runtime.model.spec import ContainerSpec, Mount
from webui.containers.asking import request_of
from webui.containers.building import build_spec
from webui.containers.requests import ContainerRequest

word = st.text(string.ascii_lowercase, min_size=1, max_size=8)
words = st.lists(word, max_size=3, unique=True)
pairs = st.dictionaries(word, word, max_size=3)
sizes = st.integers(6 * 2**20, 2**40)
devices = st.dictionaries(word.map("/dev/{}".format), st.integers(10, 1000), max_size=2)
path = word.map("/{}".format)
config = st.fixed_dictionaries(
    {
        "entrypoint": words,
        "cmd": st.lists(word, min_size=1, max_size=3),
        "env": pairs.map(lambda p: [f"{k}={v}" for k, v in p.items()]),
        "working_dir": st.just("") | path,
        "user": st.just("") | word,
        "volumes": st.lists(path, max_size=2, unique=True),
        "exposed_ports": st.lists(st.sampled_from(["80/tcp", "53/udp"]), unique=True),
        "labels": pairs,
        "stop_signal": st.sampled_from(["", "SIGQUIT"]),
    }
)
mounts = st.lists(
    st.fixed_dictionaries({"type": st.just("bind"), "source": path, "target": path},
                          optional={"read_only": st.booleans(),
                                    "propagation": st.sampled_from(["rprivate", "rslave"]),
                                    "recursive": st.sampled_from(["enabled", "writable"])})
    | st.fixed_dictionaries({"type": st.just("volume"), "target": path},
                            optional={"source": word, "subpath": word, "nocopy": st.booleans()})
    | st.fixed_dictionaries({"type": st.just("tmpfs"), "target": path},
                            optional={"tmpfs_size": sizes, "tmpfs_mode": st.just("700"),
                                      "tmpfs_options": st.just(["exec", "uid=5"]),
                                      "read_only": st.booleans()}),
    max_size=3, unique_by=lambda m: m["target"],
)  # fmt: skip
limits = st.fixed_dictionaries(
    {},
    optional={
        "memory": sizes,
        "memory_swap": st.just(-1) | sizes,
        "oom_kill_disable": st.booleans(),
        "oom_score_adj": st.integers(-1000, 1000),
        "cpus": st.floats(0.1, 64),
        "cpuset_cpus": st.just("0-1"),
        "pids": st.integers(1, 1000),
        "device_read_bps": devices,
        "blkio_weight_device": devices,
    },
)
request = st.fixed_dictionaries(
    {"image": st.just("x")},
    optional={
        "command": st.lists(word, min_size=1, max_size=3) | st.just("sh -c 'a b'"),
        "entrypoint": st.lists(word, min_size=1, max_size=2),
        "env": pairs,
        "working_dir": path,
        "user": word,
        "groups": words,
        "tty": st.booleans(),
        "stdin": st.booleans(),
        "init": st.booleans(),
        "hostname": word,
        "domainname": word,
        "mounts": mounts,
        "limits": limits,
        "ulimits": st.just(["nofile=10:20"]),
        "restart": st.sampled_from(["no", "always", "on-failure:3"]),
        "ports": st.lists(st.sampled_from(["8080:80", "127.0.0.1:53:53/udp"]), unique=True),
        "expose": st.lists(st.sampled_from(["80", "9000-9001/udp"]), unique=True),
        "network": st.sampled_from(["", "host", "none"]),
        "dns": words,
        "dns_search": words,
        "extra_hosts": pairs,
        "labels": pairs,
        "stop_signal": st.sampled_from(["SIGINT", "SIGQUIT", "SIGTERM"]),
        "stop_timeout": st.integers(0, 60),
        "shm_size": sizes,
        "privileged": st.booleans(),
        "cap_add": words,
        "no_new_privileges": st.booleans(),
        "read_only_rootfs": st.booleans(),
        "seccomp": st.sampled_from(["default", "unconfined", '{"defaultAction": "x"}']),
        "userns": st.sampled_from(["", "host", "private"]),
        "pid": st.sampled_from(["", "host"]),
        "ipc": st.sampled_from(["", "host", "none"]),
        "uts": st.sampled_from(["", "host"]),
        "cgroupns": st.sampled_from(["", "host"]),
        "devices": st.lists(
            st.sampled_from(["/dev/fuse", "/dev/a:/dev/b", "/dev/c:r", "/dev/d:/dev/e:rw"]),
            unique=True,
        ),
        "device_cgroup_rules": st.just(["c 13:* rwm"]),
        "sysctls": pairs,
        "masked_paths": st.none() | st.lists(path, max_size=2),
        "logs": st.fixed_dictionaries(
            {}, optional={"driver": st.just("none"), "max_size": sizes, "non_blocking": st.booleans()}
        ),
        "auto_remove": st.booleans(),
    },
)  # fmt: skip


def build(fields: dict[str, Any], image: dict[str, Any]) -> ContainerSpec:
    spec = build_spec(
        ContainerRequest.model_validate({"image": "x", "name": "n", **fields}),
        container_id="0" * 64,
        image="sha256:" + "0" * 64,
        config=image,
        host_ip="0.0.0.0",
    )
    # What has no name gets a new one each time.
    mounts = tuple(dataclasses.replace(m, source="") if m.anonymous else m for m in spec.mounts)
    return dataclasses.replace(spec, mounts=mounts)


@settings(max_examples=300, deadline=None)
@given(request, config)
def test_asking_for_what_there_is_makes_it_again(
    fields: dict[str, Any], image: dict[str, Any]
) -> None:
    try:
        spec = build(fields, image)
    except SpecInvalid:
        return
    assert from_json(ContainerSpec, to_json(spec)) == spec
    again = build(request_of(spec, image, networks={}, names={}), image)
    assert _sorted(again) == _sorted(spec)


def _sorted(spec: ContainerSpec) -> ContainerSpec:
    """Without the order of what has none."""

    def target(mount: Mount) -> str:
        return mount.target

    return dataclasses.replace(
        spec,
        mounts=tuple(sorted(spec.mounts, key=target)),
        process=dataclasses.replace(spec.process, env=tuple(sorted(spec.process.env))),
        exposed=tuple(sorted(spec.exposed)),
        labels=dict(sorted(spec.labels.items())),
    )
