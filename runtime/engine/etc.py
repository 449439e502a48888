"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container: written at each start, bound into it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from runtime.model.spec import ContainerSpec, Dns
from runtime.network.names import own_servers
from runtime.store.paths import Config

_LOCAL = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::\tip6-localnet",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
)
HOST_GATEWAY = "host-gateway"  # the address of the host as the container's first network sees it


def write_etc_files(spec: ContainerSpec, config: Config) -> None:
    """Write the three files into the container's run directory. Raises OSError."""
    directory = config.container_run(spec.id)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    texts = {
        "hostname": hostname_of(spec) + "\n",
        "hosts": hosts_text(spec),
        "resolv.conf": resolv_text(spec),
    }
    if spec.namespaces.network.startswith("container:"):
        # Who shares a network shares its names and its resolver.
        other = config.container_run(spec.namespaces.network.removeprefix("container:"))
        texts |= {name: _read(other / name) or texts[name] for name in ("hosts", "resolv.conf")}
    for name, text in texts.items():
        # No fsync: they are made anew at every start.
        with open(directory / name, "w") as file:
            os.fchmod(
                file.fileno(), 0o644
            )  # whatever the umask: every user of the container reads them
            file.write(text)


def change_etc_files(directory: Path, before: ContainerSpec, after: ContainerSpec) -> None:
    """Have the files of a container that runs follow a change of its networks. Raises OSError.

    They are bound into it, so they are written in place, and they are its own to edit: in `hosts` our lines are
    exchanged and the others stay, and a `resolv.conf` that it has written is left as it is.
    """
    for name, text_of in (("hosts", hosts_text), ("resolv.conf", resolv_text)):
        path, old, new = directory / name, text_of(before), text_of(after)
        there = _read(path)
        if there == old:
            changed = new
        elif name == "hosts":
            changed = _exchange(there, old.splitlines(), new.splitlines())
        else:
            continue
        if changed != there:
            path.write_text(changed, errors="surrogateescape")


def _exchange(there: str, old: list[str], new: list[str]) -> str:
    kept = [line for line in there.splitlines() if line in new or line not in old]
    return "\n".join([*kept, *(line for line in new if line not in kept)]) + "\n"


def hostname_of(spec: ContainerSpec) -> str:
    """What it was given; the host's where it has the host's names or network; else its short id."""
    shares = "host" in (spec.namespaces.uts, spec.namespaces.network)
    return spec.hostname or (os.uname().nodename if shares else spec.short_id)


def hosts_text(spec: ContainerSpec) -> str:
    """Names of its own, and those it was told; with the host's network, the host's names too."""
    shares = spec.namespaces.network == "host"
    lines = _read(Path("/etc/hosts")).splitlines() if shares else list(_LOCAL)
    gateway = next((e.gateway for e in spec.endpoints if e.gateway), "127.0.0.1")
    for name, address in spec.dns.extra_hosts.items():
        lines.append(f"{gateway if address == HOST_GATEWAY else address}\t{name}")
    hostname = hostname_of(spec)
    names = f"{hostname}.{spec.domainname} {hostname}" if spec.domainname else hostname
    for endpoint in spec.endpoints:
        lines.append(f"{endpoint.address}\t{names}")
        if endpoint.address6:
            lines.append(f"{endpoint.address6}\t{names}")
    if not spec.endpoints and not (shares and not spec.hostname):
        lines.append(f"127.0.1.1\t{names}")
    return "\n".join(lines) + "\n"


def resolv_text(spec: ContainerSpec) -> str:
    """Our resolver listens on each network's gateway; without a network the host's own servers are right."""
    dns = spec.dns
    if not spec.endpoints and dns == Dns(extra_hosts=dns.extra_hosts):
        return _read(Path("/etc/resolv.conf"))
    gateways = tuple(e.gateway for e in spec.endpoints if e.gateway)[:1]
    lines = []
    if gateways and (asked := own_servers(spec)):
        # The resolver asks them: names of containers go on being found.
        lines.append(f"# Asked for all but containers' names: {' '.join(asked)}")
        servers = gateways
    else:
        servers = dns.servers or gateways or tuple(_host_servers())
    lines += [f"nameserver {server}" for server in servers]
    if search := [domain for domain in dns.search if domain != "."]:
        lines.append(f"search {' '.join(search)}")
    # A single name is looked up as it is first: containers are called by single names.
    options = dns.options or ("ndots:0",)
    lines.append(f"options {' '.join(options)}")
    return "\n".join(lines) + "\n"


def _host_servers() -> Iterator[str]:
    for line in _read(Path("/etc/resolv.conf")).splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            yield words[1]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except OSError:
        return ""
