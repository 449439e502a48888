"""Options of confinement and shared namespaces, in the kernel's own words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import EngineError, InitFailed, NotFound, Unsupported
from runtime.kernel import apparmor, capabilities
from runtime.kernel.standard import MASKED_PATHS
from tests.support.engine import Instance
from tests.support.options import Seen, asked, started
from tests.support.waiting import wait_until

DENY_MKDIR = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
}


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


def bit(name: str) -> int:
    return 1 << capabilities.NUMBERS[name]


def test_capabilities_are_added_and_dropped(instance: Instance) -> None:
    seen = started(instance, cap_add=["NET_ADMIN"], cap_drop=["CHOWN", "CAP_KILL"])
    for name in ("CapBnd", "CapEff", "CapPrm"):
        held = int(seen.status(name), 16)
        assert held & bit("NET_ADMIN") == bit("NET_ADMIN") & capabilities.bounding()
        assert not held & (bit("CHOWN") | bit("KILL"))
        assert held & bit("SETUID")
    bare = started(instance, cap_drop=["ALL"], cap_add=["SETUID"])
    assert int(bare.status("CapBnd"), 16) == bit("SETUID")


def test_privileged_has_all_that_the_host_has(instance: Instance) -> None:
    seen = started(instance, privileged=True)
    assert int(seen.status("CapEff"), 16) == capabilities.bounding()
    assert seen.status("Seccomp") == "0"
    assert "rw" in seen.mount("/sys").options
    targets = [line.split()[4] for line in seen.proc("mountinfo").splitlines()]
    assert not {*MASKED_PATHS, "/proc/sys"} & set(targets)


def test_no_new_privileges(instance: Instance) -> None:
    assert started(instance, no_new_privileges=True).status("NoNewPrivs") == "1"
    assert started(instance).status("NoNewPrivs") == "0"


def test_filters_of_system_calls(instance: Instance) -> None:
    assert started(instance).status("Seccomp") == "2"
    assert started(instance, seccomp="unconfined").status("Seccomp") == "0"
    seen = started(instance, seccomp=DENY_MKDIR)
    assert seen.status("Seccomp") == "2"
    assert "not implemented" in seen.fails("mkdir", "/x")
    with pytest.raises(EngineError) as caught:
        instance.create(asked(instance, seccomp={"defaultAction": "SCMP_ACT_DANCE"}))
    assert caught.value.extra["field"] == "security.seccomp"


def test_a_profile_of_apparmor_where_there_is_none_is_refused_with_the_reason(
    instance: Instance,
) -> None:
    expected = NotFound if apparmor.enabled() else Unsupported
    with pytest.raises(expected, match="AppArmor") as caught:
        instance.create(asked(instance, apparmor="no-such-profile"))
    assert caught.value.extra["field"] == "security.apparmor"
    instance.check_nothing_left()
    assert started(instance, apparmor="unconfined").pid


def test_masked_and_read_only_paths(instance: Instance) -> None:
    masked = [path for path in MASKED_PATHS if os.path.exists(path)]
    seen = started(instance)
    for path in masked:
        assert seen.mount(path).fstype in ("tmpfs", "devtmpfs")
    assert "ro" in seen.mount("/proc/sys").options
    bare = started(instance, masked_paths=[], readonly_paths=["/proc/irq"])
    targets = [line.split()[4] for line in bare.proc("mountinfo").splitlines()]
    assert not {*masked, "/proc/sys"} & set(targets)
    assert "ro" in bare.mount("/proc/irq").options
    own = started(instance, masked_paths=["/etc/passwd", "/root"])
    assert own.run("cat", "/etc/passwd") == ""
    assert "ro" in own.mount("/root").options


def allows(seen: Seen, rule: str) -> bool:
    """The list of v1 has the rule. On v2 a program has it, which shows in what it does alone."""
    group = seen.instance.engine.cgroups.open(seen.spec.id)
    return group.version == "v2" or rule in group.read("devices", "devices.list")


def test_devices(instance: Instance) -> None:
    # /dev/kmsg: there on every host, and in no container.
    seen = started(instance, devices=["/dev/kmsg:/dev/messages:r"])
    node = seen.file("/dev/messages").stat()
    assert node.st_rdev == Path("/dev/kmsg").stat().st_rdev
    assert allows(seen, "c 1:11 r")
    assert "not permitted" in seen.fails("sh", "-c", "echo x > /dev/messages")
    with pytest.raises(EngineError) as caught:
        instance.create(asked(instance, devices=["/dev/no-such-thing"]))
    assert caught.value.extra["field"] == "security.devices[0].source"


def test_rules_for_devices(instance: Instance) -> None:
    seen = started(instance, device_cgroup_rules=["c 10:229 rw"])
    assert allows(seen, "c 10:229 rw")
    # /dev/fuse, which everybody may open who may open the device at all.
    opening = "mknod /dev/made c 10 229 && dd if=/dev/made count=0"
    seen.run("sh", "-c", opening)
    assert "not permitted" in started(instance).fails("sh", "-c", opening)


def test_sysctls(instance: Instance) -> None:
    seen = started(
        instance,
        on=instance.network(),
        sysctls={"net.ipv4.ip_forward": "1", "kernel.msgmax": "4000"},
    )
    assert seen.run("cat", "/proc/sys/net/ipv4/ip_forward") == "1"
    assert seen.run("cat", "/proc/sys/kernel/msgmax") == "4000"
    try:
        seen = started(instance, on=instance.network(), sysctls={"net/core/somaxconn": "77"})
    except InitFailed as error:
        # Debian 12's kernel keeps it from user namespaces.
        told = error.hint
        seen = started(instance, userns="host", sysctls={"net/core/somaxconn": "77"})
        assert "userns=host" in told
    assert seen.run("cat", "/proc/sys/net/core/somaxconn") == "77"


def test_a_sysctl_that_the_kernel_lacks_is_named(instance: Instance) -> None:
    spec = instance.create(asked(instance, sysctls={"net.ipv4.no_such_thing": "1"}))
    with pytest.raises(EngineError, match="no_such_thing") as caught:
        instance.engine.start(spec.id)
    assert caught.value.extra["field"] == "security.sysctls.net.ipv4.no_such_thing"


# -- namespaces ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "kind"), [("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"), ("cgroupns", "cgroup")]
)
def test_namespaces_of_the_host(instance: Instance, field: str, kind: str) -> None:
    own = os.readlink(f"/proc/self/ns/{kind}")
    assert started(instance, **{field: "host"}).namespace(kind) == own
    assert started(instance, **{field: "private"}).namespace(kind) != own


def test_processes_of_another_container_are_seen(instance: Instance) -> None:
    first = started(instance, command=["sleep", "4321"])
    second = started(instance, pid=f"container:{first.spec.id}")
    assert second.namespace("pid") == first.namespace("pid")
    assert "sleep 4321" in second.run("ps", "-o", "args")


def test_shared_memory_of_another_container(instance: Instance) -> None:
    first = started(instance, ipc="shareable", shm_size="1m")
    second = started(instance, ipc=f"container:{first.spec.id}")
    assert second.namespace("ipc") == first.namespace("ipc")
    first.run("sh", "-c", "echo hello > /dev/shm/x")
    assert second.run("cat", "/dev/shm/x") == "hello"
    assert "size=1024k" in second.mount("/dev/shm").superblock
    assert second.mount("/dev/mqueue").fstype == "mqueue"
    # Nothing of either reaches the host, and each may go first.
    assert not Path("/dev/shm/x").exists()
    instance.engine.remove(first.spec.id, force=True)
    assert second.run("cat", "/dev/shm/x") == "hello"


def test_the_hosts_shared_memory_and_none(instance: Instance) -> None:
    host = started(instance, ipc="host")
    assert os.path.samestat(host.file("/dev/shm").stat(), Path("/dev/shm").stat())
    none = started(instance, ipc="none")
    assert not none.file("/dev/shm").exists()
    assert none.namespace("ipc") != os.readlink("/proc/self/ns/ipc")


@pytest.mark.parametrize("field", ["pid", "ipc", "network"])
def test_a_container_that_does_not_run_shares_nothing(instance: Instance, field: str) -> None:
    other = instance.create(asked(instance))
    fields: dict[str, Any] = {field: f"container:{other.id}"}
    spec = instance.create(asked(instance, **fields))
    with pytest.raises(EngineError) as caught:
        instance.engine.start(spec.id)
    assert other.short_id in caught.value.hint


def test_when_whom_it_shared_with_is_gone_it_joins_nobody_else(instance: Instance) -> None:
    """The pid that it knows may be another process's by then."""
    first = started(instance)
    second = started(instance, ipc=f"container:{first.spec.id}", restart="always")
    instance.engine.remove(first.spec.id, force=True)
    os.kill(second.pid, 9)
    wait_until(lambda: "does not run any more" in str(second.state.exit))
    assert second.pid == 0


def test_a_directory_of_devices(instance: Instance) -> None:
    found = sorted(path.name for path in Path("/dev/net").iterdir())
    seen = started(instance, devices=["/dev/net:/dev/nets:rw"])
    assert sorted(seen.run("ls", "/dev/nets").split()) == found
    rule = f"c 10:{os.minor(os.stat('/dev/net/tun').st_rdev)} rw"
    assert allows(seen, rule)
    assert started(instance, privileged=True).file("/dev/net/tun").exists()
