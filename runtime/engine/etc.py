"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container: written at each start, bound into it."""

from __future__ import annotations

from pathlib import Path

from runtime.model.spec import ContainerSpec

HOST_GATEWAY = "host-gateway"  # the address of the host as the container's first network sees it


def write_etc_files(spec: ContainerSpec, directory: Path) -> None:
    """Write the three files into the container's run directory. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, text in (
        ("hostname", hostname_of(spec) + "\n"),
        ("hosts", hosts_text(spec)),
        ("resolv.conf", resolv_text(spec)),
    ):
        # No fsync: they are made anew at every start.
        path = directory / name
        path.write_text(text)
        path.chmod(0o644)  # whatever the umask: every user of the container reads them


def hostname_of(spec: ContainerSpec) -> str:
    return spec.hostname or spec.short_id


def hosts_text(spec: ContainerSpec) -> str:
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::\tip6-localnet",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
    ]
    gateway = next((e.gateway for e in spec.endpoints if e.gateway), "127.0.0.1")
    for name, address in spec.dns.extra_hosts.items():
        lines.append(f"{gateway if address == HOST_GATEWAY else address}\t{name}")
    hostname = hostname_of(spec)
    names = f"{hostname}.{spec.domainname} {hostname}" if spec.domainname else hostname
    for endpoint in spec.endpoints:
        lines.append(f"{endpoint.address}\t{names}")
        if endpoint.address6:
            lines.append(f"{endpoint.address6}\t{names}")
    if not spec.endpoints:
        lines.append(f"127.0.1.1\t{names}")
    return "\n".join(lines) + "\n"


def resolv_text(spec: ContainerSpec) -> str:
    """Our resolver listens on each network's gateway; without a network the host's own file is right."""
    dns = spec.dns
    if not spec.endpoints and not dns.servers:
        return _host_resolv()
    servers = dns.servers or tuple(e.gateway for e in spec.endpoints if e.gateway)[:1]
    lines = [f"nameserver {server}" for server in servers]
    if dns.search:
        lines.append(f"search {' '.join(dns.search)}")
    # A single name is looked up as it is first: containers are called by single names.
    options = dns.options or ("ndots:0",)
    lines.append(f"options {' '.join(options)}")
    return "\n".join(lines) + "\n"


def _host_resolv() -> str:
    try:
        return Path("/etc/resolv.conf").read_text()
    except OSError:
        return ""
