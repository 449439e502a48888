"""Interfaces of a container's network namespace, changed from outside while it runs.

What enters the namespace is a thread of its own, which ends with it: network namespaces belong to threads, and
neither the container's files nor its processes are in reach of one that has entered nothing else.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from runtime.errors import NetlinkFailure, ShimLost
from runtime.kernel import procfs, syscalls
from runtime.kernel.constants import CLONE_NEWNET
from runtime.kernel.rtnetlink import Rtnetlink
from runtime.model.plan import Interface
from runtime.model.state import RunState

T = TypeVar("T")

# What the kernel answers where there is no way to the gateway any more.
_ITS_OWN_AFFAIR = (
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENODEV,
    errno.EINVAL,
)
# Seconds for a monitor whose container has just been started to be given what it holds.
_HANDOVER = 2.0


@contextmanager
def network_of(container_id: str, run: RunState) -> Iterator[int]:
    """A descriptor of its network namespace, which its monitor keeps open, also between two lives.

    Raises ShimLost when the monitor has gone.
    """
    fd = -1
    try:
        deadline = time.monotonic() + _HANDOVER
        while (fd := _namespace_held_by(run.shim_pid)) < 0 and time.monotonic() < deadline:
            if not _lives(run):
                break
            time.sleep(0.01)
        # Looked at after the namespace was opened, or it might be that of another process by the same pid.
        if fd < 0 or not _lives(run):
            raise ShimLost(f"The monitor of container {container_id[:12]} has gone.")
        yield fd
    finally:
        if fd >= 0:
            os.close(fd)


def _lives(run: RunState) -> bool:
    return procfs.is_alive(run.shim_pid, run.shim_start_time)


def _namespace_held_by(pid: int) -> int:
    """-1 when there is none among its descriptors."""
    directory = f"/proc/{pid}/fd"
    with suppress(OSError):
        for name in os.listdir(directory):
            with suppress(OSError):  # closed meanwhile
                if os.readlink(f"{directory}/{name}").startswith("net:["):
                    return os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    return -1


def free_name(netns: int) -> str:
    """The first of eth0, eth1, … that no interface has."""
    taken = set(within(netns, lambda: [name for _, name in socket.if_nameindex()]))
    return next(name for i in range(len(taken) + 1) if (name := f"eth{i}") not in taken)


def set_up(netns: int, index: int, interface: Interface) -> None:
    """Give the interface with this index what init would have given it. Raises NetlinkFailure."""

    def work() -> None:
        settings = os.open("/proc/sys", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with Rtnetlink() as link:
                link.set_up({**interface, "name": socket.if_indextoname(index)}, settings)
        finally:
            os.close(settings)

    within(netns, work)


def route(netns: int, interfaces: Iterable[tuple[int, Interface]]) -> None:
    """Let the default routes lead through those of the interfaces, by index, that have a gateway.

    One that the container has taken down, moved or given other addresses has none: that is its own affair.
    Raises NetlinkFailure.
    """

    def work() -> None:
        with Rtnetlink() as link:
            for index, interface in interfaces:
                try:
                    name = socket.if_indextoname(index)
                    link.add_default_routes({**interface, "name": name})
                except OSError:
                    continue
                except NetlinkFailure as error:
                    if error.extra.get("errno") not in _ITS_OWN_AFFAIR:
                        raise

    within(netns, work)


def within(netns: int, action: Callable[[], T]) -> T:
    """What `action` returns or raises, in the network namespace behind the descriptor."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            syscalls.setns(netns, CLONE_NEWNET)
            results.append(action())
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits
            errors.append(error)

    thread = threading.Thread(target=work, name="inside")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
