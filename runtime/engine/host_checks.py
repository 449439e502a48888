"""What only the host can say about a specification: asked before anything of a container is made."""

from __future__ import annotations

from runtime.cgroups.manager import DEVICE_RULES, CgroupManager
from runtime.engine import userns
from runtime.engine.mounts import check_bind
from runtime.engine.planning import device_rules, held_capabilities
from runtime.engine.wiring import Wiring
from runtime.images import ImageStore
from runtime.kernel import apparmor, seccomp
from runtime.model.spec import ContainerSpec
from runtime.store.paths import Config


def check_against_host(
    spec: ContainerSpec,
    config: Config,
    *,
    images: ImageStore,
    cgroups: CgroupManager,
    wiring: Wiring,
) -> None:
    """Refuse what would fail at the start. Raises NotFound, SpecInvalid, Unsupported with the field."""
    images.get(spec.image)
    cgroups.check(spec.limits)
    wiring.check(spec)
    for index, mount in enumerate(spec.mounts):
        if mount.type == "bind":
            check_bind(mount, config, f"mounts[{index}].source")
    device_rules(spec, DEVICE_RULES)
    apparmor.check(spec.security.apparmor, "security.apparmor")
    userns.check(spec, config)
    seccomp.compile_profile(spec.security.seccomp, held_capabilities(spec)["bounding"])
