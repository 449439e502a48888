"""Fill a database with a believable host, so that pages can be looked at without running containers.

    python -m tests.support.seed            into the database of DJANGO_SETTINGS_MODULE
    python -m tests.support.seed --many 500 with that many containers more

Nothing here touches the kernel; the containers exist as rows only.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import django

MIB = 1024**2
GIB = 1024**3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--many", type=int, default=0, help="this many more small containers")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webui.settings")
    django.setup()
    seed(many=options.many)


def seed(*, many: int = 0) -> None:
    """Make users, one host, images, networks, volumes, containers, operations and events."""
    from webui.accounts.models import ApiToken, User

    admin = User.objects.create_superuser("admin", "admin@example.org", "slipway")
    admin.role = User.Role.ADMIN
    admin.save()
    User.objects.create_user("viewer", password="slipway", role=User.Role.VIEWER)
    ApiToken.objects.create(
        user=admin,
        name="backup script",
        prefix="slw_b7Qk2",
        digest="0" * 64,
        read_only=True,
        last_used_at=_before(hours=3),
    )
    host = _host()
    images = _images(host)
    networks = _networks(host)
    _containers(host, images, networks, admin)
    _history(host, admin)
    for number in range(many):
        _container(
            host,
            images["busybox"],
            networks["default"],
            admin,
            f"task-{number:03}",
            number=100 + number,
            args=["sleep", "3600"],
            limits={"memory": 64 * MIB, "cpus": 0.25},
        )


def _now() -> datetime:
    return datetime.now(UTC)


def _before(**parts: float) -> datetime:
    return _now() - timedelta(**parts)


def _host() -> Any:
    from webui.hosts.models import Host

    return Host.objects.create(
        id="9f2c" * 8,
        name="harbour-1",
        last_seen=_before(seconds=4),
        facts={
            "hostname": "harbour-1",
            "kernel": "6.1.0-28-amd64",
            "operating_system": "Debian GNU/Linux 12 (bookworm)",
            "cores": 8,
            "memory_total": 16 * GIB,
            "cgroup": {
                "version": "v2",
                "controllers": ["cpu", "cpuset", "io", "memory", "pids"],
                "swap_limit": True,
            },
            "user_namespaces": {
                "available": True,
                "reason": "",
                "first_id": 2013265920,
                "ids": 134086656,
            },
            "overlay": True,
            "seccomp": True,
            "python": "3.11.2",
            "network": {
                "host_subnets": ["10.0.0.0/24", "192.168.1.1/32"],
                "blocking_chains": ["ip filter FORWARD"],
                "sysctl_changes": [
                    {
                        "name": "net.ipv4.ip_forward",
                        "before": "0",
                        "after": "1",
                        "reason": "containers reach other networks through this host",
                    }
                ],
            },
        },
        unmanaged=[{"id": "5a" * 32, "name": "from-a-backup", "status": "running"}],
    )


def _digest(seed: str) -> str:
    return "sha256:" + (seed * 64)[:64]


def _images(host: Any) -> dict[str, Any]:
    from webui.images.models import Image, Reference

    made = {}
    catalogue: list[tuple[str, str, int, dict[str, Any], list[str]]] = [
        (
            "nginx",
            "a1f3",
            188 * MIB,
            {
                "entrypoint": ["/docker-entrypoint.sh"],
                "cmd": ["nginx", "-g", "daemon off;"],
                "env": [
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
                    "NGINX_VERSION=1.27.3",
                ],
                "exposed_ports": ["80/tcp"],
                "stop_signal": "SIGQUIT",
            },
            ["docker.io/library/nginx:1.27", "docker.io/library/nginx:latest"],
        ),
        (
            "postgres",
            "b2e4",
            431 * MIB,
            {
                "entrypoint": ["docker-entrypoint.sh"],
                "cmd": ["postgres"],
                "env": ["PGDATA=/var/lib/postgresql/data", "PG_MAJOR=16"],
                "exposed_ports": ["5432/tcp"],
                "volumes": ["/var/lib/postgresql/data"],
                "stop_signal": "SIGINT",
            },
            ["docker.io/library/postgres:16"],
        ),
        (
            "redis",
            "c3d5",
            117 * MIB,
            {
                "entrypoint": ["docker-entrypoint.sh"],
                "cmd": ["redis-server"],
                "env": ["REDIS_VERSION=7.4.1"],
                "working_dir": "/data",
                "exposed_ports": ["6379/tcp"],
                "volumes": ["/data"],
            },
            ["docker.io/library/redis:7.4-alpine"],
        ),
        (
            "worker",
            "d4c6",
            264 * MIB,
            {
                "cmd": ["python", "-m", "shop.worker"],
                "env": ["PYTHONUNBUFFERED=1"],
                "working_dir": "/srv/shop",
                "user": "shop",
            },
            ["registry.example:5000/shop/worker:2024.11.3"],
        ),
        ("busybox", "e5b7", 2 * MIB, {"cmd": ["sh"]}, ["slipway/starter:latest"]),
        ("old", "f6a8", 402 * MIB, {"cmd": ["postgres"]}, []),
    ]
    for age, (name, mark, size, config, references) in enumerate(catalogue):
        image = Image.objects.create(
            host=host,
            digest=_digest(mark),
            config=config,
            layers=[
                {
                    "diff_id": _digest(mark + "1"),
                    "size": int(size * 0.7),
                    "created_by": "ADD rootfs.tar.xz /",
                },
                {
                    "diff_id": _digest(mark + "2"),
                    "size": int(size * 0.29),
                    "created_by": f"RUN apt-get install {name}",
                },
                {
                    "diff_id": _digest(mark + "3"),
                    "size": int(size * 0.01),
                    "created_by": "COPY docker-entrypoint.sh /",
                },
            ],
            architecture="amd64",
            os="linux",
            size=size,
            built_at=_before(days=20 + age),
        )
        Image.objects.filter(pk=image.pk).update(added_at=_before(days=age, hours=2))
        for reference in references:
            Reference.objects.create(host=host, image=image, name=reference)
        made[name] = image
    return made


def _networks(host: Any) -> dict[str, Any]:
    from webui.networks.models import Network

    return {
        "default": Network.objects.create(
            host=host, name="default", subnet="172.30.0.0/16", gateway="172.30.0.1", is_default=True
        ),
        "shop": Network.objects.create(
            host=host, name="shop", subnet="172.31.0.0/24", gateway="172.31.0.1"
        ),
        "backend": Network.objects.create(
            host=host, name="backend", subnet="172.31.1.0/24", gateway="172.31.1.1", internal=True
        ),
    }


def _container(
    host: Any,
    image: Any,
    network: Any,
    user: Any,
    name: str,
    *,
    number: int,
    args: list[str],
    env: list[str] | None = None,
    limits: dict[str, Any] | None = None,
    ports: list[tuple[int, int]] | None = None,
    mounts: list[dict[str, Any]] | None = None,
    restart: str = "no",
    **observed: Any,
) -> Any:
    from webui.containers.models import Container
    from webui.networks.models import Endpoint, PortReservation
    from webui.volumes.models import Volume, VolumeMount

    reference = image.references.order_by("-name").first()
    facts = {
        "status": "running",
        "started_at": _before(hours=number * 3 + 0.2),
        "present": True,
        "pid": 4000 + number,
        "health": {},
        "usage": {},
        **observed,
    }
    identifier = f"{number:02x}{'7c1e93ab52d08f64' * 4}"[:64]
    container = Container.objects.create(
        id=identifier,
        host=host,
        name=name,
        image=image,
        image_reference=reference.name if reference else image.digest,
        created_by=user,
        spec={
            "id": identifier,
            "name": name,
            "image": image.digest,
            "image_reference": reference.name if reference else image.digest,
            "process": {
                "args": args,
                "env": [*image.config.get("env", []), *(env or [])],
                "cwd": image.config.get("working_dir") or "/",
                "user": image.config.get("user", ""),
            },
            "limits": limits or {},
            "mounts": mounts or [],
            "ports": [
                {
                    "host_ip": "0.0.0.0",
                    "host_port": outside,
                    "container_port": inside,
                    "protocol": "tcp",
                }
                for outside, inside in ports or []
            ],
            "restart": {"name": restart, "max_retries": 0},
            "stop_signal": image.config.get("stop_signal") or "SIGTERM",
            "stop_timeout": 10,
            "labels": {},
        },
        **facts,
    )
    Container.objects.filter(pk=container.pk).update(created_at=_before(hours=number * 3 + 1))
    Endpoint.objects.create(
        container=container,
        network=network,
        address=f"{network.subnet.rsplit('.', 1)[0]}.{number + 2}"
        if number < 250
        else f"172.30.{number // 250}.{number % 250 + 2}",
        mac_address=f"02:42:ac:1e:{number // 256:02x}:{number % 256:02x}",
    )
    for outside, inside in ports or []:
        PortReservation.objects.create(
            host=host,
            container=container,
            protocol="tcp",
            host_ip="0.0.0.0",
            host_port=outside,
            container_port=inside,
        )
    for mount in mounts or []:
        if mount["type"] == "volume":
            volume, _ = Volume.objects.get_or_create(
                host=host,
                name=mount["source"],
                defaults={
                    "size": 412 * MIB + number * MIB,
                    "anonymous": mount.get("anonymous", False),
                },
            )
            VolumeMount.objects.create(container=container, volume=volume, target=mount["target"])
    return container


def _containers(host: Any, images: dict[str, Any], networks: dict[str, Any], user: Any) -> None:
    shop = networks["shop"]
    _container(
        host, images["nginx"], shop, user, "shop-web", number=1,
        args=["nginx", "-g", "daemon off;"],
        limits={"memory": 256 * MIB, "cpus": 1.0, "pids": 200},
        ports=[(8080, 80), (8443, 443)],
        mounts=[{"type": "bind", "source": "/srv/shop/www", "target": "/usr/share/nginx/html", "read_only": True}],
        restart="unless-stopped",
        health={"status": "healthy"},
        usage={"writable_bytes": 41_000, "memory_peak": 61 * MIB},
    )  # fmt: skip
    _container(
        host, images["postgres"], shop, user, "shop-db", number=2,
        args=["docker-entrypoint.sh", "postgres"],
        env=["POSTGRES_PASSWORD=correct horse", "POSTGRES_DB=shop"],
        limits={"memory": 1 * GIB, "cpus": 2.0},
        mounts=[{"type": "volume", "source": "shop-db-data", "target": "/var/lib/postgresql/data", "read_only": False}],
        restart="always",
        health={"status": "healthy"},
        usage={"writable_bytes": 120_000, "memory_peak": 702 * MIB},
    )  # fmt: skip
    _container(
        host, images["worker"], shop, user, "shop-worker", number=3,
        args=["python", "-m", "shop.worker"],
        limits={"cpus": 0.5},
        env=["QUEUE=orders", "API_TOKEN=abc123"],
        usage={
            "writable_bytes": 623 * MIB,
            "writable_paths": [["/srv/shop/cache", 611 * MIB], ["/tmp", 11 * MIB], ["/root/.cache", 900_000]],
            "throttled_share": 0.14, "throttled_seconds": 320,
        },
    )  # fmt: skip
    _container(
        host, images["redis"], networks["backend"], user, "sessions", number=4,
        args=["docker-entrypoint.sh", "redis-server"],
        limits={"memory": 128 * MIB, "cpus": 0.5},
        mounts=[{"type": "volume", "source": "4f0c" * 16, "target": "/data", "read_only": False, "anonymous": True}],
        status="paused",
        usage={"writable_bytes": 0},
    )  # fmt: skip
    _container(
        host, images["worker"], shop, user, "report-nightly", number=5,
        args=["python", "-m", "shop.report"],
        limits={"memory": 96 * MIB, "cpus": 0.5},
        status="exited", started_at=_before(hours=5, seconds=43), finished_at=_before(hours=5),
        exit_code=137, exit_reason="oom_killed", oom_killed=True, pid=0,
        usage={"writable_bytes": 3 * MIB, "oom_kills": 1, "memory_peak": 96 * MIB},
    )  # fmt: skip
    _container(
        host, images["worker"], shop, user, "import-legacy", number=6,
        args=["python", "-m", "shop.imprt"],
        limits={"memory": 256 * MIB, "cpus": 1.0},
        restart="on-failure",
        status="restarting", started_at=_before(seconds=20), finished_at=_before(seconds=17),
        next_restart_at=_now() + timedelta(seconds=25), restart_count=6,
        exit_code=1, exit_reason="exited", pid=0,
    )  # fmt: skip
    _container(
        host, images["busybox"], networks["default"], user, "hello", number=7,
        args=["echo", "hello"],
        limits={"memory": 32 * MIB, "cpus": 0.25},
        status="exited", started_at=_before(days=1, seconds=2), finished_at=_before(days=1),
        exit_code=0, exit_reason="exited", pid=0,
    )  # fmt: skip
    _container(
        host, images["nginx"], networks["default"], user, "try-nginx", number=8,
        args=["nginx", "-g", "daemon off;"],
        status="created", started_at=None, pid=0,
    )  # fmt: skip


def _history(host: Any, user: Any) -> None:
    from webui.containers.models import Container
    from webui.operations.models import Event, Operation

    container = {each.name: each for each in Container.objects.all()}
    failed = {
        "code": "registry_unavailable",
        "message": "registry.example:5000 did not answer within 30 s.",
        "hint": "Check the name and that this host can reach it.",
        "retryable": True,
        "extra": {},
    }
    operations: list[tuple[str, str, str, str, float, dict[str, Any] | None]] = [
        ("container.create", "container", "shop-web", "succeeded", 3.2, None),
        ("image.pull", "image", "docker.io/library/postgres:16", "succeeded", 4, None),
        ("image.pull", "image", "registry.example:5000/shop/worker:2024.12.0", "failed", 2, failed),
        ("container.restart", "container", "shop-worker", "succeeded", 1, None),
        ("container.pause", "container", "sessions", "succeeded", 0.4, None),
    ]
    for kind, target, name, status, hours, error in operations:
        operation = Operation.objects.create(
            host=host, kind=kind, target_type=target, target_name=name, status=status, error=error,
            target_id=container[name].id if name in container else name, user=user,
            started_at=_before(hours=hours), finished_at=_before(hours=hours - 0.002),
        )  # fmt: skip
        Operation.objects.filter(pk=operation.pk).update(created_at=_before(hours=hours))
    running = Operation.objects.create(
        host=host, kind="image.pull", target_type="image", status="running", user=user,
        target_id="docker.io/library/python:3.12", target_name="docker.io/library/python:3.12",
        started_at=_before(seconds=8),
        progress={
            "text": "downloading",
            "parts": {
                _digest("11"): {"part": "", "stage": "exists", "current": 0, "total": 0},
                _digest("22"): {"part": "", "stage": "done", "current": 24 * MIB, "total": 24 * MIB},
                _digest("33"): {"part": "", "stage": "unpacking", "current": 31 * MIB, "total": 64 * MIB},
                _digest("44"): {"part": "", "stage": "downloading", "current": 88 * MIB, "total": 211 * MIB},
                _digest("55"): {"part": "", "stage": "waiting", "current": 0, "total": 6 * MIB},
            },
        },
    )  # fmt: skip
    Operation.objects.filter(pk=running.pk).update(created_at=_before(seconds=9))
    events: list[tuple[str, str, float, dict[str, Any]]] = [
        ("container.restarting", "import-legacy", 0.005, {"exit_code": 1}),
        ("container.paused", "sessions", 0.4, {}),
        ("container.started", "shop-worker", 1.0, {}),
        ("container.exited", "shop-worker", 1.001, {"exit_code": 0}),
        ("container.oom_killed", "report-nightly", 5.0, {"exit_code": 137}),
        ("container.started", "report-nightly", 5.01, {}),
        ("container.created", "shop-web", 3.2, {}),
        ("container.started", "shop-db", 6.2, {}),
    ]
    for kind, name, hours, data in events:
        Event.objects.create(
            host=host, time=_before(hours=hours), type=kind, target_type="container",
            target_id=container[name].id, target_name=name, data=data,
            user=user if kind.endswith(("paused", "created")) else None,
        )  # fmt: skip


if __name__ == "__main__":
    main()
