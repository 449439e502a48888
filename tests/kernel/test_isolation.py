"""What a container sees, has and may do, in the kernel's own words."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import InitFailed
from runtime.kernel import capabilities
from runtime.model.spec import Limits, Mount, Namespaces, Security, Ulimit
from tests.support.launching import Launchpad
from tests.support.waiting import wait_until

MIB = 2**20


@pytest.fixture
def pad() -> Iterator[Launchpad]:
    with Launchpad() as made:
        yield made


def output(pad: Launchpad, script: str, **options: Any) -> str:
    """stdout of a container that runs `script` to its end, which must be a success."""
    plan = pad.shell(script, **options)
    record, text = pad.run(plan)
    assert record.code == 0, (record, text, pad.output(plan, "stderr"))
    return text


def status(pad: Launchpad, **options: Any) -> dict[str, str]:
    """/proc/self/status of a process in the container."""
    lines = output(pad, "cat /proc/self/status", **options).splitlines()
    return {k: v.strip() for k, v in (line.split(":", 1) for line in lines)}


# -- namespaces and mounts -----------------------------------------------------------------------


def test_every_namespace_is_its_own(pad: Launchpad) -> None:
    state = pad.start(pad.plan("sleep", "1000"))
    for kind in ("pid", "mnt", "uts", "ipc", "net", "cgroup"):
        inside = os.readlink(f"/proc/{state.pid}/ns/{kind}")
        assert inside != os.readlink(f"/proc/self/ns/{kind}"), kind


@pytest.mark.parametrize(
    ("kind", "field"),
    [("pid", "pid"), ("net", "network"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup")],
)
def test_the_host_s_can_be_asked_for(pad: Launchpad, kind: str, field: str) -> None:
    modes = Namespaces(**{"network": "none", field: "host"})
    state = pad.start(pad.plan("sleep", "1000", namespaces=modes))
    assert os.readlink(f"/proc/{state.pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")


def test_in_the_host_s_pid_namespace_children_end_with_the_container(pad: Launchpad) -> None:
    plan = pad.shell("sleep 1000 & sleep 0.1", namespaces=Namespaces(network="none", pid="host"))
    assert pad.run(plan)[0].code == 0
    wait_until(lambda: not pad.processes("containers/"), what="what it left behind to be killed")


def test_it_is_process_1_and_sees_only_its_own(pad: Launchpad) -> None:
    assert output(pad, "echo $$; ls /proc | grep -c '^[0-9]'").split()[0] == "1"
    pids = output(pad, "ls /proc | grep '^[0-9]'").split()
    assert len(pids) <= 4


def test_its_root_is_the_overlay_and_nothing_of_the_host_s_is_mounted(pad: Launchpad) -> None:
    mounts = output(pad, "cat /proc/self/mountinfo").splitlines()
    points = [line.split()[4] for line in mounts]
    assert mounts[points.index("/")].split(" - ")[1].startswith("overlay ")
    known = ("/", "/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
    assert all(p in known or p.startswith(("/proc/", "/dev/", "/sys/")) for p in points), points
    assert output(pad, "ls /.. | tr '\\n' ' '; ls / | tr '\\n' ' '").count("proc") == 2


def test_no_mount_of_a_container_reaches_the_host(pad: Launchpad) -> None:
    pad.start(pad.plan("sleep", "1000"))
    # Others may mount on this host meanwhile; a container's mounts name its directories.
    assert str(pad.config.root) not in Path("/proc/self/mountinfo").read_text()


def test_what_is_written_goes_to_the_upper_layer(pad: Launchpad) -> None:
    plan = pad.shell("echo new > /etc/new; rm /etc/group")
    pad.run(plan)
    upper = Path(plan["overlay"]["upper"])
    assert (upper / "etc/new").read_text() == "new\n"
    assert not (pad.rootfs / "etc/new").exists()
    assert (pad.rootfs / "etc/group").exists()


def test_a_read_only_root(pad: Launchpad) -> None:
    security = Security(read_only_rootfs=True)
    mounts = (Mount("tmpfs", "/scratch", tmpfs_size=MIB),)
    script = "touch /x 2>/dev/null || echo refused; touch /scratch/x /dev/shm/x && echo kept"
    assert output(pad, script, security=security, mounts=mounts).split() == ["refused", "kept"]


# -- /proc, /sys, /dev ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity",
     "/sys/kernel/uevent_helper", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
     "/sys/fs/cgroup/memory.max", "/proc/sys/kernel/core_pattern"],
)  # fmt: skip
def test_the_kernel_s_knobs_cannot_be_turned(pad: Launchpad, path: str) -> None:
    script = f"if test -e {path}; then echo x > {path} && echo turned; fi; true"
    assert "turned" not in output(pad, script)


def test_what_tells_of_the_host_is_masked(pad: Launchpad) -> None:
    script = (
        "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware | wc -l"
    )
    assert output(pad, script).split() == ["0", "0"]


def test_dev_has_the_standard_nodes_and_no_others(pad: Launchpad) -> None:
    names = set(output(pad, "ls /dev").split())
    assert names == {
        "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    }  # fmt: skip
    assert output(pad, "echo gone > /dev/null; head -c 4 /dev/zero | wc -c") == "4"


def test_other_devices_are_out_of_reach_although_nodes_can_be_made(pad: Launchpad) -> None:
    disk = os.stat("/dev/vda") if os.path.exists("/dev/vda") else None
    number = "8 0" if disk is None else f"{os.major(disk.st_rdev)} {os.minor(disk.st_rdev)}"
    script = (
        f"mknod /dev/disk b {number} && head -c 1 /dev/disk 2>&1 | grep -o 'not permitted'; true"
    )
    # Without a user namespace, that is: in one there is nobody who may make nodes.
    assert output(pad, script, security=Security(userns="host")) == "not permitted"
    assert output(pad, f"mknod /dev/disk b {number} || echo none") == "none"


def test_shared_memory_has_its_size(pad: Launchpad) -> None:
    assert output(pad, "df -k /dev/shm | tail -1", shm_size=8 * MIB).split()[1] == "8192"


def test_its_own_groups_are_where_programs_look(pad: Launchpad) -> None:
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true"
    assert output(pad, script, limits=Limits(memory=64 * MIB)) == str(64 * MIB)
    groups = output(pad, "cat /proc/self/cgroup")
    assert pad.config.cgroup not in groups.replace("/shims", "")


def test_hostname_and_hosts_are_the_container_s(pad: Launchpad) -> None:
    plan = pad.shell("hostname; cat /etc/hostname; grep -c box /etc/hosts", hostname="box")
    assert pad.run(plan)[1].split() == ["box", "box", "1"]


# -- privileges ----------------------------------------------------------------------------------


def test_root_has_the_default_capabilities_and_can_get_no_more(pad: Launchpad) -> None:
    default = capabilities.combine() & capabilities.bounding()
    seen = status(pad)
    sets = {n: int(seen[f"Cap{n}"], 16) for n in ("Inh", "Prm", "Eff", "Bnd", "Amb")}
    assert sets == {"Inh": 0, "Prm": default, "Eff": default, "Bnd": default, "Amb": 0}


def test_another_user_has_none_and_may_get_the_default_by_setuid(pad: Launchpad) -> None:
    default = capabilities.combine() & capabilities.bounding()
    seen = status(pad, process={"user": "app"})
    sets = {n: int(seen[f"Cap{n}"], 16) for n in ("Inh", "Prm", "Eff", "Bnd", "Amb")}
    assert sets == {"Inh": 0, "Prm": 0, "Eff": 0, "Bnd": default, "Amb": 0}


def test_capabilities_are_added_and_dropped(pad: Launchpad) -> None:
    seen = status(pad, security=Security(cap_add=("NET_ADMIN",), cap_drop=("CHOWN",)))
    wanted = capabilities.combine(add=["NET_ADMIN"], drop=["CHOWN"]) & capabilities.bounding()
    assert int(seen["CapEff"], 16) == wanted
    assert int(status(pad, security=Security(cap_drop=("ALL",)))["CapBnd"], 16) == 0


def test_privileged_has_what_the_host_s_root_has(pad: Launchpad) -> None:
    seen = status(pad, security=Security(privileged=True))
    host = capabilities.bounding() & capabilities.ALL
    assert int(seen["CapEff"], 16) == host
    assert seen["Seccomp"] == "0"


@pytest.mark.parametrize("user", ["", "app"])
@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_the_filter_is_on_and_no_new_privs_as_asked(
    pad: Launchpad, user: str, no_new_privileges: bool
) -> None:
    seen = status(
        pad, process={"user": user}, security=Security(no_new_privileges=no_new_privileges)
    )
    assert (seen["Seccomp"], seen["NoNewPrivs"]) == ("2", str(int(no_new_privileges)))


def test_no_new_namespaces_and_no_mounts(pad: Launchpad) -> None:
    script = "unshare -U true 2>&1; unshare -m true 2>&1; mount -t tmpfs x /tmp 2>&1; true"
    said = output(pad, script).lower()
    assert said.count("not permitted") + said.count("permission denied") == 3, said


def test_without_the_filter_the_capabilities_still_hold(pad: Launchpad) -> None:
    seen = status(pad, security=Security(seccomp="unconfined"))
    assert seen["Seccomp"] == "0"
    script = "mount -t tmpfs x /tmp 2>/dev/null || echo refused"
    assert output(pad, script, security=Security(seccomp="unconfined")) == "refused"


def test_a_profile_of_one_s_own(pad: Launchpad) -> None:
    profile = (
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":'
        '[{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}'
    )
    script = "mkdir /d 2>&1 | grep -o 'No space'"
    assert output(pad, script, security=Security(seccomp=profile)) == "No space"


# -- descriptors, working directory, code --------------------------------------------------------


def test_no_descriptor_leaks(pad: Launchpad) -> None:
    # 3 is the directory that `ls` reads.
    assert pad.run(pad.plan("ls", "/proc/self/fd"))[1].split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize("number", range(3, 24))
def test_no_descriptor_is_a_way_out_as_working_directory(pad: Launchpad, number: int) -> None:
    """CVE-2024-21626."""
    plan = pad.shell(
        "pwd; ls /proc/self/cwd/../../../..", process={"cwd": f"/proc/self/fd/{number}"}
    )
    with suppress(InitFailed):
        record, text = pad.run(plan)
        assert record.code != 0 or "home" in text.split()


def test_nothing_of_the_image_is_run_as_code_of_ours(pad: Launchpad) -> None:
    """After pivot_root our interpreter's own paths are the image's."""
    trap = "open('/trapped', 'w').close()\n"
    for directory in {p for p in sys.path if p.startswith("/usr")} | {"/usr/lib/python3.11"}:
        for name in (
            "array",
            "encodings/ascii",
            "encodings/idna",
            "traceback",
            "socket",
            "_bootlocale",
        ):
            path = pad.rootfs / directory.lstrip("/") / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(trap)
    for options in ({}, {"process": {"tty": True}}, {"process": {"init": True}}):
        output(pad, "true", **options)
    with pytest.raises(InitFailed):
        pad.start(pad.plan("missing"))
    trapped = [*pad.config.containers.glob("*/upper/trapped"), *pad.rootfs.glob("trapped")]
    assert trapped == []


# -- the process ---------------------------------------------------------------------------------


def test_the_user_is_the_image_s(pad: Launchpad) -> None:
    seen = output(pad, "id -u; id -g; id -G; echo $HOME", process={"user": "app"}).splitlines()
    assert seen == ["1234", "567", "567 29 44", "/home/app"]
    asked = {"user": "4711:815", "groups": ("audio", "99")}
    assert output(pad, "id -u; id -G", process=asked).splitlines() == ["4711", "815 29 99"]


def test_any_user_may_open_its_own_output(pad: Launchpad) -> None:
    """Programs that log to a file's name are given /dev/stdout."""
    plan = pad.shell("echo out > /dev/stdout; echo err > /dev/stderr", process={"user": "app"})
    assert pad.run(plan)[0].code == 0
    assert (pad.output(plan), pad.output(plan, "stderr")) == ("out", "err")


