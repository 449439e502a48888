"""What the tests of known escapes share: containers of both kinds, images and volumes of an attacker's making."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from runtime.errors import InitFailed
from runtime.model.spec import Namespaces, Security
from runtime.shim.client import ShimClient
from tests.support.engine import Instance
from tests.support.images import docker_archive, layer
from tests.support.options import Seen
from tests.support.waiting import PATIENCE

# The default, and what somebody gets who opts out of it.
Kind = Literal["", "host"]
KINDS: tuple[Kind, ...] = ("", "host")


def box(instance: Instance, script: str = "", userns: Kind = "", **changes: Any) -> Seen:
    """A container that runs: `script` (default: nothing), without a network unless it is given one.

    It goes by the name of `userns`; other fields of `security` may be given as `changes`.
    """
    security = {"userns": userns, **changes.pop("security", {})}
    if "network" not in changes:
        changes.setdefault("namespaces", Namespaces(network="none"))
    process = {"init": False, **changes.pop("process", {})}
    spec = instance.shell(
        script or "exec sleep 1000", security=Security(**security), process=process, **changes
    )
    return Seen(instance, instance.run(spec))


def says(seen: Seen, script: str, **options: Any) -> str:
    """stdout and stderr of a script run inside, whatever it comes to."""
    shim = ShimClient(seen.instance.config, seen.spec.id)
    with shim.exec(["sh", "-c", f"exec 2>&1; {script}"], **options) as session:
        with os.fdopen(os.dup(session.stdout), "rb") as stream:
            output = stream.read().decode(errors="replace")
        session.wait(10 * PATIENCE)
    return output.strip()


def tried(seen: Seen, *args: str, **options: Any) -> str:
    """stdout of a command inside; "" when it could not even be begun."""
    shim = ShimClient(seen.instance.config, seen.spec.id)
    try:
        with shim.exec(args, **options) as session:
            with os.fdopen(os.dup(session.stdout), "rb") as stream:
                output = stream.read().decode(errors="replace")
            session.wait(10 * PATIENCE)
    except InitFailed:
        return ""
    return output.strip()


def image(instance: Instance, files: Mapping[str, bytes | str], **config: Any) -> str:
    """Id of an image: the starter's busybox below, a layer of these `files` (tests.support.images) on top."""
    [base] = instance.engine.images.layer_dirs(instance.image.id)
    commands = {f"bin/{path.name}": "-> busybox" for path in (base / "bin").iterdir()}
    whole: dict[str, bytes | str] = {
        "etc/": "",
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
        "tmp/": "",
        **commands,
        "bin/busybox": (base / "bin/busybox").read_bytes(),
    }
    # What the attacker has in place of these.
    whole = {name: content for name, content in whole.items() if name.rstrip("/") not in files}
    with tempfile.TemporaryDirectory() as directory:
        path = docker_archive(
            Path(directory) / "image.tar",
            [layer({**whole, "unique": secrets.token_hex(8)}), layer(dict(files))],
            **config,
        )
        return instance.engine.images.import_archive(path).id


def volume(instance: Instance, **links: str) -> tuple[str, Path]:
    """Name and host path of a new volume, with these symbolic links in it."""
    name = f"evil-{secrets.token_hex(4)}"
    path = instance.engine.volumes.create(name).path
    for link, target in links.items():
        (path / link).symlink_to(target)
    return name, path
