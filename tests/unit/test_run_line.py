"""A `docker run` line becomes a request: its words, its shorthands, and what it cannot say here."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.errors import SpecInvalid
from webui.containers.building import build_spec
from webui.containers.requests import ContainerRequest
from webui.containers.run_line import parse_run_line


def asked(line: str) -> dict[str, Any]:
    request: dict[str, Any] = parse_run_line(line)["request"]
    return request


def test_a_line_as_readmes_have_it() -> None:
    found = parse_run_line("""
        $ sudo docker run -d --name db \\
            -e POSTGRES_PASSWORD='correct horse' --env TZ=UTC \\
            -v pgdata:/var/lib/postgresql/data:ro -v /srv/init:/init \\
            -p 127.0.0.1:5432:5432 -p 9000-9001:9000-9001/udp -p 80 \\
            --restart unless-stopped -m 512m --cpus=1.5 --network shop \\
            postgres:17 -c 'max_connections=50'
    """)
    assert found["request"] == {
        "name": "db",
        "env": {"POSTGRES_PASSWORD": "correct horse", "TZ": "UTC"},
        "mounts": [
            {"type": "volume", "source": "pgdata", "target": "/var/lib/postgresql/data", "read_only": True},
            {"type": "bind", "source": "/srv/init", "target": "/init"},
        ],
        "restart": {"name": "unless-stopped", "max_retries": 0},
        "limits": {"memory": "512m", "cpus": "1.5"},
        "network": "shop",
        "image": "postgres:17",
        "command": ["-c", "max_connections=50"],
    }  # fmt: skip
    assert found["ports"] == [
        {"host_ip": "127.0.0.1", "host_port": "5432", "container_port": "5432", "protocol": "tcp"},
        {"host_ip": "", "host_port": "9000-9001", "container_port": "9000-9001", "protocol": "udp"},
        {"host_ip": "", "host_port": "", "container_port": "80", "protocol": "tcp"},
    ]
    assert found["ignored"] == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("-it", {"stdin": True, "tty": True}),
        ("-dit --rm", {"stdin": True, "tty": True, "auto_remove": True}),
        ("-P --init --privileged=false", {"publish_all": True, "init": True, "privileged": False}),
        ("-m512m -eA=1", {"limits": {"memory": "512m"}, "env": {"A": "1"}}),
        ("--memory-swap -1 --oom-score-adj=-5", {"limits": {"memory_swap": "-1", "oom_score_adj": -5}}),
        ("--add-host db:10.0.0.1 --add-host=up=host-gateway",
         {"extra_hosts": {"db": "10.0.0.1", "up": "host-gateway"}}),
        ("-l a.b.c=1 --label only", {"labels": {"a.b.c": "1", "only": ""}}),
        ("--sysctl net.core.somaxconn=9", {"sysctls": {"net.core.somaxconn": "9"}}),
        ("--security-opt no-new-privileges:true --security-opt seccomp=unconfined",
         {"no_new_privileges": True, "seccomp": "unconfined"}),
        ("--security-opt systempaths=unconfined", {"masked_paths": [], "readonly_paths": []}),
        ("--device-read-bps /dev/sda:1m --device /dev/fuse",
         {"limits": {"device_read_bps": ["/dev/sda:1m"]}, "devices": ["/dev/fuse"]}),
        ("--tmpfs /run:size=1m,exec",
         {"mounts": [{"type": "tmpfs", "target": "/run", "tmpfs_size": 1 << 20,
                      "tmpfs_options": ["exec"]}]}),
        ("--mount type=volume,src=a,dst=/a,volume-subpath=x",
         {"mounts": [{"type": "volume", "source": "a", "target": "/a", "subpath": "x"}]}),
        ("--log-driver none", {"logs": {"driver": "none"}}),
        ("--log-opt max-size=1m --log-opt max-file=5 --log-opt mode=non-blocking",
         {"logs": {"max_size": "1m", "max_files": 5, "non_blocking": True}}),
        ("--entrypoint /bin/tool --net host --dns-opt ndots:2",
         {"entrypoint": ["/bin/tool"], "network": "host", "dns_options": ["ndots:2"]}),
        ("--entrypoint ''", {"entrypoint": [""]}),
        ("--network a --ip 10.0.0.5 --network b --network name=c,alias=x,alias=y,ip=10.1.0.2",
         {"network": "a", "ip": "10.0.0.5", "networks": ["b", "name=c,alias=x,alias=y,ip=10.1.0.2"]}),
        ("--network name=a,ip=10.0.0.5,alias=x,mac-address=02:00:00:00:00:07",
         {"network": "a", "ip": "10.0.0.5", "network_aliases": ["x"], "mac_address": "02:00:00:00:00:07"}),
        ("--link-local-ip 169.254.1.2 --link-local-ip fe80::2",
         {"link_local_ips": ["169.254.1.2", "fe80::2"]}),
        ("--cap-add=NET_ADMIN --cap-add SYS_TIME --read-only --shm-size 1g",
         {"cap_add": ["NET_ADMIN", "SYS_TIME"], "read_only_rootfs": True, "shm_size": "1g"}),
        ("--stop-timeout 3 --stop-signal SIGINT", {"stop_timeout": 3, "stop_signal": "SIGINT"}),
    ],
)  # fmt: skip
def test_options(options: str, expected: dict[str, Any]) -> None:
    request = asked(f"docker run {options} nginx")
    assert request == {**expected, "image": "nginx"}
    ContainerRequest.model_validate(request)


def test_what_cannot_come_along_is_said() -> None:
    found = parse_run_line(
        "podman create --pull always --env-file site.env -e HOME --security-opt label=disable x"
    )
    assert found["ignored"] == [
        "--pull",
        "--env-file site.env: paste what is in it",
        "-e HOME: it has no value here",
        "--security-opt label=disable",
    ]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("", "docker run"),
        ("ls -l", "docker run"),
        ("docker run -d", "image"),
        ("docker run --gpus all nginx", "--gpus"),
        ("docker run -Z nginx", "-Z"),
        ("docker run --storage-opt size=1g nginx", "quota"),
        ("docker run --link db:db nginx", "--network-alias"),
        ("docker run -p", "--publish"),
        ("docker run --network name=a,driver-opt=x nginx", "driver-opt"),
        ("docker run --network ip=10.0.0.5 nginx", "name"),
        ("docker run -p a:b nginx", "a:b"),
        ("docker run -v relative:path nginx", "path"),
        ("docker run --name 'open nginx", "quot"),
        ("docker run --restart sometimes nginx", "sometimes"),
    ],
)
def test_a_line_that_cannot_be_is_refused_with_what_is_wrong(line: str, word: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        parse_run_line(line)
    assert caught.value.field == "line"
    assert word in caught.value.message + caught.value.hint


def test_the_request_makes_a_specification() -> None:
    spec = build_spec(
        ContainerRequest.model_validate(asked("docker run -u 5 --ulimit nofile=5 nginx sleep 5")),
        container_id="0" * 64,
        image="sha256:" + "0" * 64,
        config={"cmd": ["x"]},
        host_ip="0.0.0.0",
    )
    assert (spec.process.args, spec.process.user) == (("sleep", "5"), "5")
