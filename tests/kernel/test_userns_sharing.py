"""User namespaces and what is shared: namespaces of other containers, the host's parts, counts, file systems."""

from __future__ import annotations

import dataclasses
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import InitFailed, KernelFailure, SpecInvalid, Unsupported
from runtime.kernel import constants as c
from runtime.kernel import syscalls, userns
from runtime.kernel.seccomp import kernel_is
from runtime.launcher.userns import install
from runtime.model.spec import (
    ContainerSpec,
    Limits,
    Mount,
    Namespaces,
    Restart,
    Security,
    Ulimit,
)
from runtime.model.state import Status
from runtime.shim.client import ShimClient
from runtime.store.files import write_json
from tests.support.engine import Instance
from tests.support.options import Seen
from tests.support.waiting import PATIENCE, wait_until

PRIVATE = Security(userns="private")
HOST = Security(userns="host")


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


def started(instance: Instance, security: Security = PRIVATE, **changes: Any) -> Seen:
    spec = instance.spec("sleep", "1000", security=security, **changes)
    return Seen(instance, instance.run(spec))


def of_the_host(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


# -- namespaces of others --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["network", "pid", "ipc"])
def test_who_joins_a_container_runs_in_its_user_namespace(instance: Instance, kind: str) -> None:
    first = started(instance, network=instance.network())
    modes = Namespaces(**{"network": "none", kind: f"container:{first.spec.id}"})
    second = started(instance, Security(), namespaces=modes)
    assert second.namespace("user") == first.namespace("user")
    name = "net" if kind == "network" else kind
    assert second.namespace(name) == first.namespace(name)
    assert second.run("id", "-u") == "0"
    second.run("touch", "/made")
    upper = instance.config.bundle(second.spec.id) / "upper"
    assert (upper / "made").stat().st_uid == 0


def test_shared_memory_is_shared_with_who_joins(instance: Instance) -> None:
    first = started(instance)
    modes = Namespaces(network="none", ipc=f"container:{first.spec.id}")
    second = started(instance, Security(), namespaces=modes)
    first.run("sh", "-c", "echo from the first > /dev/shm/note")
    assert second.run("cat", "/dev/shm/note") == "from the first"


def test_who_joins_a_container_of_the_host_s_ids_has_them_too(instance: Instance) -> None:
    first = started(instance, HOST)
    modes = Namespaces(network=f"container:{first.spec.id}")
    second = started(instance, Security(), namespaces=modes)
    assert second.namespace("user") == of_the_host("user")
    spec = instance.create(instance.spec("true", security=PRIVATE, namespaces=modes))
    with pytest.raises(SpecInvalid) as caught:
        instance.engine.start(spec.id)
    assert caught.value.field == "security.userns"
    assert "userns" in caught.value.hint


def test_two_user_namespaces_cannot_be_joined(instance: Instance) -> None:
    one, other = started(instance), started(instance)
    modes = Namespaces(network=f"container:{one.spec.id}", pid=f"container:{other.spec.id}")
    spec = instance.create(instance.spec("true", namespaces=modes))
    with pytest.raises(SpecInvalid, match="different user namespaces"):
        instance.engine.start(spec.id)


@pytest.mark.parametrize("kind", ["network", "pid", "ipc"])
def test_parts_of_the_host_come_with_its_ids(instance: Instance, kind: str) -> None:
    modes = Namespaces(**{"network": "none", kind: "host"})
    seen = started(instance, Security(), namespaces=modes)
    assert seen.namespace("user") == of_the_host("user")
    with pytest.raises(SpecInvalid) as caught:
        instance.create(instance.spec("true", security=PRIVATE, namespaces=modes))
    assert caught.value.field == "security.userns"


@pytest.mark.parametrize(
    "security",
    [
        Security(privileged=True),
        Security(cap_add=("SYS_TIME",)),
        Security(cap_add=("ALL",)),
        Security(device_cgroup_rules=("c 10:* rwm",)),
    ],
    ids=["privileged", "a capability of the host", "all", "rules for devices"],
)
def test_powers_of_the_host_come_with_its_ids(instance: Instance, security: Security) -> None:
    assert started(instance, security).namespace("user") == of_the_host("user")


def test_the_host_s_name_and_groups_need_not(instance: Instance) -> None:
    seen = started(instance, Security(), namespaces=Namespaces(uts="host", cgroup="host"))
    assert seen.namespace("user") != of_the_host("user")
    assert seen.run("hostname") == os.uname().nodename


# -- lives -----------------------------------------------------------------------------------------


def test_without_a_launcher_and_with_another_they_go_on(instance: Instance) -> None:
    seen = started(instance, restart=Restart("always"))
    first, mine = seen.pid, seen.namespace("user")
    instance.kill_launcher()
    assert seen.run("id", "-u") == "0"
    os.kill(first, 9)
    wait_until(lambda: seen.pid not in (0, first), what="its second life")
    assert seen.namespace("user") == mine
    seen.run("touch", "/made")
    assert (instance.config.bundle(seen.spec.id) / "upper/made").stat().st_uid == 0
    instance.start_launcher()
    modes = Namespaces(network=f"container:{seen.spec.id}")
    assert started(instance, Security(), namespaces=modes).namespace("user") == mine


def test_one_process_is_enough(instance: Instance) -> None:
    seen = started(instance, limits=Limits(pids=1))
    assert seen.limit(("pids", "pids.current"), ("pids", "pids.current")) == "1"


def test_processes_of_root_are_counted_for_each_container_alone(instance: Instance) -> None:
    limit = {"ulimits": (Ulimit("nproc", 3, 3),)}
    for _ in range(3):
        seen = started(instance, process=limit)
    refused = "for n in 1 2 3 4; do sleep 9 2> /dev/null & done"
    assert "fork" in seen.fails("sh", "-c", refused + "; false")


# -- programs with privileges of their own ---------------------------------------------------------


def program(code: str) -> bytes:
    """A static program of x86-64 machine code."""
    text = bytes.fromhex(code)
    size = 0x78 + len(text)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 64, 0, 0,
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 0x1000)
    return header + segment + text