def test_the_working_directory_is_made(pad: Launchpad) -> None:
    assert output(pad, "pwd", process={"cwd": "/made/for/it"}) == "/made/for/it"


def test_the_environment_is_what_was_asked_for(pad: Launchpad) -> None:
    plan = pad.plan("env", process={"env": ("A=1", "B=x=y", "EMPTY=")})
    lines = set(pad.run(plan)[1].splitlines())
    assert {"A=1", "B=x=y", "EMPTY=", "HOME=/root"} <= lines
    assert not [line for line in lines if line.startswith("SLIPWAY")]


@pytest.mark.parametrize(
    ("prepare", "args", "code", "says"),
    [
        ("", ["missing"], 127, "has no missing on its PATH"),
        ("", ["/bin/missing"], 127, "has no /bin/missing"),
        ("text", ["/bin/thing"], 126, "cannot be executed"),
        ("script", ["thing"], 127, "the interpreter it names is not"),
        ("script", ["/bin/thing"], 127, "the interpreter it names is not"),
        ("garbage", ["/bin/thing"], 126, "Exec format error"),
        ("", ["/etc"], 126, "cannot be executed"),
    ],
)
def test_a_command_that_cannot_run_says_why(
    pad: Launchpad, prepare: str, args: list[str], code: int, says: str
) -> None:
    thing = pad.rootfs / "bin" / "thing"
    if prepare:
        thing.write_text({"script": "#!/no/such/interpreter\n"}.get(prepare, "no program\n"))
        thing.chmod(0o644 if prepare == "text" else 0o755)
    with pytest.raises(InitFailed, match=re.escape(says)) as caught:
        pad.start(pad.plan(*args))
    assert (caught.value.stage, caught.value.exit_code) == ("exec", code)
    assert caught.value.extra["field"] == "command"
    assert caught.value.hint


