"""A container's terminal: the pty is opened inside the container, its master side goes to the shim."""

from __future__ import annotations

import fcntl
import os
import termios

from runtime.shim import sockets


def become_controlling(sender: int) -> None:
    """Open a pty of the container's own devpts, make it our terminal and stdio, send the master away.

    `sender` is a unix socket's descriptor. Raises OSError when the container has no devpts.
    """
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    # Unlock, then open the other side by descriptor: no path in the image is trusted.
    fcntl.ioctl(master, 0x40045431, b"\0\0\0\0")  # TIOCSPTLCK
    slave = fcntl.ioctl(master, 0x5441, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)  # TIOCGPTPEER
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for standard in (0, 1, 2):
        os.dup2(slave, standard)
    channel = sockets.adopt(os.dup(sender))
    sockets.send_fds(channel, b"t", [master])
    channel.close()
    os.close(master)
    os.close(slave)