# exit(geteuid()), and exit(-setuid(0))
GETEUID = program("b86b0000000f0589c7b83c0000000f05")
SETUID = program("31ffb8690000000f05f7d889c7b83c0000000f05")
MAY_SETUID = struct.pack("<IIIII", 0x02000001, 1 << 7, 0, 0, 0)  # linux/capability.h, vfs_cap_data


def exit_code(instance: Instance, spec: ContainerSpec, command: str) -> int:
    with ShimClient(instance.config, spec.id).exec((command,), user="65534") as session:
        return session.wait(10 * PATIENCE)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine code of x86-64")
def test_programs_keep_the_privileges_of_their_files(instance: Instance, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for name, code, mode in (
        ("setuid", GETEUID, 0o4755),
        ("capable", SETUID, 0o755),
        ("plain", SETUID, 0o755),
    ):
        (tmp_path / name).write_bytes(code)
        (tmp_path / name).chmod(mode)
    os.setxattr(tmp_path / "capable", "security.capability", MAY_SETUID)
    seen = started(instance, mounts=(Mount("bind", "/host", str(tmp_path)),))
    assert exit_code(instance, seen.spec, "/host/setuid") == 0
    assert exit_code(instance, seen.spec, "/host/capable") == 0
    assert exit_code(instance, seen.spec, "/host/plain") == 1  # EPERM


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine code of x86-64")
def test_capabilities_set_inside_are_set_with_any_user_namespace(instance: Instance) -> None:
    seen = started(instance)
    child = os.fork()
    if child == 0:
        try:
            syscalls.setns(os.pidfd_open(seen.pid), c.CLONE_NEWUSER | c.CLONE_NEWNS)
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            Path("/made").write_bytes(SETUID)
            Path("/made").chmod(0o755)
            os.setxattr("/made", "security.capability", MAY_SETUID)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    made = instance.config.bundle(seen.spec.id) / "upper/made"
    assert os.getxattr(made, "security.capability") == MAY_SETUID
    assert exit_code(instance, seen.spec, "/made") == 0
    instance.engine.stop(seen.spec.id, timeout=0)
    instance.engine.bundles.write_spec(dataclasses.replace(seen.spec, security=HOST))
    instance.engine.start(seen.spec.id)
    assert exit_code(instance, seen.spec, "/made") == 0


# -- hosts and file systems that cannot ------------------------------------------------------------


@pytest.fixture
def merged(tmp_path: Path) -> Iterator[Path]:
    """A file system without idmapped mounts: an overlay."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    target = tmp_path / "merged"
    syscalls.mount("overlay", str(target), "overlay", 0, options)
    yield target
    syscalls.umount(str(target), c.MNT_DETACH)


def test_a_mount_that_cannot_be_mapped_decides_unless_it_was_asked_for(
    instance: Instance, merged: Path
) -> None:
    mounts = (Mount("bind", "/data", str(merged)),)
    seen = started(instance, Security(), mounts=mounts, restart=Restart("always"))
    assert seen.namespace("user") == of_the_host("user")
    assert seen.run("touch", "/data/made") == ""
    first = seen.pid
    os.kill(first, 9)
    wait_until(lambda: seen.pid not in (0, first), what="its second life")
    assert seen.namespace("user") == of_the_host("user")
    spec = instance.create(instance.spec("true", security=PRIVATE, mounts=mounts))
    with pytest.raises(Unsupported, match="idmapped mounts on overlay") as caught:
        instance.engine.start(spec.id)
    assert caught.value.extra["field"] == "security.userns"
    assert instance.status(spec) == Status.EXITED


def test_going_without_is_told_in_the_log(capfd: pytest.CaptureFixture[str], merged: Path) -> None:
    with Instance() as instance:
        seen = started(instance, Security(), mounts=(Mount("bind", "/data", str(merged)),))
        told = (
            f"{seen.spec.short_id} runs with the host's ids, for want of idmapped mounts on overlay"
        )
        assert told in capfd.readouterr().err


def test_mounts_below_that_cannot_are_left_as_they_are(instance: Instance, merged: Path) -> None:
    (merged / "inside").write_text("seen")
    parent = merged.parent
    seen = started(instance, mounts=(Mount("bind", "/data", str(parent)),))
    assert seen.run("cat", "/data/merged/inside") == "seen"
    assert seen.run("stat", "-c", "%u", "/data/lower", "/data/merged/inside").split() == [
        "0",
        "65534",
    ]


def test_a_host_that_cannot_runs_them_without_and_says_why(instance: Instance) -> None:
    reason = "the kernel makes none"
    write_json(instance.config.user_namespaces, {"reason": reason, "ids": None})
    assert started(instance, Security()).namespace("user") == of_the_host("user")
    with pytest.raises(Unsupported) as caught:
        instance.create(instance.spec("true", security=PRIVATE))
    assert reason in caught.value.hint
    facts = instance.engine.host_facts()["user_namespaces"]
    assert (facts["available"], facts["reason"]) == (False, reason)


def test_what_the_launcher_finds_is_a_fact_of_the_host(instance: Instance, merged: Path) -> None:
    facts = instance.engine.host_facts()["user_namespaces"]
    assert facts == {
        "available": True,
        "reason": "",
        "first_id": 2013265920,
        "ids": 134086656,
    }
    off = dataclasses.replace(instance.config, ids=None)
    assert install(off) == -1
    elsewhere = dataclasses.replace(instance.config, root=merged / "root")
    assert install(elsewhere) == -1
    reason = instance.engine.host_facts()["user_namespaces"]["reason"]
    assert reason == f"{merged}/root lies on overlay, which has no idmapped mounts on this kernel"
    assert list((merged / "root" / "tmp").iterdir()) == []


def test_no_container_gets_the_host_s_ids_because_a_call_failed(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    spec = instance.create(instance.spec("true"))
    with monkeypatch.context() as patched:
        patched.setattr("runtime.engine.userns.read_json", fail)
        with pytest.raises(KernelFailure, match="EMFILE"):
            instance.engine.start(spec.id)
    make = userns.make
    calls = iter((fail, make))
    monkeypatch.setattr(userns, "make", lambda *ids: next(calls)(*ids))
    namespace = install(instance.config)
    assert namespace >= 0
    os.close(namespace)


def reason_in_a_mount_namespace(instance: Instance, *binds: tuple[str, str]) -> str:
    """What the launcher finds where `binds`, (source, target), are mounted."""
    child = os.fork()
    if child == 0:
        try:
            syscalls.unshare(c.CLONE_NEWNS)
            syscalls.mount("none", "/", "", c.MS_PRIVATE | c.MS_REC)
            for source, target in binds:
                syscalls.mount(source, target, "", c.MS_BIND)
            install(instance.config)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    return str(instance.engine.host_facts()["user_namespaces"]["reason"])


def test_a_host_that_hides_parts_of_proc_cannot(instance: Instance) -> None:
    reason = reason_in_a_mount_namespace(instance, ("/dev/null", "/proc/meminfo"))
    assert "parts of /proc or /sys are hidden" in reason
    assert started(instance, Security()).namespace("user") == of_the_host("user")


def test_all_of_the_instance_s_directory_must_be_mappable(
    instance: Instance, merged: Path, tmp_path: Path
) -> None:
    volumes = instance.config.volumes
    volumes.mkdir(exist_ok=True)
    assert "lies on overlay" in reason_in_a_mount_namespace(instance, (str(merged), str(volumes)))
    volumes.rmdir()
    volumes.symlink_to(tmp_path)
    assert reason_in_a_mount_namespace(instance).endswith(
        f"is a link that leaves {instance.config.root}"
    )
    volumes.unlink()
    assert reason_in_a_mount_namespace(instance) == ""


def test_an_id_beyond_the_last_one_is_named(instance: Instance) -> None:
    spec = instance.create(instance.spec("true", security=PRIVATE, process={"user": "134086656"}))
    with pytest.raises(InitFailed, match="there is no 134086656") as caught:
        instance.engine.start(spec.id)
    assert (caught.value.stage, caught.value.exit_code) == ("user", 126)
    started(instance, process={"user": "134086655"})


def test_a_directory_in_memory_will_do(tmp_path: Path) -> None:
    with Instance(disk="64m") as instance:
        if not kernel_is("6.3"):
            # Its tmpfs has no idmapped mounts; that is said, and nothing runs with the host's ids.
            with pytest.raises(Unsupported) as caught:
                started(instance)
            assert "lies on tmpfs, which has no idmapped mounts" in caught.value.hint
            return
        seen = started(instance)
        seen.run("sh", "-c", "echo x > /made; chown 5:6 /made; rm /etc/passwd")
        facts = (instance.config.bundle(seen.spec.id) / "upper/made").stat()
        assert (facts.st_uid, facts.st_gid) == (5, 6)
