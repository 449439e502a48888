"""From the fields of a request to a container that runs, and the kernel's own view of it."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from pathlib import Path
from typing import Any

from runtime.model.codec import to_json
from runtime.model.spec import ContainerSpec, Mount, NetworkSpec
from runtime.model.state import RunState
from runtime.model.validate import validate_spec
from runtime.shim.client import ShimClient
from tests.support.engine import Instance, free_port
from tests.support.waiting import PATIENCE
from webui.containers.building import build_spec
from webui.containers.requests import ContainerRequest

FOREVER = ["sleep", "1000"]


def asked(
    instance: Instance,
    *,
    on: NetworkSpec | None = None,
    also: tuple[NetworkSpec, ...] = (),
    inherited: tuple[Mount, ...] = (),
    **fields: Any,
) -> ContainerSpec:
    """The specification that REST would make of these fields; `on` is its network (default: none), `also` further ones."""
    if on is None:
        fields.setdefault("network", "none")
    request = ContainerRequest.model_validate(
        {"image": "x", "command": FOREVER, "stop_timeout": 1, **fields}
    )
    spec = build_spec(
        request,
        container_id=secrets.token_hex(32),
        image=instance.image.id,
        config=to_json(instance.image.config),
        host_ip="0.0.0.0",
        inherited=inherited,
    )
    if on is not None:
        endpoint = instance.endpoint(on, aliases=tuple(request.network_aliases))
        given: dict[str, Any] = {
            "address": request.ip,
            "mac_address": request.mac_address,
            "link_local": tuple(request.link_local_ips),
        }
        endpoint = dataclasses.replace(endpoint, **{k: v for k, v in given.items() if v})
        others = (instance.endpoint(network) for network in also)
        spec = dataclasses.replace(spec, endpoints=(endpoint, *others))
        # A free one, as the reservation picks it.
        ports = (dataclasses.replace(p, host_port=p.host_port or free_port()) for p in spec.ports)
        spec = dataclasses.replace(spec, ports=tuple(ports))
    # As it is stored and read again by the worker.
    spec = dataclasses.replace(spec, labels=json.loads(json.dumps(spec.labels)))
    validate_spec(spec)
    return spec


def started(instance: Instance, **fields: Any) -> Seen:
    """Make it, start it, and look at it."""
    return Seen(instance, instance.run(asked(instance, **fields)))


class Seen:
    """A container that runs, as /proc and its control groups show it."""

    def __init__(self, instance: Instance, spec: ContainerSpec) -> None:
        self.instance = instance
        self.spec = spec

    @property
    def state(self) -> RunState:
        run = self.instance.engine.observe(self.spec.id).run
        assert run is not None
        return run

    @property
    def pid(self) -> int:
        return self.state.pid

    def proc(self, name: str) -> str:
        return Path(f"/proc/{self.pid}/{name}").read_text()

    def words(self, name: str) -> list[str]:
        """The NUL-separated words of cmdline or environ."""
        return self.proc(name).rstrip("\0").split("\0")

    def status(self, name: str) -> str:
        """One line of /proc/<pid>/status, ids as the container has them."""
        lines = dict(line.split(":", 1) for line in self.proc("status").splitlines())
        value = lines[name].strip()
        if name in ("Uid", "Gid", "Groups"):
            return " ".join(str(self.inside(int(n), name.lower()[:3])) for n in value.split())
        return value

    def inside(self, number: int, kind: str) -> int:
        """An id ("uid", or a group's) of the host as the container has it."""
        table = self.proc("uid_map" if kind == "uid" else "gid_map")
        first, outside, count = map(int, table.split())
        assert outside <= number < outside + count
        return number - outside + first

    def namespace(self, kind: str) -> str:
        return os.readlink(f"/proc/{self.pid}/ns/{kind}")

    def file(self, path: str) -> Path:
        """A file of the container's; no link in `path` may be absolute."""
        return Path(f"/proc/{self.pid}/root{path}")

    def mount(self, target: str) -> MountLine:
        """The uppermost mount at `target`."""
        lines = [MountLine(line) for line in self.proc("mountinfo").splitlines()]
        found = [line for line in lines if line.target == target][-1]
        for option in [o for o in found.superblock if o.startswith(("uid=", "gid="))]:
            kind, _, number = option.partition("=")
            found.superblock.remove(option)
            found.superblock.add(f"{kind}={self.inside(int(number), kind)}")
        return found

    def limit(self, v1: tuple[str, str], v2: tuple[str, str]) -> str:
        """A file of its control groups: (controller, file) of the version that this host has."""
        group = self.instance.engine.cgroups.open(self.spec.id)
        return group.read(*(v2 if group.version == "v2" else v1))

    def run(self, *args: str, **options: Any) -> str:
        """stdout of another process inside, which must succeed."""
        shim = ShimClient(self.instance.config, self.spec.id)
        with shim.exec(args, **options) as session:
            with os.fdopen(os.dup(session.stdout), "rb") as stream:
                output = stream.read().decode()
            with os.fdopen(os.dup(session.stderr), "rb") as stream:
                errors = stream.read().decode()
            assert session.wait(10 * PATIENCE) == 0, (args, output, errors)
        return output.strip()

    def fails(self, *args: str) -> str:
        """stderr of another process inside, which must fail."""
        shim = ShimClient(self.instance.config, self.spec.id)
        with shim.exec(args) as session:
            with os.fdopen(os.dup(session.stderr), "rb") as stream:
                errors = stream.read().decode()
            assert session.wait(10 * PATIENCE) != 0, args
        return errors.strip()


class MountLine:
    """One line of mountinfo (proc(5))."""

    def __init__(self, line: str) -> None:
        left, right = line.split(" - ")
        fields = left.split()
        self.root, self.target = fields[3], fields[4]
        self.options = set(fields[5].split(","))
        self.tags = fields[6:]  # "shared:1", "master:2"
        self.fstype = right.split()[0]
        self.superblock = set(right.split()[2].split(","))
