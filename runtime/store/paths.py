"""Every path and kernel name of an instance, derived from one Config.

Two instances with different roots and names never meet: bridge, veth, nft table and cgroup names all
carry the instance's tag. Nothing else in the project spells a path.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import SpecInvalid

DEFAULT_NAME = "slipway"
# Ids of the host for the containers' users: docs/design/012-user-namespaces.md says why these.
DEFAULT_IDS = (0x78000000, 0x07FE0000)
MIN_IDS = 65536
_MAX_ID = 2**32 - 2
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class Config:
    """`root` holds what must survive a reboot, `run` what must not; `name` tells instances apart.

    `ids` is (first, count) of the host's uids and gids that containers in user namespaces have; None: no container
    gets one unasked, and none can.
    """

    root: Path = Path("/var/lib/slipway")
    run: Path = Path("/run/slipway")
    name: str = DEFAULT_NAME
    ids: tuple[int, int] | None = DEFAULT_IDS

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SpecInvalid(
                "SLIPWAY_NAME",
                f"{self.name!r} is not an instance name.",
                hint="Use up to 32 lower-case letters, digits and dashes, a letter first.",
            )
        for label, path in (("SLIPWAY_ROOT", self.root), ("SLIPWAY_RUN", self.run)):
            # Overlay's option string separates with these.
            if not path.is_absolute() or any(c in str(path) for c in ",:\\\n"):
                raise SpecInvalid(
                    label, f"{label} must be an absolute path without , : or backslash."
                )

        if self.ids is not None:
            first, count = self.ids
            if first < MIN_IDS or count < MIN_IDS or first + count - 1 > _MAX_ID:
                raise SpecInvalid(
                    "SLIPWAY_USERNS",
                    f"{first}:{count} is no range of ids for containers.",
                    hint=f"Both numbers are {MIN_IDS} or more, and the last id at most {_MAX_ID}.",
                )

    @classmethod
    def from_env(cls, env: dict[str, str] | None = None) -> Config:
        """SLIPWAY_ROOT, SLIPWAY_RUN, SLIPWAY_NAME and SLIPWAY_USERNS, or the defaults."""
        source = os.environ if env is None else env
        name = source.get("SLIPWAY_NAME", DEFAULT_NAME)
        return cls(
            root=Path(source.get("SLIPWAY_ROOT", "/var/lib/slipway")),
            run=Path(source.get("SLIPWAY_RUN", "/run/slipway")),
            name=name,
            ids=_ids(source.get("SLIPWAY_USERNS", "")),
        )

    # -- names in the kernel ------------------------------------------------------------------

    @property
    def tag(self) -> str:
        """Prefix of interface names: "slw", or "slw" + 3 for a named instance (15 bytes is the limit)."""
        if self.name == DEFAULT_NAME:
            return "slw"
        return "slw" + hashlib.sha256(self.name.encode()).hexdigest()[:3]

    @property
    def nft_table(self) -> str:
        return self.cgroup.replace("-", "_")

    @property
    def cgroup(self) -> str:
        """Directory below each cgroup hierarchy's root."""
        return self.name if self.name.startswith("slipway") else f"slipway-{self.name}"

    def bridge(self, network_id: str) -> str:
        return f"{self.tag}b{network_id[:8]}"

    def veth(self, endpoint_id: str) -> str:
        return f"{self.tag}v{endpoint_id[:8]}"

    # -- on disk, surviving -------------------------------------------------------------------

    @property
    def blobs(self) -> Path:
        return self.root / "blobs" / "sha256"

    @property
    def images(self) -> Path:
        """One JSON file per image id."""
        return self.root / "images"

    @property
    def layers(self) -> Path:
        """One directory per chain id; `diff/` in it is the unpacked layer."""
        return self.root / "layers"

    @property
    def mount_points(self) -> Path:
        """The layer below every image: empty targets of the mounts that every container has."""
        return self.root / "mount-points"

    @property
    def containers(self) -> Path:
        return self.root / "containers"

    def bundle(self, container_id: str) -> Path:
        """spec.json, upper/, work/, logs/, exits.jsonl."""
        return self.containers / container_id

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    def volume(self, name: str) -> Path:
        """The volume's directory; its content is `_data/` below, as Docker's users expect."""
        return self.volumes / name

    @property
    def networks(self) -> Path:
        """One JSON file (NetworkSpec) per network id."""
        return self.root / "networks"

    @property
    def spool(self) -> Path:
        """Uploads on their way in, named by operation id; written by web, read by the worker."""
        return self.root / "spool"

    @property
    def tmp(self) -> Path:
        """Half-made and doomed things, on the same file system; what nobody will finish goes (leftovers.py)."""
        return self.root / "tmp"

    @property
    def db(self) -> Path:
        """Directory of the SQLite database; owned by the web user."""
        return self.root / "db"

    # -- volatile -----------------------------------------------------------------------------

    def container_run(self, container_id: str) -> Path:
        """state.json, shim.sock, hosts, hostname and resolv.conf of a started container.

        Half of the id: a unix socket's path must stay under 108 bytes.
        """
        return self.run / "containers" / container_id[:32]

    @property
    def rootfs(self) -> Path:
        """Empty: where each container's init mounts its root file system, in its own mount namespace."""
        return self.run / "rootfs"

    @property
    def launcher_socket(self) -> Path:
        return self.run / "launcher.sock"

    @property
    def user_namespaces(self) -> Path:
        """JSON of the launcher: {"reason", "ids"}; why containers cannot have user namespaces, or ""."""
        return self.run / "userns.json"

    @property
    def events_socket(self) -> Path:
        """Datagrams from shims to the watcher: {"id", "event"}; lost when nobody listens, by design."""
        return self.run / "events.sock"

    @property
    def stream_socket(self) -> Path:
        """The watcher's server for logs and stats; group-readable for web."""
        return self.run / "web" / "stream.sock"

    @property
    def redis_socket(self) -> Path:
        return self.run / "redis" / "redis.sock"

    @property
    def dns(self) -> Path:
        """One directory per network id, read by the resolver: network.json and a file per container.

        See runtime/network/names.py.
        """
        return self.run / "dns"

    @property
    def ports(self) -> Path:
        """One JSON file per container id: its published ports, put back when the firewall was flushed."""
        return self.run / "ports"

    @property
    def sysctls(self) -> Path:
        """JSON: the host's kernel settings that this instance changed, with their former values."""
        return self.run / "sysctls.json"

    @property
    def locks(self) -> Path:
        return self.run / "locks"


def _ids(text: str) -> tuple[int, int] | None:
    """ "" is the default range, "off" none, "<first>:<count>" another."""
    if not text:
        return DEFAULT_IDS
    if text == "off":
        return None
    first, _, count = text.partition(":")
    if not (first.isascii() and first.isdigit() and count.isascii() and count.isdigit()):
        raise SpecInvalid(
            "SLIPWAY_USERNS",
            f"{text!r} is no range of ids.",
            hint="Write <first id>:<number of ids>, or off.",
        )
    return int(first), int(count)
