"""The engine's side: make a container's groups with their limits, change, sample and list them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from runtime.cgroups import Cgroup, files, open_cgroup
from runtime.cgroups.apply import change_all, translate, write_all
from runtime.cgroups.detect import Hierarchies, detect
from runtime.cgroups.devices import confine_devices
from runtime.cgroups.limits import Setting, settings
from runtime.cgroups.shims import initialise_cpuset
from runtime.cgroups.v1 import ON_DEMAND
from runtime.errors import KernelFailure, SpecInvalid, Unsupported
from runtime.model.parse import parse_cpuset
from runtime.model.spec import Limits
from runtime.store.paths import Config

# What every container may do with devices, as Docker and the OCI spec ("Default Devices") have it.
DEVICE_RULES = (
    "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm",
    "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm",
)  # fmt: skip


class CgroupManager:
    """Groups of one instance. Everything hangs below `<mount point>/<Config.cgroup>`."""

    def __init__(self, config: Config, hierarchies: Hierarchies | None = None) -> None:
        self._config = config
        self.hierarchies = hierarchies or detect()

    # -- where --------------------------------------------------------------------------------

    def plan(self, container_id: str) -> dict[str, Any]:
        """{"version", "paths"} as a plan carries it; nothing needs to exist."""
        return {"version": self.hierarchies.version, "paths": self._paths(container_id)}

    def open(self, container_id: str) -> Cgroup:
        return open_cgroup(self.plan(container_id))

    def container_ids(self) -> set[str]:
        """The first 32 digits of the id of every container that has a group."""
        parents = {os.path.dirname(p) for p in self._paths("x").values()}
        return {os.path.basename(d) for p in parents for d in files.subdirectories(p)}

    def _paths(self, container_id: str) -> dict[str, str]:
        tail = f"{self._config.cgroup}/containers/{container_id[:32]}"
        return {
            name: f"{root}/{tail}"
            for name, root in self.hierarchies.roots.items()
            if not name.startswith("name=")
        }

    # -- life ---------------------------------------------------------------------------------

    def create(
        self,
        container_id: str,
        limits: Limits,
        *,
        device_rules: Sequence[str] | None = DEVICE_RULES,
    ) -> dict[str, Any]:
        """Make the groups, empty, with their limits; return what `plan` does.

        Groups left by an earlier life are used again: their limits are set anew. `device_rules` None
        allows every device (privileged). Raises SpecInvalid, Unsupported or KernelFailure; nothing of
        a new group is left behind then.
        """
        cgroup = self.open(container_id)
        values = self.settings(limits, reset=False)
        stale = cgroup.exists()
        try:
            self._make(cgroup, with_cpuset=any(s.controller == "cpuset" for s in values))
            if stale:
                change_all(cgroup, self.settings(limits, reset=True))
            else:
                write_all(cgroup, values)
            if device_rules is not None:
                self._allow_devices(cgroup, device_rules)
        except BaseException:
            cgroup.remove()
            raise
        return {"version": cgroup.version, "paths": cgroup.paths}

    def apply(self, container_id: str, limits: Limits) -> None:
        """Change the limits of a container that runs: all of them or, when one is refused, none.

        Raises SpecInvalid or Unsupported with the field, NotFound never: without groups it does nothing.
        """
        cgroup = self.open(container_id)
        if not cgroup.exists():
            return
        values = self.settings(limits, reset=True)
        if cgroup.version == "v1" and any(s.controller == "cpuset" and s.asked for s in values):
            directory = cgroup.paths.get("cpuset", "")
            if directory and not os.path.isdir(directory):
                self._make(cgroup, with_cpuset=True)
                for pid in cgroup.pids():
                    files.write(f"{directory}/cgroup.procs", str(pid))
        change_all(cgroup, values)

    def check(self, limits: Limits) -> None:
        """Raise SpecInvalid or Unsupported for a limit that this host cannot give, before anything is made."""
        cores = os.cpu_count() or 1
        if limits.cpus is not None and limits.cpus > cores:
            raise SpecInvalid(
                "limits.cpus",
                f"This host has {cores} CPUs; a limit of {limits.cpus:g} is more than that.",
                hint=f"Give at most {cores}, or leave it empty for no limit.",
            )
        if limits.cpuset_cpus:
            missing = parse_cpuset(limits.cpuset_cpus) - online_cpus()
            if missing:
                raise SpecInvalid(
                    "limits.cpuset_cpus",
                    f"This host has no CPU {', '.join(map(str, sorted(missing)))}.",
                    hint=f"CPUs online: {files.read('/sys/devices/system/cpu/online').strip()}.",
                )
        self._ensure_parents(with_cpuset=False)
        for setting in self.settings(limits, reset=False):
            optional = self.hierarchies.version == "v1" and setting.controller in ON_DEMAND
            there = (
                self.hierarchies.has(setting.controller)
                if optional
                else self._exists(setting.controller, setting.file)
            )
            if setting.asked and not there:
                raise translate(setting, FileNotFoundError(2, "", setting.file))

    def settings(self, limits: Limits, *, reset: bool) -> list[Setting]:
        return settings(limits, self.hierarchies.version, self._exists, reset=reset)

    def facts(self) -> dict[str, Any]:
        """What this host's groups can do, for the host's page."""
        return {
            "version": self.hierarchies.version,
            "controllers": sorted(n for n in self.hierarchies.roots if not n.startswith("name=")),
            "swap_limit": self.hierarchies.swap,
        }

    def remove_root(self) -> None:
        """Remove the instance's own directories, when no container and no shim is left in them."""
        roots = {*self.hierarchies.roots.values(), self.hierarchies.unified} - {""}
        for root in roots:
            for name in ("containers", "shims", ""):
                try:
                    os.rmdir(f"{root}/{self._config.cgroup}/{name}".rstrip("/"))
                except OSError:
                    continue  # absent, or in use by somebody who still needs it

    # -- making -------------------------------------------------------------------------------

    def _make(self, cgroup: Cgroup, *, with_cpuset: bool) -> None:
        try:
            try:
                self._make_leaves(cgroup, with_cpuset)
            except FileNotFoundError:
                self._ensure_parents(with_cpuset=with_cpuset)
                self._make_leaves(cgroup, with_cpuset)
        except OSError as error:
            raise KernelFailure("cgroup mkdir", error.errno or 0, str(error.filename)) from error

    def _make_leaves(self, cgroup: Cgroup, with_cpuset: bool) -> None:
        legacy = cgroup.version == "v1"
        for directory in dict.fromkeys(cgroup.paths.values()):
            if legacy and directory == cgroup.paths.get("cpuset"):
                if with_cpuset:
                    files.make(directory)
                    parent = os.path.dirname(directory)
                    root = self.hierarchies.roots["cpuset"]
                    initialise_cpuset(root, os.path.dirname(parent), parent, directory)
                continue
            files.make(directory)

    def _ensure_parents(self, *, with_cpuset: bool) -> None:
        roots = {
            root
            for name, root in self.hierarchies.roots.items()
            if not name.startswith("name=") and (with_cpuset or name not in ON_DEMAND)
        }
        for root in roots:
            parent = f"{root}/{self._config.cgroup}"
            files.make(parent)
            files.make(f"{parent}/containers")
        if self.hierarchies.version == "v2":
            root = self.hierarchies.unified
            ours = f"{root}/{self._config.cgroup}"
            for directory in (root, ours, f"{ours}/containers"):
                _enable(directory, self.hierarchies.roots)

    def _exists(self, controller: str, file: str) -> bool:
        """The kernel has this file: looked up in our parent group, as the root group lacks many."""
        root = self.hierarchies.roots.get(controller)
        return root is not None and os.path.exists(
            f"{root}/{self._config.cgroup}/containers/{file}"
        )

    def _allow_devices(self, cgroup: Cgroup, rules: Sequence[str]) -> None:
        if cgroup.version == "v2":
            confine_devices(next(iter(cgroup.paths.values())), rules)
            return
        if "devices" not in cgroup.paths:
            raise Unsupported(
                "Confining a container's devices",
                "the devices controller",
                hint="Mount it, or run the container privileged.",
            )
        try:
            cgroup.write("devices", "devices.deny", "a")
            for rule in rules:
                cgroup.write("devices", "devices.allow", rule)
        except OSError as error:
            raise KernelFailure(
                "devices cgroup", error.errno or 0, cgroup.paths["devices"]
            ) from error


def online_cpus() -> frozenset[int]:
    return parse_cpuset(files.read("/sys/devices/system/cpu/online").strip())


def _enable(directory: str, controllers: dict[str, str]) -> None:
    """Hand controllers to the groups below, one by one: one that is refused must not cost the others."""
    path = f"{directory}/cgroup.subtree_control"
    enabled = set(files.read(path).split())
    for name in controllers:
        if name in enabled or name == "name=systemd":
            continue
        try:
            files.write(path, f"+{name}")
        except OSError:
            continue  # what is missing is found out, and said, when a limit asks for it


__all__ = ["DEVICE_RULES", "CgroupManager", "online_cpus"]
