"""Containers in a user namespace: root inside is nobody outside, and the disk knows nothing of it."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.model.spec import ContainerSpec, Device, Mount, PortMapping, Restart, Security
from runtime.shim.client import ShimClient
from runtime.store.paths import DEFAULT_IDS
from tests.support.engine import Instance, free_port
from tests.support.waiting import PATIENCE, wait_until

FIRST, COUNT = DEFAULT_IDS
PRIVATE = Security(userns="private")
HOST = Security(userns="host")


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


def run(instance: Instance, script: str, security: Security = PRIVATE, **changes: Any) -> str:
    """stdout of a container that runs `script` to its end, which must be a success."""
    spec = instance.run(instance.shell(script, security=security, **changes))
    record = instance.engine.wait(spec.id, 10)
    text = instance.output(spec)
    assert record is not None
    assert record.code == 0, (record, text, instance.output(spec, "stderr"))
    return text


def execute(instance: Instance, spec: ContainerSpec, *args: str, **options: Any) -> str:
    """stdout of a further process in the container."""
    with ShimClient(instance.config, spec.id).exec(args, **options) as session:
        with os.fdopen(os.dup(session.stdout), "rb") as stream:
            output = stream.read().decode()
        with os.fdopen(os.dup(session.stderr), "rb") as stream:
            assert session.wait(10 * PATIENCE) == 0, (output, stream.read())
    return output.strip()


def pid(instance: Instance, spec: ContainerSpec) -> int:
    observed = instance.engine.observe(spec.id)
    assert observed.run is not None
    return observed.run.pid


def owners(path: Path) -> tuple[int, int]:
    facts = path.lstat()
    return facts.st_uid, facts.st_gid


def namespace(kind: str, pid: int | str = "self") -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


# -- who it is -----------------------------------------------------------------------------------


def test_root_inside_is_an_unprivileged_id_of_the_host(instance: Instance) -> None:
    spec = instance.run(instance.spec("sleep", "1000", security=PRIVATE))
    init = pid(instance, spec)
    assert namespace("user", init) != namespace("user")
    for name in ("uid_map", "gid_map"):
        assert Path(f"/proc/{init}/{name}").read_text().split() == ["0", str(FIRST), str(COUNT)]
    status = Path(f"/proc/{init}/status").read_text()
    assert f"Uid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}" in status
    assert f"Gid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}" in status
    assert "Groups:\t \n" in status or f"Groups:\t{FIRST} \n" in status
    assert execute(instance, spec, "id", "-u") == "0"


def test_it_can_be_left_out(instance: Instance) -> None:
    spec = instance.run(instance.spec("sleep", "1000", security=HOST))
    assert namespace("user", pid(instance, spec)) == namespace("user")


def test_each_container_has_its_own(instance: Instance) -> None:
    specs = [instance.run(instance.spec("sleep", "1000", security=PRIVATE)) for _ in range(2)]
    assert len({namespace("user", pid(instance, spec)) for spec in specs}) == 2


def test_users_of_the_image_are_themselves(instance: Instance) -> None:
    script = "id; touch /tmp/mine; ls -ln /tmp/mine; echo again > /dev/stdout"
    text = run(instance, script, process={"user": "nobody:www-data"})
    assert "uid=65534(nobody) gid=33(www-data)" in text
    assert "65534    33" in text
    assert "again" in text


def test_the_kernel_s_file_systems_are_there_and_belong_to_it(instance: Instance) -> None:
    script = """
        grep -q ' /proc ' /proc/self/mounts; ls /sys/class/net
        for path in /dev/shm /dev/mqueue /dev/null /etc/hosts /tmp; do stat -c '%u %g %n' $path; done
        echo x > /dev/null; head -c 4 /dev/urandom | wc -c; echo 127.9.9.9 me >> /etc/hosts
        touch /dev/shm/x; ls /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max
        true
    """
    text = run(instance, script)
    assert [line for line in text.splitlines() if line.startswith("0 0 /")] == [
        f"0 0 {path}" for path in ("/dev/shm", "/dev/mqueue", "/dev/null", "/etc/hosts", "/tmp")
    ]
    assert "lo" in text
    assert "/sys/fs/cgroup/memory" in text


def test_a_terminal_belongs_to_its_user(instance: Instance) -> None:
    spec = instance.run(
        instance.shell(
            "stat -c '%u:%g' $(readlink /proc/self/fd/0); sleep 1000",
            security=PRIVATE,
            process={"tty": True, "user": "33"},
        )
    )
    instance.wait_for_output(spec, "33:5")


# -- ids on disk ---------------------------------------------------------------------------------


def test_what_it_writes_has_its_ids_on_disk(instance: Instance) -> None:
    instance.engine.volumes.create("data")
    spec = instance.run(
        instance.shell(
            """
            cd /var; echo 1 > mine; echo 2 > theirs; chown 33:34 theirs; mkdir -p dir/sub
            echo 3 >> /etc/passwd; rm /etc/group; ln -s nowhere link; chown -h 5:6 link
            cd /data; echo 4 > mine; mkdir theirs; chown 999:998 theirs; chmod 2750 theirs
            """,
            security=PRIVATE,
            mounts=(Mount("volume", "/data", "data"),),
        )
    )
    record = instance.engine.wait(spec.id, 10)
    assert record is not None
    assert record.code == 0
    upper = instance.config.bundle(spec.id) / "upper"
    data = instance.config.volume("data") / "_data"
    assert owners(upper / "var/mine") == owners(upper / "var/dir/sub") == (0, 0)
    assert owners(upper / "var/theirs") == (33, 34)
    assert owners(upper / "var/link") == (5, 6)
    assert owners(upper / "etc/passwd") == (0, 0)
    assert (upper / "etc/group").lstat().st_rdev == 0
    assert owners(data / "mine") == (0, 0)
    assert owners(data / "theirs") == (999, 998)
    assert (data / "theirs").stat().st_mode & 0o7777 == 0o2750
    assert instance.engine.writable_usage(spec.id).files == 3


def test_it_can_start_without_one_the_next_time_and_with_one_again(instance: Instance) -> None:
    script = (
        "cat /var/log 2>/dev/null; stat -c %u /var/log; echo $(id -u) >> /var/log; chown 7 /var/log"
    )
    spec = instance.shell(script, security=PRIVATE)
    instance.engine.create(spec)
    for turn, security in enumerate((PRIVATE, HOST, PRIVATE)):
        instance.engine.bundles.write_spec(dataclasses.replace(spec, security=security))
        instance.engine.start(spec.id)
        record = instance.engine.wait(spec.id, 10)
        assert record is not None
        assert record.code == 0, (turn, instance.output(spec, "stderr"))
        instance.engine.cleanup(spec.id)
    assert (instance.config.bundle(spec.id) / "upper/var/log").read_text() == "0\n0\n0\n"
    assert "7" in instance.output(spec).splitlines()


def test_directories_of_the_host_keep_their_ids(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.chown(tmp_path / "file", 1000, 1001)
    tmp_path.chmod(0o755)
    text = run(
        instance,
        "stat -c '%u %g' /data/file; echo y > /data/new; chown 44:45 /data/new; cat /host/1/comm",
        mounts=(
            Mount("bind", "/data", str(tmp_path)),
            Mount("bind", "/host", "/proc", read_only=True),
        ),
    )
    assert text.startswith("1000 1001")
    assert owners(tmp_path / "new") == (44, 45)


def test_devices_given_to_it_belong_to_its_root(instance: Instance, tmp_path: Path) -> None:
    node = tmp_path / "zero"
    os.mknod(node, 0o600 | 0o020000, os.makedev(1, 5))
    device = Device(str(node), "/dev/given")
    security = dataclasses.replace(PRIVATE, devices=(device,))
    assert run(instance, "head -c 3 /dev/given | wc -c; stat -c %u:%a /dev/given", security) in (
        "3\n0:600"
    )


# -- what it may do ------------------------------------------------------------------------------


def test_the_network_is_its_own_to_rule(instance: Instance) -> None:
    security = dataclasses.replace(
        PRIVATE,
        cap_add=("NET_ADMIN",),
        sysctls={"net.ipv4.tcp_syn_retries": "4", "kernel.msgmax": "4242"},
    )
    text = run(
        instance,
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/tcp_syn_retries"
        " /proc/sys/kernel/msgmax; ip link add dummy type bridge && ip link set dummy up",
        security,
        network=instance.network(),
    )
    assert text.split() == ["0", "4", "4242"]


def test_it_has_no_power_over_the_host(instance: Instance) -> None:
    security = dataclasses.replace(PRIVATE, cap_add=("SYS_ADMIN",), seccomp="unconfined")
    text = run(
        instance,
        """
        mkdir /mnt; mount -t tmpfs none /mnt && echo mounted
        mknod /tmp/node b 254 0 || echo no node
        echo 1 > /proc/sys/kernel/sysrq || echo no sysrq
        echo c > /proc/sysrq-trigger || echo no trigger
        """,
        security,
    )
    assert text.splitlines() == ["mounted", "no node", "no sysrq", "no trigger"]


def test_ports_below_1024_are_served_and_published(instance: Instance) -> None:
    network = instance.network()
    spec = instance.run(
        instance.shell(
            "exec httpd -f -p 80 -h /bin",
            security=PRIVATE,
            process={"user": "33"},
            network=network,
            ports=(PortMapping(80, port := low_port()),),
        )
    )
    assert spec.ports[0].host_port == port
    wait_until(lambda: answers(port), what="the published port")
    wait_until(lambda: answers(80, spec.endpoints[0].address), what="the container's own port")


def low_port() -> int:
    """A port below 1024 that nobody has."""
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port below 1024 is free")


def answers(port: int, address: str = "127.0.0.1") -> bool:
    try:
        with socket.create_connection((address, port), timeout=2 * PATIENCE) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1")
    except OSError:
        return False


# -- later processes and lives ---------------------------------------------------------------------


def test_further_processes_join_it(instance: Instance) -> None:
    spec = instance.run(instance.spec("sleep", "1000", security=PRIVATE))
    init = pid(instance, spec)
    assert execute(instance, spec, "readlink", "/proc/self/ns/user") == namespace("user", init)
    execute(instance, spec, "sh", "-c", "echo x > /made; chown 33 /made")
    assert owners(instance.config.bundle(spec.id) / "upper/made") == (33, 0)
    assert execute(instance, spec, "id", "-u", user="33") == "33"
    script = "echo again > /dev/stdout"
    assert execute(instance, spec, "sh", "-c", script, user="33") == "again"
    assert execute(instance, spec, "sh", "-c", "stat -c %u /proc/self/fd/1 -L", user="33") == "33"


def test_a_restart_by_policy_keeps_namespaces_and_network(instance: Instance) -> None:
    port = free_port()
    spec = instance.run(
        instance.shell(
            "echo $(id -u) >> /lives; httpd -p 80 -h /bin; sleep 0.3; exit 1",
            security=PRIVATE,
            network=instance.network(),
            ports=(PortMapping(80, port),),
            restart=Restart("always"),
        )
    )
    first = pid(instance, spec)
    kinds = {kind: namespace(kind, first) for kind in ("user", "net")}

    def second_life() -> bool:
        observed = instance.engine.observe(spec.id)
        return observed.run is not None and observed.run.pid not in (0, first)

    wait_until(second_life, what="its second life")
    wait_until(lambda: answers(port), what="its port")
    second = wait_until(lambda: pid(instance, spec), what="a life")
    for kind, value in kinds.items():
        assert namespace(kind, second) == value, kind
    assert owners(instance.config.bundle(spec.id) / "upper/lives") == (0, 0)
