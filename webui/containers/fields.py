"""The create form's options beyond the everyday ones, as data: sections, and the fields in them.

A field's name is the request's (`webui.containers.requests`), dotted; the page's script makes JSON of
it and the words of `docker run`. Sections are closed until somebody opens them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from webui.core.templatetags.ui import size_input

# lines: a list, one text per line; pairs: lines of name=value, sent as one text; choice: a select
# whose first value means "leave it out"; json: a text that is an object or a word.
Kind = Literal["text", "number", "size", "check", "choice", "lines", "pairs", "json"]


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    label: str
    kind: Kind = "text"
    flag: str = ""  # of `docker run`
    placeholder: str = ""
    help: str = ""
    choices: tuple[tuple[str, str], ...] = ()  # value, label
    live: bool = False  # changes while the container runs
    from_file: bool = False  # a file can be read into it

    @property
    def id(self) -> str:
        return self.name.replace(".", "-").replace("_", "-")

    @property
    def is_wide(self) -> bool:
        return self.kind in ("lines", "pairs", "json")


@dataclass(frozen=True, slots=True)
class Section:
    key: str
    title: str
    help: str  # one line
    fields: tuple[Field, ...]


CONTAINER = "container:<name>"

PROCESS = Section(
    "process", "Terminal, groups, init", "How its first process is set up.",
    (
        Field("init", "Init process", "choice", "--init",
              help="Reaps what others leave behind, and passes signals on.",
              choices=(("", "When a shell runs it"), ("true", "Always"),
                       ("false", "Never"))),
        Field("groups", "Further groups", "lines", "--group-add", "video\n1001"),
        Field("tty", "Give it a terminal", "check", "-t"),
        Field("stdin", "Keep standard input open", "check", "-i"),
        Field("stdin_once", "Close it when an attached client ends its own", "check"),
    ),
)  # fmt: skip
PORTS = Section(
    "ports", "More about ports", "Ports that it listens on, published or not.",
    (
        Field("expose", "It also listens on", "lines", "--expose", "80\n5000-5010/udp"),
        Field("publish_all", "Publish all of them on free host ports", "check", "-P"),
    ),
)  # fmt: skip
STORAGE = Section(
    "storage", "More about storage", "Read-only root, and mounts of other containers.",
    (
        Field("volumes_from", "Mounts of these containers", "lines", "--volumes-from",
              "data\nconfig:ro"),
        Field("tmpfs", "Directories in memory", "lines", "--tmpfs", "/run:size=64m,mode=755"),
        Field("read_only_rootfs", "Make its own file system read-only", "check", "--read-only",
              help="Only volumes and memory can be written to."),
    ),
)  # fmt: skip
MEMORY = Section(
    "memory", "Memory in detail", "Swap, soft limits, and what happens when it runs out.",
    (
        Field("limits.memory_swap", "Memory and swap together", "size", "--memory-swap",
              "twice the memory", "The same as the memory: no swap. -1: no limit.", live=True),
        Field("limits.memory_reservation", "Soft limit", "size", "--memory-reservation", "none",
              "It is pushed below this when the host is short.", live=True),
        Field("limits.memory_high", "Slowed above", "size", "", "none",
              "Above this it waits and gives memory back; cgroup v2 only.", live=True),
        Field("limits.memory_swappiness", "Swappiness", "number", "--memory-swappiness",
              "the host's", "0 to 100; cgroup v1 only.", live=True),
        Field("limits.oom_score_adj", "OOM score", "number", "--oom-score-adj", "0",
              "-1000 to 1000; the highest dies first.", live=True),
        Field("shm_size", "Shared memory", "size", "--shm-size", "64m", "Size of /dev/shm.",
              live=True),
        Field("limits.oom_kill_disable", "Wait for memory instead of being killed", "check",
              "--oom-kill-disable", help="cgroup v1 only.", live=True),
    ),
)  # fmt: skip
CPU = Section(
    "cpu", "CPU in detail", "Shares when it is busy, exact periods, chosen cores.",
    (
        Field("limits.cpu_shares", "Shares", "number", "--cpu-shares", "1024",
              "Weight against others while the CPU is busy.", live=True),
        Field("limits.cpuset_cpus", "Cores", "text", "--cpuset-cpus", "0-1,3", live=True),
        Field("limits.cpuset_mems", "Memory nodes", "text", "--cpuset-mems", "0", live=True),
        Field("limits.cpu_quota", "Quota", "number", "--cpu-quota", "50000",
              "Microseconds in each period; instead of the CPU limit.", live=True),
        Field("limits.cpu_period", "Period", "number", "--cpu-period", "100000", "Microseconds.",
              live=True),
    ),
)  # fmt: skip
PROCESSES = Section(
    "ulimits",
    "Limits of each process",
    "Open files, core dumps and the like: name=soft:hard.",
    (Field("ulimits", "Limits", "lines", "--ulimit", "nofile=1024:4096\ncore=0", live=True),),
)
DISK = Section(
    "disk", "Disk throughput", "Bytes and operations per second, and weights, by device.",
    (
        Field("limits.device_read_bps", "Read, bytes per second", "lines", "--device-read-bps",
              "/dev/sda:10m", live=True),
        Field("limits.device_write_bps", "Written, bytes per second", "lines",
              "--device-write-bps", "/dev/sda:10m", live=True),
        Field("limits.device_read_iops", "Reads per second", "lines", "--device-read-iops",
              "/dev/sda:500", live=True),
        Field("limits.device_write_iops", "Writes per second", "lines", "--device-write-iops",
              "/dev/sda:500", live=True),
        Field("limits.blkio_weight", "Weight", "number", "--blkio-weight", "500",
              "10 to 1000, for disks with the bfq scheduler.", live=True),
        Field("limits.blkio_weight_device", "Weight by device", "lines", "--blkio-weight-device",
              "/dev/sda:300", live=True),
        Field("limits.hugetlb", "Huge pages", "pairs", "", "2MB=64m", live=True),
    ),
)  # fmt: skip
ENVIRONMENT = Section(
    "env",
    "From a file",
    "A file of NAME=value lines; what stands above comes over it.",
    (
        Field(
            "env_file",
            "Variables",
            "pairs",
            "--env-file",
            "# database\nDB_HOST=db\nDB_PORT=5432",
            from_file=True,
        ),
    ),
)
NETWORK = Section(
    "network", "Names and addresses", "Its host name, fixed addresses, DNS, further hosts.",
    (
        Field("hostname", "Host name", "text", "--hostname", "its short id"),
        Field("domainname", "Domain", "text", "--domainname", "example.org"),
        Field("ip", "Address", "text", "--ip", "a free one"),
        Field("ip6", "IPv6 address", "text", "--ip6", "a free one",
              help="Of a network with IPv6."),
        Field("mac_address", "MAC address", "text", "--mac-address", "made from the address"),
        Field("link_local_ips", "Link-local addresses", "lines", "--link-local-ip", "169.254.0.5",
              "Beside its own: of 169.254.0.0/16 or fe80::/64."),
        Field("network_aliases", "Further names on its network", "lines", "--network-alias", "db"),
        Field("extra_hosts", "Further hosts", "pairs", "--add-host",
              "db=10.0.0.5\nhost.docker.internal=host-gateway"),
        Field("dns", "DNS servers", "lines", "--dns", "Slipway's own"),
        Field("dns_search", "Search domains", "lines", "--dns-search", "example.org"),
        Field("dns_options", "Resolver options", "lines", "--dns-option", "timeout:2"),
    ),
)  # fmt: skip
STOP = Section(
    "stop", "How it stops", "The signal, the patience, and whether it goes when it ends.",
    (
        Field("stop_signal", "Stop signal", "text", "--stop-signal", "the image's, or SIGTERM"),
        Field("stop_timeout", "Seconds until it is killed", "number", "--stop-timeout", "10"),
        Field("auto_remove", "Remove it when it ends", "check", "--rm",
              help="With its writable layer and its anonymous volumes."),
    ),
)  # fmt: skip
HEALTH = Section(
    "health", "Health check", "A command that tells whether it works; the image may have one.",
    (
        Field("health.command", "Command", "text", "--health-cmd",
              "curl -f http://localhost/", "A line of the image's shell; 0 means healthy."),
        Field("health.interval", "Interval", "text", "--health-interval", "30s"),
        Field("health.timeout", "Time for one look", "text", "--health-timeout", "30s"),
        Field("health.retries", "Failures in a row", "number", "--health-retries", "3"),
        Field("health.start_period", "Time to start", "text", "--health-start-period", "0s",
              "Failures meanwhile do not count."),
        Field("health.start_interval", "Interval meanwhile", "text", "--health-start-interval",
              "5s"),
        Field("health.disable", "Never check", "check", "--no-healthcheck",
              help="Not even as the image says."),
    ),
)  # fmt: skip
PRIVILEGES = Section(
    "privileges", "Privileges", "Capabilities and users: what root inside may do.",
    (
        Field("cap_add", "Add capabilities", "lines", "--cap-add", "NET_ADMIN"),
        Field("cap_drop", "Drop capabilities", "lines", "--cap-drop", "ALL"),
        Field("userns", "User namespace", "choice", "--userns",
              choices=(("", "Its own, where possible"), ("private", "Its own, or fail"),
                       ("host", "The host's")),
              help="In its own, root inside is nobody on this host."),
        Field("no_new_privileges", "Never gain privileges", "check",
              "--security-opt no-new-privileges", help="setuid programs run as who calls them."),
        Field("privileged", "Privileged", "check", "--privileged",
              help="All capabilities and devices, no filter: as good as root on this host."),
    ),
)  # fmt: skip
PROFILES = Section(
    "profiles", "Filters and profiles", "System calls, AppArmor, hidden paths of the kernel.",
    (
        Field("seccomp", "System call filter", "json", "--security-opt seccomp=", "default",
              "default, unconfined, or a profile as JSON.", from_file=True),
        Field("apparmor", "AppArmor profile", "text", "--security-opt apparmor=",
              "the host's default"),
        Field("masked_paths", "Hide these paths", "lines", "", "the usual ones",
              "Write none to hide nothing."),
        Field("readonly_paths", "Protect these paths", "lines", "", "the usual ones",
              "Write none to protect nothing."),
    ),
)  # fmt: skip
DEVICES = Section(
    "devices", "Devices and kernel settings", "Device files of the host, and its own sysctls.",
    (
        Field("devices", "Devices", "lines", "--device", "/dev/fuse\n/dev/sda:/dev/xvda:r"),
        Field("device_cgroup_rules", "Rules for devices", "lines", "--device-cgroup-rule",
              "c 13:* rwm"),
        Field("sysctls", "Kernel settings", "pairs", "--sysctl", "net.core.somaxconn=1024"),
    ),
)  # fmt: skip
NAMESPACES = Section(
    "namespaces", "Shared namespaces", "What it shares with the host or with another container.",
    (
        Field("pid", "Processes", "text", "--pid", "its own", f"host, or {CONTAINER}"),
        Field("ipc", "Shared memory", "text", "--ipc", "its own", f"host, none, or {CONTAINER}"),
        Field("uts", "Host name", "choice", "--uts", choices=(("", "Its own"), ("host", "The host's"))),
        Field("cgroupns", "Control groups", "choice", "--cgroupns",
              choices=(("", "Its own"), ("host", "The host's"))),
    ),
)  # fmt: skip
LABELS = Section(
    "labels",
    "Labels",
    "Names and values to find it by; also a whole file of them.",
    (Field("labels", "Labels", "pairs", "--label", "team=shop\ntier=web", from_file=True),),
)
LOGS = Section(
    "logs", "Logs", "How much of its output is kept, and what a slow disk does.",
    (
        Field("logs.driver", "Output", "choice", "--log-driver",
              choices=(("", "Kept in files"), ("none", "Not kept"))),
        Field("logs.max_size", "Size of one file", "size", "--log-opt max-size=", "10m"),
        Field("logs.max_files", "Number of files", "number", "--log-opt max-file=", "3"),
        Field("logs.max_buffer", "Buffer", "size", "--log-opt max-buffer-size=", "1m"),
        Field("logs.non_blocking", "Drop lines rather than wait for a slow disk", "check",
              "--log-opt mode=non-blocking", help="Lost lines are counted in the log."),
    ),
)  # fmt: skip

# Where in the form each stands.
SECTIONS: dict[str, tuple[Section, ...]] = {
    "basics": (PROCESS,),
    "ports": (PORTS,),
    "storage": (STORAGE,),
    "resources": (MEMORY, CPU, PROCESSES, DISK),
    "environment": (ENVIRONMENT,),
    "network": (NETWORK, STOP, HEALTH),
    "security": (PRIVILEGES, PROFILES, DEVICES, NAMESPACES),
    "more": (LABELS, LOGS),
}

# What changes while a container runs.
LIVE: tuple[Section, ...] = tuple(
    Section(section.key, section.title, section.help, fields)
    for section in (MEMORY, CPU, PROCESSES, DISK)
    if (fields := tuple(field for field in section.fields if field.live))
)


def restart_choices(policy: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Policies as REST takes them, with words, and which one holds; the count that holds is one of them."""
    name, count = policy.get("name") or "no", policy.get("max_retries") or 0
    choices = {
        "no": "Never",
        "on-failure": "When it fails",
        f"on-failure:{count or 5}": f"When it fails, at most {count or 5} times",
        "unless-stopped": "Always, unless stopped by hand",
        "always": "Always",
    }
    held = f"{name}:{count}" if count else name
    return [(value, label, value == held) for value, label in choices.items()]


def live_values(spec: dict[str, Any]) -> list[tuple[Section, list[tuple[Field, Any]]]]:
    """The sections of the dialog that changes limits, each field with the text of what holds now."""
    ulimits = [f"{u['name']}={u['soft']}:{u['hard']}" for u in spec["process"].get("ulimits", ())]
    values = {
        **spec.get("limits", {}),
        "shm_size": spec.get("shm_size"),
        "ulimits": "\n".join(ulimits),
    }
    return [
        (section, [(field, _text(field, values)) for field in section.fields]) for section in LIVE
    ]


def _text(field: Field, values: dict[str, Any]) -> Any:
    value = values.get(field.name.removeprefix("limits."))
    if isinstance(value, dict):
        between = "=" if field.kind == "pairs" else ":"
        sizes = field.name.endswith("_bps") or field.kind == "pairs"
        texts = {name: size_input(each) if sizes else each for name, each in value.items()}
        return "\n".join(f"{name}{between}{text}" for name, text in texts.items())
    if field.kind == "size" and value not in (None, -1):
        return size_input(value)
    return "" if field.name == "limits.oom_score_adj" and value == 0 else value
