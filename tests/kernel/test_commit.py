"""An image of what a container has made: it runs as the container left it, and is one as any other."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import BadState, Cancelled, ImageInUse, NotFound, StorageFull
from runtime.images.unpack import DEVICES
from runtime.model.image import ImageChanges, ImageRecord, Progress
from runtime.model.spec import ContainerSpec, Mount, Security
from runtime.model.state import Status
from runtime.snapshots.layer_tar import LayerTar
from tests.support.engine import Instance
from tests.support.waiting import wait_until

BASE = """
mkdir -p /app/lib /app/data/old; echo 1 > /app/lib/a; echo 2 > /app/lib/b; echo old > /app/data/old/f
echo base > /app/file; echo stays > /app/stays
"""
CHANGES = """
echo changed > /app/file; chmod 4750 /app/file; chown 33:34 /app/file
rm /app/lib/a; echo 3 > /app/lib/c; ln /app/lib/c /app/lib/hard; ln -s c /app/lib/soft; mkfifo /app/pipe
rm -r /app/data; mkdir /app/data; echo new > /app/data/f
touch -d '2001-02-03 04:05:06' /app/lib/c; printf x > "/app/lib/$(printf 'n\\303\\244\\377me')"
mkdir -m 700 /private; rm -rf /home; mkdir /sock
"""
# What is there, with all that a tar can say of it; the directories' own times are of the moment.
LOOK = """
{ cd /; find app private sock home -exec stat -c '%n %A %u:%g %h %s' {} \\; 2>&1 | sort
stat -c %Y /app/lib/c; cat /app/file /app/lib/hard /app/data/f; ls /app/data /app/lib; ls -d /home; } | cat -v
"""


@pytest.fixture
def instance() -> Iterator[Instance]:
    with Instance() as made:
        yield made


@pytest.fixture(params=["", "host"], ids=["mapped ids", "host ids"])
def security(request: pytest.FixtureRequest) -> Security:
    return Security(userns=request.param)


def done(instance: Instance, spec: ContainerSpec) -> str:
    """Everything it has written, when it has ended."""
    instance.run(spec)
    instance.engine.wait(spec.id, 20)
    return instance.output(spec)


def commit(instance: Instance, spec: ContainerSpec, **changes: Any) -> ImageRecord:
    return instance.engine.commits.commit(spec.id, ImageChanges(**changes)).image


def test_the_new_image_is_what_the_container_was(instance: Instance, security: Security) -> None:
    base = instance.shell(BASE, security=security)
    done(instance, base)
    first = commit(instance, base)
    spec = instance.shell(f"{CHANGES} {LOOK}", image=first.id, security=security)
    seen = done(instance, spec)
    assert "changed" in seen
    second = commit(instance, spec, comment="the second")
    assert done(instance, instance.shell(LOOK, image=second.id, security=security)) == seen
    # Also for one with other ids, and once more on top of that.
    other = Security(userns="" if security.userns else "host")
    again = instance.shell(LOOK, image=second.id, security=other)
    assert done(instance, again) == seen
    third = commit(instance, again)
    assert done(instance, instance.shell(LOOK, image=third.id)) == seen
    assert len({layer.diff_id for layer in third.layers[:3]}) == 3


def test_marks_of_the_overlay_become_those_of_images(instance: Instance) -> None:
    base = instance.shell(BASE)
    done(instance, base)
    image = commit(instance, base)
    spec = instance.shell(CHANGES, image=image.id)
    done(instance, spec)
    upper = instance.config.bundle(spec.id) / "upper"
    with LayerTar(upper, DEVICES) as layer, tarfile.open(fileobj=io.BytesIO(layer.read())) as tar:
        members = {m.name: m for m in tar}
    assert members["app/lib/.wh.a"].isreg()
    assert members["app/data/.wh..wh..opq"].isreg()
    assert ".wh.home" in members
    assert "app/lib/b" not in members
    assert not any(m.ischr() for m in members.values())
    assert members["app/lib/hard"].linkname == "app/lib/c"
    assert (members["app/file"].uid, members["app/file"].gid) == (33, 34)
    # And back again, as overlayfs has them.
    made = commit(instance, spec)
    diff = instance.engine.images.layer_dirs(made.id)[-1]
    assert (diff / "app/lib/a").is_char_device()
    assert os.getxattr(diff / "app/data", "trusted.overlay.opaque") == b"y"
    assert (diff / "app/lib/c").stat().st_nlink == 2


def test_digests_sizes_and_config_are_right(instance: Instance) -> None:
    spec = instance.shell("echo 12345678 > /eight; exec sleep 1000")
    instance.run(spec)
    wait_until((instance.config.bundle(spec.id) / "upper/eight").exists, what="the file")
    made = commit(
        instance,
        spec,
        cmd=("cat", "/eight"),
        env=("A=1", "PATH=/bin"),
        working_dir="/tmp",
        user="33",
        labels={"by": "me"},
        comment="why",
        author="who",
        created="2026-01-02T03:04:05Z",
    )
    parent = instance.image
    config = (instance.config.blobs / made.id.removeprefix("sha256:")).read_bytes()
    assert f"sha256:{hashlib.sha256(config).hexdigest()}" == made.id
    document = json.loads(config)
    assert document["rootfs"]["diff_ids"] == [layer.diff_id for layer in made.layers]
    assert made.layers[:-1] == parent.layers
    assert made.layers[-1].size == 9
    assert made.size == parent.size + 9
    assert made.layers[-1].created_by == " ".join(spec.process.args)
    step = document["history"][-1]
    assert (step["comment"], step["author"], step["created"]) == ("why", "who", made.created)
    assert made.config.cmd == ("cat", "/eight")
    assert made.config.env == ("PATH=/bin", "A=1")
    assert (made.config.working_dir, made.config.user) == ("/tmp", "33")
    assert made.config.labels == {**parent.config.labels, "by": "me"}
    assert (made.author, parent.author) == ("who", "Slipway")
    upper = instance.config.bundle(spec.id) / "upper"
    with LayerTar(upper, DEVICES) as layer:
        diff_id = hashlib.sha256(layer.read()).hexdigest()
    assert made.layers[-1].diff_id == f"sha256:{diff_id}"
    assert instance.engine.images.get(made.id) == made


def test_an_entrypoint_drops_the_command_that_the_image_had(instance: Instance) -> None:
    spec = instance.create(instance.shell("true"))
    made = commit(instance, spec, entrypoint=("sleep",))
    assert (made.config.entrypoint, made.config.cmd) == (("sleep",), ())
    assert commit(instance, spec).config == instance.image.config
    assert commit(instance, spec).layers[-1].size == 0


def test_it_is_removed_with_its_layer_and_never_while_it_is_used(instance: Instance) -> None:
    spec = instance.shell("echo 1 > /one")
    done(instance, spec)
    made = commit(instance, spec)
    layer = instance.engine.images.layer_dirs(made.id)[-1]
    user = instance.create(instance.shell("cat /one", image=made.id))
    with pytest.raises(ImageInUse):
        instance.engine.images.remove(made.id)
    instance.engine.remove(spec.id)
    instance.engine.images.collect(grace=0)
    instance.engine.start(user.id)
    instance.engine.wait(user.id, 10)
    assert instance.output(user) == "1"
    instance.engine.remove(user.id)
    instance.engine.images.remove(made.id)
    assert not layer.exists()
    assert instance.engine.images.layer_dirs(instance.image.id)
    with pytest.raises(NotFound):
        instance.engine.images.get(made.id)


def test_attributes_holes_and_long_names_are_kept(instance: Instance) -> None:
    """Attributes from outside: nothing in the starter image sets them."""
    script = (
        "echo 1 > /able; mkdir -p /deep; truncate -s 3G /hole; "
        "printf end | dd of=/hole bs=1 seek=2000000000 conv=notrunc 2>/dev/null; truncate -s 9G /empty"
    )
    spec = instance.shell(script)
    done(instance, spec)
    upper = instance.config.bundle(spec.id) / "upper"
    able = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    os.setxattr(upper / "able", "security.capability", able)
    os.setxattr(upper / "able", "trusted.note", b"\xff\x00=\n")
    long = "/".join(["d" * 200] * 4)
    (upper / "deep" / long).mkdir(parents=True)
    made = commit(instance, spec)
    layer = instance.engine.images.layer_dirs(made.id)[-1]
    assert os.getxattr(layer / "able", "security.capability") == able
    assert os.getxattr(layer / "able", "trusted.note") == b"\xff\x00=\n"
    assert (layer / "deep" / long).is_dir()
    for name, size in (("hole", 3 << 30), ("empty", 9 << 30)):
        facts = (layer / name).stat()
        assert facts.st_size == size
        assert facts.st_blocks * 512 < 1 << 20
    with (layer / "hole").open("rb") as file:
        file.seek(2_000_000_000)
        assert file.read(4) == b"end\0"
    assert made.layers[-1].size < 1 << 20


def test_it_stands_still_meanwhile_and_runs_on(instance: Instance) -> None:
    spec = instance.shell("while :; do echo x >> /log; done")
    instance.run(spec)
    log = instance.config.bundle(spec.id) / "upper/log"
    wait_until(lambda: log.exists() and log.stat().st_size > 1000, what="the log")
    seen: list[tuple[Status, int]] = []

    def look(_: Progress) -> None:
        seen.append((instance.status(spec), log.stat().st_size))

    instance.engine.commits.commit(spec.id, ImageChanges(), progress=look)
    assert {status for status, _ in seen} == {Status.PAUSED}
    assert len({size for _, size in seen}) == 1
    assert instance.status(spec) == Status.RUNNING
    wait_until(lambda: log.stat().st_size > seen[-1][1], what="it to go on")
    seen.clear()
    instance.engine.commits.commit(spec.id, ImageChanges(), pause=False, progress=look)
    assert {status for status, _ in seen} == {Status.RUNNING}
    # One that somebody else has paused stays so.
    instance.engine.pause(spec.id)
    instance.engine.commits.commit(spec.id, ImageChanges())
    instance.engine.commits.thaw(spec.id)
    assert instance.status(spec) == Status.PAUSED


def test_what_is_cancelled_or_cut_short_leaves_nothing_and_the_container_runs(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = instance.shell("echo 1 > /one; exec sleep 1000")
    instance.run(spec)
    before = (os.listdir(instance.config.images), os.listdir(instance.config.layers))
    with pytest.raises(Cancelled):
        instance.engine.commits.commit(spec.id, ImageChanges(), cancelled=lambda: True)
    assert instance.status(spec) == Status.RUNNING

    # A worker that is killed while it is frozen: the next attempt knows whose doing that was.
    def die(_: Progress) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(instance.engine.commits, "_run_on", lambda _: None)
        with pytest.raises(SystemExit):
            instance.engine.commits.commit(spec.id, ImageChanges(), progress=die)
    assert instance.status(spec) == Status.PAUSED
    assert before == (os.listdir(instance.config.images), os.listdir(instance.config.layers))
    instance.engine.commits.commit(spec.id, ImageChanges())
    assert instance.status(spec) == Status.RUNNING
    instance.engine.pause(spec.id)
    instance.engine.commits.thaw(spec.id)
    assert instance.status(spec) == Status.PAUSED


def test_a_pause_that_somebody_asks_for_outlives_every_commit(instance: Instance) -> None:
    """Also on a container that was frozen by a commit whose worker died."""
    spec = instance.run(instance.spec("sleep", "1000"))
    bundle = instance.config.bundle(spec.id)
    for ask in (instance.engine.unpause, instance.engine.pause, instance.engine.restart):
        instance.engine._observer.mark_frozen(spec.id)
        ask(spec.id)
        assert "trusted.slipway.commit" not in os.listxattr(bundle)
        instance.engine.pause(spec.id)
        instance.engine.commits.commit(spec.id, ImageChanges())
        assert instance.status(spec) == Status.PAUSED


def test_what_no_image_holds_is_left_out_and_told(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the host")
    script = (
        "mknod /disk b 8 0; mknod /zero c 1 5; mknod /odd c 10 200; echo 1 > /volume/in-it; echo k"
    )
    spec = instance.shell(
        script,
        security=Security(cap_add=("MKNOD",)),
        mounts=(Mount(type="bind", source=str(tmp_path), target="/volume"),),
    )
    assert done(instance, spec) == "k"
    committed = instance.engine.commits.commit(spec.id, ImageChanges())
    assert set(committed.left_out) == {"/disk", "/odd"}
    layer = instance.engine.images.layer_dirs(committed.image.id)[-1]
    assert (layer / "zero").is_char_device()
    assert os.listdir(layer / "volume") == []


def test_links_exchanged_meanwhile_never_lead_out(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "host-file").write_text("host's")
    script = (
        f"mkdir -p /x/real; echo ok > /x/real/f; ln -s {tmp_path} /x/link; echo ready; "
        "while :; do mv -T /x/real /x/t; mv -T /x/link /x/real; mv -T /x/real /x/link; mv -T /x/t /x/real; done"
    )
    spec = instance.run(instance.shell(script, security=Security(userns="host")))
    instance.wait_for_output(spec, "ready")
    for _ in range(15):
        made = instance.engine.commits.commit(spec.id, ImageChanges(), pause=False).image
        for layer in instance.engine.images.layer_dirs(made.id):
            assert not any("host-file" in names for *_, names in os.walk(layer))


def test_a_full_disk_is_told(instance: Instance) -> None:
    with Instance(disk="16m") as small:
        spec = small.shell("dd if=/dev/urandom of=/half bs=1M count=8 2>/dev/null")
        done(small, spec)
        with pytest.raises(StorageFull):
            commit(small, spec)
        assert os.listdir(small.config.tmp) == []
        assert shutil.disk_usage(small.config.root).free > 1 << 20


def test_one_that_is_not_there_or_dead_is_refused(instance: Instance) -> None:
    with pytest.raises(NotFound):
        instance.engine.commits.commit("0" * 64, ImageChanges())
    spec = instance.create(instance.shell("true"))
    (instance.config.bundle(spec.id) / "dead.json").write_text('{"error": "half gone"}')
    with pytest.raises(BadState):
        instance.engine.commits.commit(spec.id, ImageChanges())
