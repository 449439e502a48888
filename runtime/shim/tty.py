"""A container's terminal: the pty is opened inside the container, its master side goes to the shim."""

from __future__ import annotations

import fcntl
import os
import termios

from runtime.kernel import mount_trees
from runtime.kernel.constants import O_PATH
from runtime.shim import sockets

_CONSOLE = "/dev/console"


def become_controlling(sender: int, *, console: bool) -> None:
    """Open a pty of the container's own devpts, make it our terminal and stdio, send the master away.

    `sender` is a unix socket's descriptor. With `console` the terminal is at /dev/console as well, as the OCI
    runtime spec has it for a container's first process. Raises OSError when the container has no devpts.
    """
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    # Unlock, then open the other side by descriptor: no path in the image is trusted.
    fcntl.ioctl(master, 0x40045431, b"\0\0\0\0")  # TIOCSPTLCK
    slave = fcntl.ioctl(master, 0x5441, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)  # TIOCGPTPEER
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for standard in (0, 1, 2):
        os.dup2(slave, standard)
    if console:
        _be_console(slave)
    channel = sockets.adopt(os.dup(sender))
    sockets.send_fds(channel, b"t", [master])
    channel.close()
    os.close(master)
    os.close(slave)


def _be_console(slave: int) -> None:
    """By descriptors (CVE-2025-52565), and never over a device that was asked for."""
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.close(os.open(_CONSOLE, flags, 0o600))
    except FileExistsError:
        return
    target = os.open(_CONSOLE, O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mount_trees.lay_over(slave, target)
    finally:
        os.close(target)
