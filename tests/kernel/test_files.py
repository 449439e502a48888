"""Files into and out of containers as tar streams, and what a container may try meanwhile."""

from __future__ import annotations

import io
import os
import secrets
import signal
import tarfile
from pathlib import Path

import pytest

from runtime.engine.files import PathStat
from runtime.errors import (
    ArchiveInvalid,
    BadState,
    Conflict,
    EngineError,
    LockTimeout,
    NotFound,
    SpecInvalid,
    StorageFull,
)
from runtime.model.spec import ContainerSpec, Mount
from runtime.model.state import Status
from runtime.store.locks import locked
from tests.support.engine import Instance
from tests.support.files import HOST, archive, instance, make, member, put, running, spec
from tests.support.processes import read_process
from tests.support.waiting import wait_until

__all__ = ("instance", "running", "spec")


def get(instance: Instance, spec: ContainerSpec, path: str) -> dict[str, tarfile.TarInfo]:
    return {m.name: m for m, _ in contents(instance, spec, path)}


def contents(
    instance: Instance, spec: ContainerSpec, path: str
) -> list[tuple[tarfile.TarInfo, bytes]]:
    _, transfer = instance.engine.files.read(spec.id, path)
    with transfer:
        raw = transfer.stream.read()
        transfer.finish()
    found = []
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        for entry in tar:
            file = tar.extractfile(entry) if entry.isreg() else None
            found.append((entry, file.read() if file else b""))
    return found