def test_an_unknown_user_says_so(pad: Launchpad) -> None:
    with pytest.raises(InitFailed, match="ghost") as caught:
        pad.start(pad.plan("true", process={"user": "ghost"}))
    assert caught.value.stage == "user"


def test_ulimits(pad: Launchpad) -> None:
    ulimits = (Ulimit("nofile", 100, 200), Ulimit("core", 0, 0))
    script = "ulimit -n; ulimit -Hn; ulimit -c"
    assert output(pad, script, process={"ulimits": ulimits}).split() == ["100", "200", "0"]


def test_sysctls_of_its_own_namespaces(pad: Launchpad) -> None:
    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax"
    security = Security(sysctls={"kernel.msgmax": "4096"})
    assert output(pad, script, security=security).split() == ["0", "4096"]
    assert Path("/proc/sys/kernel/msgmax").read_text().strip() != "4096"


def test_the_oom_score_is_its_own_and_not_the_platform_s(pad: Launchpad) -> None:
    assert pad.launcher is not None
    Path(f"/proc/{pad.launcher.pid}/oom_score_adj").write_text("300")
    assert output(pad, "cat /proc/self/oom_score_adj") == "0"
    assert output(pad, "cat /proc/self/oom_score_adj", limits=Limits(oom_score_adj=500)) == "500"


def test_signals_are_as_a_fresh_process_has_them(pad: Launchpad) -> None:
    lines = pad.run(pad.plan("cat", "/proc/self/status"))[1].splitlines()
    seen = {k: v.strip() for k, v in (line.split(":", 1) for line in lines)}
    assert {seen[name].strip("0") for name in ("SigBlk", "SigIgn", "SigCgt", "SigPnd")} == {""}


def test_a_terminal(pad: Launchpad) -> None:
    plan = pad.shell("tty; test -t 0 && test -t 1 && test -t 2 && echo all", process={"tty": True})
    assert pad.run(plan)[1].split() == ["/dev/pts/0", "all"]
    owner = "stat -c %u /dev/pts/0"
    assert output(pad, owner, process={"tty": True, "user": "app"}) == "1234"


def test_loopback_is_up_and_there_is_nothing_else(pad: Launchpad) -> None:
    assert "1 packets received" in output(pad, "ping -c 1 127.0.0.1")
    assert output(pad, "ls /sys/class/net").split() == ["lo"]
