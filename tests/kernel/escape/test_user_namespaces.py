"""Who root inside is outside: ids, setuid files, groups and capabilities that mean more on the host than inside.

- CVE-2018-18955 (kernel), CVE-2014-4014: ids of a nested namespace passed for the host's.
- CVE-2021-41091 (Docker): users of the host came to the files of containers, setuid programs among them.
- CVE-2022-24769 (Docker), CVE-2022-29162 (runc): containers, or an `exec`, began with inheritable capabilities.
- CVE-2022-36109 (Docker), CVE-2022-2995 (CRI-O): the primary group was missing among the supplementary ones; before
  that, groups of whoever started the platform were kept.

Here (docs/design/012-user-namespaces.md): 134 million ids from 2,013,265,920 stand for the container's; the host's
root is not among them (`Config.ids`). Ids on disk are those seen inside, so a setuid file of root's in a volume is
one of the host's root on disk: the directories of volumes, containers and layers let nobody but root in
(`workers/supervisor/prepare.py`). Sets of capabilities and groups are set, not inherited (`_drop_privileges`).

By design: a directory of the host that is mounted has its files' ids, so that root inside has root's rights to it.
`pid=host` comes with the host's ids, and root there may signal processes of the host, as with Docker.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from runtime.errors import SpecInvalid
from runtime.model.spec import Health, Mount, Namespaces
from runtime.shim.client import ShimClient
from runtime.store.paths import DEFAULT_IDS, Config
from tests.support.elf import program, supported
from tests.support.engine import Instance
from tests.support.escape import Kind, box, image, says, volume
from tests.support.options import Seen
from tests.support.waiting import wait_until

FIRST, COUNT = DEFAULT_IDS
NOBODY = 65534


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {k: v.split() for k, v in (line.split(":", 1) for line in lines)}


def as_nobody(attempt: Callable[[], object]) -> str:
    """What an unprivileged user of the host gets: "done", or the error's name."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            attempt()
            os.write(tell, b"done")
        except BaseException as error:  # noqa: BLE001 - told to the parent
            os.write(tell, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(tell)
    with os.fdopen(told) as answer:
        return answer.read()


# -- ids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [(0, 65536), (1000, 65536), (65535, 65536), (65536, 2**32)])
def test_ids_of_the_host_cannot_be_given_to_containers(
    tmp_path: Path, ids: tuple[int, int]
) -> None:
    with pytest.raises(SpecInvalid, match="no range of ids"):
        Config(tmp_path, tmp_path, "x", ids=ids)


def test_a_process_inside_is_nobody_outside(instance: Instance) -> None:
    seen = box(instance)
    shim = ShimClient(instance.config, seen.spec.id)
    for user in ("0", "33", "65534"):
        with shim.exec(["sleep", "1000"], user=user) as session:
            facts = status(session.pid)
            assert set(facts["Uid"]) == {str(FIRST + int(user))}
            assert all(FIRST <= int(g) < FIRST + COUNT for g in (*facts["Gid"], *facts["Groups"]))
            os.kill(session.pid, signal.SIGKILL)


def test_the_map_cannot_be_changed(seen: Seen) -> None:
    for name in ("uid_map", "gid_map", "setgroups"):
        told = says(seen, f"echo 0 0 1 > /proc/self/{name} && echo done")
        assert "done" not in told, told


def test_a_nested_namespace_leads_back_to_the_container_s_ids(instance: Instance) -> None:
    """Even without the filter, which lets nobody make one."""
    seen = box(instance, security={"seccomp": "unconfined"})
    shim = ShimClient(instance.config, seen.spec.id)
    with shim.exec(["unshare", "-Ur", "-m", "sleep", "1000"]) as session:
        wait_until(
            lambda: os.readlink(f"/proc/{session.pid}/ns/user") != seen.namespace("user"),
            what="the nested namespace",
        )
        assert set(status(session.pid)["Uid"]) == {str(FIRST)}
        inside = f"/proc/{session.pid}"
        wait_until(lambda: Path(f"{inside}/uid_map").read_text(), what="its map")
        assert Path(f"{inside}/uid_map").read_text().split() == ["0", str(FIRST), "1"]
        os.kill(session.pid, signal.SIGKILL)
    script = (
        "unshare -Urm sh -c 'mkdir -p /tmp/p; mount -t proc x /tmp/p; mount -t sysfs x /tmp/p;"
        "for f in /proc/sys/kernel/core_pattern /tmp/p/sys/kernel/core_pattern /tmp/p/kernel/uevent_helper;"
        "do true >> $f && echo opened; done; cat /proc/1/environ /etc/shadow; echo 0 0 9 > /proc/self/uid_map'"
    )
    assert "opened" not in says(seen, script)


def test_files_of_the_kernel_s_are_not_root_s(instance: Instance) -> None:
    """In a user namespace they belong to an id that nobody inside has."""
    seen = box(instance)
    owners = says(seen, "stat -c %u /proc/sys/kernel/core_pattern /sys/kernel /proc/kmsg /sys")
    assert set(owners.split()) == {str(NOBODY)}


# -- files ---------------------------------------------------------------------------------------


@pytest.fixture
def reachable(instance: Instance) -> Iterator[Path]:
    """The instance's directory, as a platform's is: every user of the host may pass through it."""
    base = instance.config.root.parent
    before = base.stat().st_mode
    base.chmod(0o755)
    instance.config.root.chmod(0o711)
    yield instance.config.root
    base.chmod(stat.S_IMODE(before))


@pytest.mark.skipif(not supported, reason="a program of x86-64 code")
def test_setuid_programs_made_inside_are_out_of_the_host_s_users_reach(
    instance: Instance, userns: Kind, reachable: Path
) -> None:
    name, data = volume(instance)
    evil = image(instance, {"setuid": program(("setuid", 0))})
    seen = box(instance, image=evil, userns=userns, mounts=(Mount("volume", "/v", name),))
    assert says(seen, "for d in /v /tmp; do cp /setuid $d/s && chmod 4755 $d/s; done") == ""
    upper = instance.config.bundle(seen.spec.id) / "upper"
    layers = [p / "setuid" for p in instance.engine.images.layer_dirs(evil)]
    made = [data / "s", upper / "tmp/s", *(p for p in layers if p.exists())]
    assert len(made) == 3
    for path in made:
        # Root's and setuid on disk: a program that, if it could be reached, would have root's rights.
        assert path.stat().st_uid == 0
        assert as_nobody(partial(subprocess.run, [path], check=True)) == "PermissionError"
        assert as_nobody(path.stat) == "PermissionError"
    assert stat.S_IMODE(made[0].stat().st_mode) == 0o4755


def test_nothing_of_images_and_containers_is_read_by_the_host_s_users(
    instance: Instance, userns: Kind, reachable: Path
) -> None:
    box(instance, userns=userns, mounts=(Mount("volume", "/v", volume(instance)[0]),))
    config = instance.config
    for path in (config.volumes, config.containers, config.layers, config.images):
        assert path.is_dir()
        assert as_nobody(partial(os.listdir, path)) == "PermissionError", path


def test_a_directory_of_the_host_has_root_s_rights_as_documented(
    instance: Instance, userns: Kind, tmp_path: Path
) -> None:
    """It is given on purpose; read-only is what keeps root inside from making setuid files there."""
    secret = tmp_path / "secret"
    secret.write_text("for root alone")
    secret.chmod(0o600)
    seen = box(
        instance,
        userns=userns,
        mounts=(
            Mount("bind", "/rw", str(tmp_path)),
            Mount("bind", "/ro", str(tmp_path), read_only=True),
        ),
    )
    assert says(seen, "cat /rw/secret") == "for root alone"
    assert "denied" in says(seen, "cat /rw/secret", user="1000")
    assert says(seen, "touch /rw/new; chmod 4755 /rw/new; stat -c %u:%a /rw/new") == "0:4755"
    assert (tmp_path / "new").stat().st_uid == 0
    told = says(seen, "chmod 777 /ro/secret; touch /ro/other; mknod /ro/node c 1 3")
    assert told.count("Read-only file system") + told.count("not permitted") == 3, told


# -- groups and capabilities ---------------------------------------------------------------------


@pytest.mark.parametrize("user", ["", "33", "1000:33", "nobody"])
def test_groups_are_the_asked_ones_and_the_first_is_among_them(
    instance: Instance, userns: Kind, user: str
) -> None:
    seen = box(instance, userns=userns, process={"user": user})
    shim = ShimClient(instance.config, seen.spec.id)
    base = 0 if userns else FIRST
    with shim.exec(["sleep", "1000"], user=user) as session:
        for pid in (seen.pid, session.pid):
            facts = status(pid)
            assert facts["Groups"] == [facts["Gid"][0]], facts["Groups"]
            assert len(set(facts["Gid"])) == 1
            assert int(facts["Gid"][0]) >= base
        os.kill(session.pid, signal.SIGKILL)


@pytest.mark.parametrize("user", ["", "1000"])
def test_no_capability_is_inheritable(instance: Instance, userns: Kind, user: str) -> None:
    """Of the first process, of an exec, of a health check."""
    health = Health(("sh", "-c", "grep Cap /proc/self/status > /dev/shm/health"), interval=0.05)
    seen = box(
        instance,
        userns=userns,
        process={"user": user},
        health=health,
        security={"cap_add": ("NET_ADMIN",)},
    )
    checked = Path(f"/proc/{seen.pid}/root/dev/shm/health")
    wait_until(lambda: checked.exists() and "CapAmb" in checked.read_text(), what="a health check")
    texts = [checked.read_text(), seen.proc("status"), says(seen, "cat /proc/self/status")]
    for text in texts:
        sets = dict(line.split(":\t") for line in text.splitlines() if line.startswith("Cap"))
        assert int(sets["CapInh"], 16) == int(sets["CapAmb"], 16) == 0
        if user:
            assert int(sets["CapEff"], 16) == int(sets["CapPrm"], 16) == 0


# -- processes -----------------------------------------------------------------------------------


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host's root."""
    with subprocess.Popen(["/bin/sleep", "1000"]) as process:
        yield process
        process.kill()


def test_with_the_host_s_processes_only_root_reaches_them(
    instance: Instance, bystander: subprocess.Popen[bytes]
) -> None:
    """pid=host comes with the host's ids: its root may signal them, as documented, but neither trace nor enter."""
    seen = box(instance, namespaces=Namespaces(network="none", pid="host"))
    pid = bystander.pid
    assert seen.namespace("user") == os.readlink("/proc/self/ns/user")
    assert says(seen, f"kill -0 {pid} && echo reached") == "reached"
    assert "not permitted" in says(seen, f"kill -9 {pid}", user="1000")
    assert bystander.poll() is None
    for name in ("mem", "environ", "root/etc/hostname", "cwd/etc", "fd/0", "exe"):
        assert "denied" in says(seen, f"head -c 1 /proc/{pid}/{name}"), name
    assert says(seen, f"nsenter -t {pid} -m true") != ""


def test_in_its_own_namespace_no_signal_leaves(
    seen: Seen, bystander: subprocess.Popen[bytes]
) -> None:
    told = says(seen, f"kill -9 {bystander.pid}; trap '' TERM; kill -TERM -1; echo sent")
    assert "No such process" in told
    assert "sent" in told
    assert bystander.poll() is None
