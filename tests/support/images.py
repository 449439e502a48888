"""Real images for tests: layers as tars, archives of every form, nginx from Debian's packages."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

# Debian's packages change slowly and unpacking them takes a minute; every run may share the result.
CACHE = Path("/var/cache/slipway-tests")
_PACKAGES = "nginx-light"
_DROPPED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "var/cache/apt",
    "var/lib/apt/lists",
)


def layer(files: dict[str, bytes | str], **extra: tarfile.TarInfo) -> bytes:
    """A plain tar: name → content; a text "-> target" makes a symbolic link, a name ending in / a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mode = 0o755
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif isinstance(content, str) and content.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, content.removeprefix("-> ")
                tar.addfile(info)
            else:
                data = content.encode() if isinstance(content, str) else content
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        for info in extra.values():
            tar.addfile(info)
    return buffer.getvalue()


def busybox_layer() -> bytes:
    """The host's static busybox with the commands that tests use."""
    commands = "sh ls cat echo sleep true false id env ps kill mkdir touch httpd wget ping"
    files: dict[str, bytes | str] = {"bin/busybox": Path("/bin/busybox").read_bytes()}
    files |= {f"bin/{command}": "-> busybox" for command in commands.split()}
    files["etc/passwd"] = "root:x:0:0:root:/root:/bin/sh\n"
    files["etc/group"] = "root:x:0:\n"
    return layer(files)


def _config(layers: list[bytes], config: dict[str, Any]) -> bytes:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_hex(one)}" for one in layers]},
    }
    return json.dumps(document).encode()


def docker_archive(path: Path, layers: list[bytes], *, tag: str = "", **config: Any) -> Path:
    """As `docker save` writes it."""
    raw = _config(layers, config)
    files: dict[str, bytes | str] = {f"{_hex(one)}/layer.tar": one for one in layers}
    files[f"{_hex(raw)}.json"] = raw
    entry = {
        "Config": f"{_hex(raw)}.json",
        "RepoTags": [tag] if tag else [],
        "Layers": [f"{_hex(one)}/layer.tar" for one in layers],
    }
    files["manifest.json"] = json.dumps([entry])
    path.write_bytes(layer(files))
    return path


def oci_archive(path: Path, layers: list[bytes], *, name: str = "", **config: Any) -> Path:
    """An OCI image layout in a tar."""
    raw = _config(layers, config)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor(raw, "application/vnd.oci.image.config.v1+json"),
            "layers": [
                _descriptor(one, "application/vnd.oci.image.layer.v1.tar") for one in layers
            ],
        }
    ).encode()
    descriptor = _descriptor(manifest, "application/vnd.oci.image.manifest.v1+json")
    if name:
        descriptor["annotations"] = {"org.opencontainers.image.ref.name": name}
    index = {"schemaVersion": 2, "manifests": [descriptor]}
    files: dict[str, bytes | str] = {"oci-layout": '{"imageLayoutVersion":"1.0.0"}'}
    files["index.json"] = json.dumps(index)
    files |= {f"blobs/sha256/{_hex(blob)}": blob for blob in (raw, manifest, *layers)}
    path.write_bytes(layer(files))
    return path


def _descriptor(data: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(data), "digest": f"sha256:{_hex(data)}"}


def _hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def nginx_image_archive() -> Path:
    """A `docker save` archive of nginx from Debian's packages, made by debootstrap once per machine."""
    made = CACHE / "nginx-2.tar"
    if made.exists():
        return made
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="slw-nginx-", dir=CACHE) as directory:
        root = Path(directory) / "root"
        command = [
            "debootstrap",
            "--variant=minbase",
            f"--include={_PACKAGES}",
            suite(),
            str(root),
        ]
        done = subprocess.run([*command, *mirror()], capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"debootstrap failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        _prepare(root)
        plain = Path(directory) / "layer.tar"
        with tarfile.open(plain, "w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(root, arcname=".")
        archive = Path(directory) / "image.tar"
        docker_archive(
            archive,
            [plain.read_bytes()],
            Cmd=["nginx", "-g", "daemon off;"],
            ExposedPorts={"80/tcp": {}},
            StopSignal="SIGQUIT",
            Env=["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        )
        archive.rename(made)
    return made


def _prepare(root: Path) -> None:
    for name in _DROPPED:
        shutil.rmtree(root / name, ignore_errors=True)
    for log, target in (("access", "/dev/stdout"), ("error", "/dev/stderr")):
        path = root / f"var/log/nginx/{log}.log"
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    (root / "var/www/html").mkdir(parents=True, exist_ok=True)
    for old in (root / "var/www/html").iterdir():
        old.unlink()
    (root / "var/www/html/index.html").write_text("<h1>Welcome to nginx!</h1>\n")


def suite() -> str:
    facts = dict(
        line.split("=", 1)
        for line in Path("/etc/os-release").read_text().splitlines()
        if "=" in line
    )
    return facts["VERSION_CODENAME"].strip('"')


def mirror() -> list[str]:
    """The mirror that this machine's own apt uses; debootstrap's default when none is found."""
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    lines = sources.read_text().splitlines() if sources.exists() else []
    for line in lines:
        if line.startswith("URIs:"):
            return [line.split()[1]]
    listed = Path("/etc/apt/sources.list")
    for line in listed.read_text().splitlines() if listed.exists() else []:
        words = [w for w in line.split() if not w.startswith("[")]
        if words[:1] == ["deb"]:
            return [words[1]]
    return []


if __name__ == "__main__":
    print(nginx_image_archive(), os.path.getsize(nginx_image_archive()))  # noqa: T201