def test_what_goes_in_comes_out(instance: Instance, spec: ContainerSpec) -> None:
    before = [
        member("tree", tarfile.DIRTYPE, mode=0o711, mtime=1_000_000),
        member("tree/file", mode=0o4755, uid=33, gid=34, mtime=2_000_000),
        member("tree/link", tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("tree/hard", tarfile.LNKTYPE, linkname="tree/file"),
        member("tree/pipe", tarfile.FIFOTYPE),
        member("tree/öäü-\udcff"),
    ]
    put(instance, spec, "/root", archive(*before), keep_ids=True)
    after = get(instance, spec, "/root/tree")
    assert set(after) == {m.name for m in before}
    # Names are sorted: which of the two is the link depends on which comes first.
    assert (after["tree/hard"].islnk(), after["tree/file"].islnk()) == (True, False)
    assert after["tree/hard"].linkname == "tree/file"
    kept = after["tree/file"]
    assert (kept.mode, kept.uid, kept.gid, kept.mtime) == (0o4755, 33, 34, 2_000_000)
    assert after["tree"].mode == 0o711
    assert after["tree"].mtime == 1_000_000
    assert after["tree/link"].linkname == "/etc/passwd"
    assert after["tree/pipe"].isfifo()


def test_files_belong_to_root_unless_asked(instance: Instance, spec: ContainerSpec) -> None:
    put(instance, spec, "/root", archive(member("mine", uid=33, gid=34)))
    [(entry, data)] = contents(instance, spec, "/root/mine")
    assert (entry.name, entry.uid, entry.gid, data) == ("mine", 0, 0, b"data\n")
    upper = instance.config.bundle(spec.id) / "upper/root/mine"
    assert (upper.stat().st_uid, upper.read_bytes()) == (0, b"data\n")


def test_stat_says_what_is_there(instance: Instance, spec: ContainerSpec) -> None:
    link = member("link", tarfile.SYMTYPE, linkname="/etc")
    put(instance, spec, "/root", archive(link, member("five")))
    told = instance.engine.files.stat(spec.id, "/root/five")
    assert isinstance(told, PathStat)
    assert (told.name, told.size, told.mode & 0o777) == ("five", 5, 0o644)
    assert instance.engine.files.stat(spec.id, "root/link").link_target == "/etc"
    assert instance.engine.files.stat(spec.id, "/").name == "/"
    with pytest.raises(NotFound):
        instance.engine.files.stat(spec.id, "/nothing/there")
    with pytest.raises(NotFound):
        instance.engine.files.read(spec.id, "/nothing/there")


def test_a_directory_is_not_replaced_unless_it_may(instance: Instance, spec: ContainerSpec) -> None:
    put(instance, spec, "/root", archive(member("d", tarfile.DIRTYPE), member("d/inner")))
    with pytest.raises(Conflict):
        put(instance, spec, "/root", archive(member("d")), no_overwrite=True)
    assert set(get(instance, spec, "/root/d")) == {"d", "d/inner"}
    put(instance, spec, "/root", archive(member("d")))
    assert get(instance, spec, "/root/d")["d"].isreg()
    with pytest.raises(SpecInvalid):
        put(instance, spec, "/root/d", archive(member("x")))


@pytest.mark.parametrize(
    "bad",
    [
        member("../escape"),
        member("a/../../escape"),
        member("device", tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("whiteout", tarfile.CHRTYPE, devmajor=0, devminor=0),
        member("disk", tarfile.BLKTYPE, devmajor=8, devminor=0),
        member("hard", tarfile.LNKTYPE, linkname="../../etc/passwd"),
    ],
    ids=lambda m: m.name,
)
def test_members_that_lead_out_or_are_devices_are_refused(
    instance: Instance, spec: ContainerSpec, bad: tarfile.TarInfo
) -> None:
    with pytest.raises(ArchiveInvalid):
        put(instance, spec, "/root", archive(bad))
    assert set(get(instance, spec, "/root")) <= {"root", "root/file"}


def test_links_and_absolute_names_stay_in_the_container(
    instance: Instance, spec: ContainerSpec, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("host's")
    mark = f"escape-{secrets.token_hex(4)}"
    put(instance, spec, "/root", archive(member(f"/{mark}")))
    assert not Path("/", mark).exists()
    assert f"root/{mark}" in get(instance, spec, "/root")
    up = member("up", tarfile.SYMTYPE, linkname="/../../../../../../tmp")
    read = member("read", tarfile.SYMTYPE, linkname=str(secret))
    put(instance, spec, "/root", archive(up, read))
    put(instance, spec, "/root/up", archive(member(mark)))
    assert not Path("/tmp", mark).exists()
    assert mark in get(instance, spec, f"/tmp/{mark}")
    with pytest.raises(NotFound):
        instance.engine.files.read(spec.id, "/root/read/.")
    # The file replaces the link and does not follow it.
    put(instance, spec, "/root", archive(member("read")))
    assert secret.read_text() == "host's"


def test_a_linked_passwd_is_the_containers(instance: Instance, spec: ContainerSpec) -> None:
    before = Path("/etc/passwd").read_bytes()
    link = member("passwd", tarfile.SYMTYPE, linkname="/proc/1/root/etc/passwd")
    put(instance, spec, "/root", archive(link))
    put(instance, spec, "/root", archive(member("passwd")))
    assert Path("/etc/passwd").read_bytes() == before
    assert get(instance, spec, "/root/passwd")["passwd"].isreg()


def test_deleted_files_are_gone_and_no_whiteout_is_shown(instance: Instance) -> None:
    spec = instance.run(instance.shell("rm /etc/passwd; echo ready; exec sleep 1000"))
    instance.wait_for_output(spec, "ready")
    assert (instance.config.bundle(spec.id) / "upper/etc/passwd").is_char_device()
    for _ in range(2):
        names = get(instance, spec, "/")
        assert "./etc" in names
        assert "./etc/passwd" not in names
        assert not any(n.startswith(("./proc/", "./sys/")) for n in names)
        assert not any(m.ischr() for m in names.values())
        if instance.status(spec) == Status.RUNNING:
            instance.engine.kill(spec.id)
            instance.wait_for(spec, Status.EXITED)


def test_links_exchanged_while_copying_never_reach_the_host(
    instance: Instance, tmp_path: Path
) -> None:
    (tmp_path / "host-file").write_text("host's")
    script = (
        f"mkdir -p /x/real /x/real2; echo ok > /x/real/f; ln -s {tmp_path} /x/link; echo ready; "
        "while :; do mv -T /x/real /x/t; mv -T /x/link /x/real; mv -T /x/real /x/link; mv -T /x/t /x/real; done"
    )
    spec = instance.run(instance.shell(script, security=HOST))
    instance.wait_for_output(spec, "ready")
    for _ in range(15):
        try:
            assert not any("host-file" in n for n in get(instance, spec, "/x"))
            put(instance, spec, "/x/real", archive(member("planted")))
        except EngineError:
            continue  # it was not there at that moment
    assert os.listdir(tmp_path) == ["host-file"]


def test_the_helper_has_nothing_of_the_host(instance: Instance, spec: ContainerSpec) -> None:
    """What the kernel says of it while it waits for data."""
    with instance.engine.files.write(spec.id, "/root") as transfer:
        half = archive(member("first"))
        transfer.stream.write(half[:600])
        transfer.stream.flush()
        pid = transfer._process.pid
        proc = Path(f"/proc/{pid}")
        wait_until(lambda: (proc / "cwd").readlink() != Path("/"), what="the helper inside")
        status = dict(
            line.split(":\t", 1)
            for line in (proc / "status").read_text().splitlines()
            if ":\t" in line
        )
        assert int(status["CapEff"], 16) == 0b11011
        assert status["NoNewPrivs"] == "1"
        kinds = [os.readlink(p) for p in (proc / "fd").iterdir()]
        lock = str(instance.config.locks / f"{spec.id}.lock")
        stopped = instance.status(spec) in (Status.CREATED, Status.EXITED)
        assert kinds.count(lock) == stopped
        due = ("pipe:", "/dev/null", "/root/.slipway-", lock)
        assert all(k.startswith(due) for k in kinds), kinds
        assert not (proc / "root" / str(instance.config.root).lstrip("/")).exists()
    assert not proc.exists()


def test_a_copy_holds_off_a_removal_also_when_who_asked_for_it_has_died(
    instance: Instance,
) -> None:
    spec = make(instance, "created")
    put(instance, spec, "/root", archive(member("large"), data=bytes(1 << 20)))
    ours, theirs = os.pipe()
    asker = os.fork()
    if asker == 0:
        try:
            _, transfer = instance.engine.files.read(spec.id, "/root")  # more than its pipe holds
            os.write(theirs, str(transfer._process.pid).encode())
            signal.pause()
        finally:
            os._exit(1)
    helper = int(os.read(ours, 20))
    try:
        os.kill(helper, signal.SIGSTOP)
        wait_until(lambda: _state(helper) == "T")
        os.kill(asker, signal.SIGKILL)
        os.waitpid(asker, 0)
        with pytest.raises(LockTimeout):
            with locked(instance.config.locks / f"{spec.id}.lock", timeout=0):
                pass
    finally:
        os.kill(helper, signal.SIGCONT)
        os.close(ours)
        os.close(theirs)
    instance.engine.remove(spec.id)
    assert not Path(f"/proc/{helper}/ns/mnt").exists()


def _state(pid: int) -> str:
    process = read_process(str(pid))
    return process.state if process else ""


def test_a_container_code_is_never_loaded(instance: Instance, spec: ContainerSpec) -> None:
    trap = b"open('/trapped', 'w')\n"
    names = ("encodings/idna.py", "pwd.py", "grp.py", "bz2.py", "lzma.py", "sitecustomize.py")
    base = os.path.dirname(os.__file__).lstrip("/")
    members = [member(f"{base}/{name}") for name in names]
    put(instance, spec, "/", archive(*members, data=trap))
    get(instance, spec, "/root")
    compressed = io.BytesIO()
    with tarfile.open(fileobj=compressed, mode="w:xz") as tar:
        tar.addfile(member("from-xz"))
    put(instance, spec, "/root", compressed.getvalue())
    assert "root/from-xz" in get(instance, spec, "/root")
    with pytest.raises(NotFound):
        instance.engine.files.stat(spec.id, "/trapped")


def test_a_file_is_replaced_when_it_is_whole_and_not_before(
    instance: Instance, spec: ContainerSpec
) -> None:
    put(instance, spec, "/root", archive(member("kept")))
    good = archive(member("first"), member("kept"), data=b"new" * 5000)
    with pytest.raises(ArchiveInvalid) as caught:
        put(instance, spec, "/root", good[: len(good) // 2 + 4000])
    assert caught.value.extra["written"] == {"members": 1, "bytes": 15_000}
    found = {m.name: data for m, data in contents(instance, spec, "/root")}
    assert found["root/kept"] == b"data\n"
    assert set(found) <= {"root", "root/file", "root/kept", "root/first"}
    directory = member("d", tarfile.DIRTYPE)
    put(instance, spec, "/root", archive(directory, member("d/inner")))
    with pytest.raises(NotFound):
        put(instance, spec, "/root", archive(member("d", tarfile.LNKTYPE, linkname="nowhere")))
    assert "d/inner" in {n.removeprefix("root/") for n in get(instance, spec, "/root")}


def test_what_is_in_the_way_is_told(instance: Instance, running: ContainerSpec) -> None:
    below = member("/etc/passwd/below")
    with pytest.raises(Conflict, match="passwd"):
        put(instance, running, "/", archive(below))
    with pytest.raises(Conflict):
        put(instance, running, "/proc/sys", archive(member("kernel/hostname")))
    with pytest.raises(Conflict):
        put(instance, running, "/", archive(member("n" * 300)))
    for nonsense in (member("m", mtime=1 << 70), member("m", uid=1 << 40)):
        with pytest.raises(ArchiveInvalid):
            put(instance, running, "/root", archive(nonsense), keep_ids=True)
    for path, error in (("/etc/passwd", SpecInvalid), ("/no/such", NotFound)):
        with pytest.raises(error):
            instance.engine.files.write(running.id, path)


def test_a_full_disk_is_told_and_leaves_no_half_file(instance: Instance) -> None:
    mount = Mount(type="tmpfs", target="/small", tmpfs_size=1 << 20)
    spec = instance.run(instance.shell("exec sleep 1000", mounts=(mount,)))
    two = archive(member("fits"), member("does-not"), data=b"x" * 600_000)
    with pytest.raises(StorageFull) as caught:
        put(instance, spec, "/small", two)
    assert caught.value.extra["written"] == {"members": 1, "bytes": 600_000}
    assert set(get(instance, spec, "/small")) == {"small", "small/fits"}


def test_broken_streams_are_told(instance: Instance, running: ContainerSpec) -> None:
    for data in (b"", b"no tar at all" * 100, archive(member("half"), data=b"x" * 9000)[:4000]):
        with pytest.raises(ArchiveInvalid):
            put(instance, running, "/root", data)


def test_volumes_of_a_stopped_container_are_there(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("by the host")
    (tmp_path / "given").chmod(0o644)
    mount = Mount(type="bind", source=str(tmp_path), target="/data", read_only=True)
    spec = instance.create(instance.shell("true", mounts=(mount,)))
    [(_, data)] = contents(instance, spec, "/data/given")
    assert data == b"by the host"
    with pytest.raises(EngineError):
        put(instance, spec, "/data", archive(member("refused")))
    assert os.listdir(tmp_path) == ["given"]


def test_a_paused_one_can_be_read_and_a_missing_one_cannot(
    instance: Instance, running: ContainerSpec
) -> None:
    instance.engine.pause(running.id)
    assert "file" in get(instance, running, "/root/file")
    instance.engine.unpause(running.id)
    with pytest.raises((NotFound, BadState)):
        instance.engine.files.stat("0" * 64, "/")
    with pytest.raises(SpecInvalid):
        instance.engine.files.stat(running.id, "")


def test_an_export_has_no_volumes(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "given").touch()
    mount = Mount(type="bind", source=str(tmp_path), target="/data")
    spec = instance.run(instance.shell("exec sleep 1000", mounts=(mount,)))
    for stopped in (False, True):
        if stopped:
            instance.engine.kill(spec.id)
            instance.wait_for(spec, Status.EXITED)
        assert "./data/given" in get(instance, spec, "/")
        _, transfer = instance.engine.files.read(spec.id, "/", export=True)
        with transfer:
            raw = transfer.stream.read()
            transfer.finish()
        with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            names = tar.getnames()
        assert "./etc/passwd" in names
        assert "./data" in names
        assert "./data/given" not in names
