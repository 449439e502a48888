"""Directories and files of containers, looked at from outside."""

from __future__ import annotations

import secrets
import tarfile
from pathlib import Path

import pytest

from runtime.errors import NotFound, SpecInvalid
from runtime.model.spec import ContainerSpec, Mount
from runtime.model.state import Status
from tests.support.engine import Instance
from tests.support.files import HOST, archive, instance, member, put, spec

__all__ = ("instance", "spec")


def test_a_directory_is_listed_with_what_is_its_own(
    instance: Instance, spec: ContainerSpec
) -> None:
    put(
        instance,
        spec,
        "/etc",
        archive(
            member("own", uid=33, gid=34, mode=0o4711, mtime=1_000_000),
            member("inside", tarfile.DIRTYPE),
            member("to-own", tarfile.SYMTYPE, linkname="own"),
            member("to-nothing", tarfile.SYMTYPE, linkname="/not/there"),
            member("pipe", tarfile.FIFOTYPE),
            member("odd-\udcff\n"),
        ),
        keep_ids=True,
    )
    table = archive(member("group"), data=b"root:x:0:\nthey:x:34:\nnonsense\n")
    put(instance, spec, "/etc", table)
    listing = instance.engine.files.listing(spec.id, "/etc/../etc/")
    assert (listing.path, listing.in_layer, listing.more, listing.deleted) == (
        "/etc", True, False, ()
    )  # fmt: skip
    found = {entry.name: entry for entry in listing.entries}
    assert list(found) == sorted(found)
    own = found["own"]
    assert (own.kind, own.size, own.mode & 0o7777, own.mtime) == ("file", 5, 0o4711, 1_000_000)
    assert (own.uid, own.user, own.gid, own.group) == (33, "", 34, "they")
    assert (found["passwd"].user, found["passwd"].change) == ("root", "")
    assert (own.change, found["group"].change) == ("added", "modified")
    assert (found["inside"].kind, found["pipe"].kind) == ("directory", "pipe")
    link = found["to-own"]
    assert (link.kind, link.link_target, link.leads_to) == ("link", "own", "file")
    assert found["to-nothing"].leads_to == ""
    assert "odd-\udcff\n" in found
    # In parts, from the first name after the last.
    first = instance.engine.files.listing(spec.id, "/etc", limit=3)
    assert first.more
    rest = instance.engine.files.listing(spec.id, "/etc", after=first.entries[-1].name)
    assert [e.name for e in (*first.entries, *rest.entries)] == list(found)
    for path, error in (("/etc/passwd", SpecInvalid), ("/no/such", NotFound), ("", SpecInvalid)):
        with pytest.raises(error):
            instance.engine.files.listing(spec.id, path)


def test_deleted_names_and_other_file_systems_are_told(instance: Instance) -> None:
    mount = Mount(type="tmpfs", target="/memory")
    script = "rm /etc/passwd; rm -r /root; mkdir /root; touch /memory/f; ln -s /etc /way; echo ready; exec sleep 1000"
    spec = instance.run(instance.shell(script, mounts=(mount,), security=HOST))
    instance.wait_for_output(spec, "ready")
    for stopped in (False, True):
        if stopped:
            instance.engine.kill(spec.id)
            instance.wait_for(spec, Status.EXITED)
        listing = instance.engine.files.listing(spec.id, "/way")
        assert (listing.path, listing.deleted) == ("/etc", ("passwd",))
        assert "passwd" not in {entry.name for entry in listing.entries}
    spec = instance.run(instance.shell(script, mounts=(mount,)))
    instance.wait_for_output(spec, "ready")
    memory = instance.engine.files.listing(spec.id, "/memory")
    assert ([e.name for e in memory.entries], memory.in_layer) == (["f"], False)
    assert memory.entries[0].change == ""


def test_the_content_of_a_file_comes_and_that_of_nothing_else(
    instance: Instance, spec: ContainerSpec, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("host's")
    data = secrets.token_bytes(200_000)
    put(instance, spec, "/root", archive(member("large"), data=data))
    others = (
        member("link", tarfile.SYMTYPE, linkname="large"),
        member("out", tarfile.SYMTYPE, linkname=f"/../../../..{secret}"),
        member("pipe", tarfile.FIFOTYPE),
    )
    put(instance, spec, "/root", archive(*others))

    def content(path: str, limit: int | None = None) -> bytes:
        facts, transfer = instance.engine.files.content(spec.id, path, limit=limit)
        with transfer:
            assert facts.size == len(data)
            found: bytes = transfer.stream.read()
            transfer.finish()
        return found

    assert content("/root/large") == data
    assert content("/root/link", 70_000) == data[:70_000]
    for path, error in (
        ("/root/out", NotFound),
        ("/root/pipe", SpecInvalid),
        ("/root", SpecInvalid),
        ("/dev/null", (SpecInvalid, NotFound)),
        ("/root/none", NotFound),
    ):
        with pytest.raises(error):
            instance.engine.files.content(spec.id, path)
