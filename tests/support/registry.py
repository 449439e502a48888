"""Debian's docker-registry on loopback, and just enough of a push to fill it."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.engine import free_port
from tests.support.vm.protocol import inside
from tests.support.waiting import wait_until

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_BINARY = "/usr/bin/docker-registry"


class RegistryServer:
    """Use with `with`; the data goes with it. With `users` an htpasswd file guards it."""

    def __init__(self, users: str = "") -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="slw-registry-")
        self.root = Path(self._directory.name)
        self.address = f"127.0.0.1:{free_port()}"
        self._users = users
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RegistryServer:
        if inside():
            pytest.skip(
                "the virtual machine has no registry: kernels make no difference to pulling"
            )
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.root / "data")}},
            "http": {"addr": self.address},
        }
        if self._users:
            (self.root / "htpasswd").write_text(self._users)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(self.root / "htpasswd")}}
        path = self.root / "config.yml"
        path.write_text(json.dumps(config))  # JSON is YAML
        with (self.root / "log").open("wb") as log:
            self._process = subprocess.Popen([_BINARY, "serve", str(path)], stdout=log, stderr=log)
        wait_until(self._answers, what="the registry")
        return self

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://{self.address}/v2/").status_code in (200, 401)
        except httpx.HTTPError:
            return False

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
        self._directory.cleanup()

    def push(
        self,
        name: str,
        tag: str,
        layers: list[bytes],
        *,
        config: dict[str, Any] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> list[str]:
        """Push plain layer tars (gzipped on the way) as one image. Returns the blobs' digests."""
        packed = [gzip.compress(layer, mtime=0) for layer in layers]
        document = {
            "architecture": "amd64",
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]},
        }
        raw = json.dumps(document).encode()
        with httpx.Client(base_url=f"http://{self.address}/v2/{name}", auth=auth) as client:
            digests = [self._blob(client, blob) for blob in packed]
            manifest = {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(raw),
                    "digest": self._blob(client, raw),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        "size": len(blob),
                        "digest": digest,
                    }
                    for blob, digest in zip(packed, digests, strict=True)
                ],
            }
            answer = client.put(
                f"/manifests/{tag}",
                content=json.dumps(manifest),
                headers={"Content-Type": _MANIFEST},
            )
            answer.raise_for_status()
        return digests

    def _blob(self, client: httpx.Client, data: bytes) -> str:
        started = client.post("/blobs/uploads/")
        started.raise_for_status()
        digest = _digest(data)
        where = httpx.URL(started.headers["Location"]).copy_merge_params({"digest": digest})
        headers = {"Content-Type": "application/octet-stream"}
        client.put(where, content=data, headers=headers).raise_for_status()
        return digest

    def blob_file(self, digest: str) -> Path:
        """Where the registry keeps a blob, for damaging it."""
        digits = digest.removeprefix("sha256:")
        return self.root / "data/docker/registry/v2/blobs/sha256" / digits[:2] / digits / "data"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
