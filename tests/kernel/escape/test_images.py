"""What an image may do to the host that unpacks and starts it.

- CVE-2021-41190 (OCI): one document, read as an image by whoever examined it and as an index by whoever ran it.
- CVE-2014-6407 and CVE-2014-9356 (Docker): links in a layer led what came after it, in it or in the next, out of the root.
- CVE-2014-9358 (Docker): an image's id in an archive was a path.
- Overlay's own attributes in a layer, whiteouts with paths in them, and pipes where files are read.

Here: a document that can be read as both is refused, by its members, its own media type, and the one that it was
sent as (`runtime/images/manifest.py`). Each layer is unpacked into a directory of its own, by descriptors and without following any
link (`runtime/images/unpack.py`); attributes of overlay's are taken out. Ids are digests and nothing else.
What init reads of an image it reads after the pivot, and only from plain files (`runtime/shim/user.py`).
Archives that are cut, lie or explode are in tests/kernel/test_images.py; mounts over links in test_mounts.py.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from runtime.errors import ArchiveInvalid, InitFailed
from runtime.images.unpack import unpack
from runtime.model.reference import Reference
from tests.support.engine import Instance
from tests.support.escape import Kind, box, image, says
from tests.support.images import docker_archive, layer

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_NOWHERE: dict[str, Any] = {"mediaType": IMAGE, "size": 2, "digest": f"sha256:{'0' * 64}"}
# Name → (what it is sent as, the document): each is an image for one reader and an index for another.
AMBIGUOUS: dict[str, tuple[str, dict[str, Any]]] = {
    "both members": (IMAGE, {"config": _NOWHERE, "layers": [], "manifests": [_NOWHERE]}),
    "an image called an index": (INDEX, {"config": _NOWHERE, "layers": []}),
    "an index called an image": (IMAGE, {"manifests": [_NOWHERE]}),
    "an image that calls itself an index": (
        IMAGE,
        {"mediaType": INDEX, "config": _NOWHERE, "layers": []},
    ),
}


@pytest.fixture(params=AMBIGUOUS)
def ambiguous(request: pytest.FixtureRequest) -> tuple[str, bytes]:
    kind, document = AMBIGUOUS[request.param]
    return kind, json.dumps({"schemaVersion": 2, **document}).encode()


@pytest.fixture
def deceiver(ambiguous: tuple[str, bytes]) -> Iterator[str]:
    """Address of a registry that sends one document for every name; a real one would refuse to store it."""
    kind, document = ambiguous

    class Deceive(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Deceive) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_registry_cannot_send_one_document_for_two(instance: Instance, deceiver: str) -> None:
    with pytest.raises(ArchiveInvalid, match="both as an image and as an index"):
        instance.engine.images.pull(Reference.parse(f"{deceiver}/app:1"), plain_http=True)


def test_an_archive_cannot_hold_one_document_for_two(
    instance: Instance, ambiguous: tuple[str, bytes], tmp_path: Path
) -> None:
    kind, document = ambiguous
    digest = hashlib.sha256(document).hexdigest()
    descriptor = {"mediaType": kind, "size": len(document), "digest": f"sha256:{digest}"}
    path = tmp_path / "two.tar"
    path.write_bytes(
        layer(
            {
                "oci-layout": '{"imageLayoutVersion":"1.0.0"}',
                "index.json": json.dumps({"schemaVersion": 2, "manifests": [descriptor]}),
                f"blobs/sha256/{digest}": document,
            }
        )
    )
    with pytest.raises(ArchiveInvalid, match="both as an image and as an index"):
        instance.engine.images.import_archive(path)


def test_links_of_a_layer_lead_no_later_layer_out(instance: Instance, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("of the host\n")
    layers = [
        layer({"bin/": "", "way": f"-> {outside}", "up": "-> ../../../../../../.."}),
        layer({"way/planted": "x", f"up{outside}/planted": "x", "way/.wh.kept": ""}),
    ]
    instance.engine.images.import_archive(docker_archive(tmp_path / "app.tar", layers))
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert (outside / "kept").read_text() == "of the host\n"


@pytest.mark.parametrize("place", ["Config", "Layers"])
@pytest.mark.parametrize("name", ["/etc/passwd", "../../../../../../../etc/passwd", "way/passwd"])
def test_an_archive_names_no_files_but_its_own(
    instance: Instance, tmp_path: Path, place: str, name: str
) -> None:
    entry: dict[str, Any] = {"Config": "config.json", "RepoTags": [], "Layers": ["layer.tar"]}
    entry[place] = name if place == "Config" else [name]
    path = tmp_path / "names.tar"
    path.write_bytes(
        layer(
            {
                "way": "-> /etc",
                "config.json": "{}",
                "layer.tar": layer({"a": "1"}),
                "manifest.json": json.dumps([entry]),
            }
        )
    )
    with pytest.raises(ArchiveInvalid) as refused:
        instance.engine.images.import_archive(path)
    assert "root:" not in str(refused.value.message)


def test_a_layer_brings_no_attributes_of_overlays(tmp_path: Path) -> None:
    """ "redirect" would show any directory of the layers below under another name, "metacopy" another file's content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("way")
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        info.pax_headers = {
            f"SCHILY.xattr.{name}": "/../../etc"
            for name in ("trusted.overlay.redirect", "user.overlay.redirect", "user.plain")
        }
        tar.addfile(info)
    stream.seek(0)
    unpack(stream, str(tmp_path))
    assert os.listxattr(tmp_path / "way") == ["user.plain"]


@pytest.mark.parametrize(
    "there", ["-> /dev/zero", "-> /proc/self/fd/0", "-> /proc/kmsg", "-> loop"]
)
def test_what_lies_at_etc_passwd_neither_hangs_nor_floods(
    instance: Instance, userns: Kind, there: str
) -> None:
    made = image(instance, {"etc/passwd": there, "etc/group": there, "etc/loop": "-> loop"})
    seen = box(instance, userns=userns, image=made, process={"user": "0"})
    assert says(seen, "grep ^Uid: /proc/self/status").split() == ["Uid:", "0", "0", "0", "0"]


def test_a_link_at_etc_passwd_names_nobody_of_the_hosts(instance: Instance, userns: Kind) -> None:
    """The host knows "daemon"; the image, whose link would lead there, does not."""
    made = image(instance, {"etc/passwd": "-> ../../../../../../../../etc/passwd-of-nobody"})
    with pytest.raises(InitFailed, match="no user 'daemon'"):
        box(instance, userns=userns, image=made, process={"user": "daemon"})
