"""A shim's life, from the launcher's fork to its container's end."""

from __future__ import annotations

import gc
import os
import select
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from runtime.shim import handover, sockets
from runtime.shim.life import Starter
from runtime.shim.monitor import Monitor
from runtime.shim.naming import IN_RESERVE, set_name
from runtime.shim.start import run_in_reserve, run_start

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[[sockets.Socket], NoReturn]


def run_spare(orders: sockets.Socket, listener: sockets.Socket) -> NoReturn:
    """Be the shim of the next connection to `listener`, with all done that can be done before.

    Never returns; ends when the other end of `orders` is closed, which gets a byte when there is a connection.
    """
    _be_shim((orders, listener), partial(run_in_reserve, orders, listener))


def run_shim(channel: sockets.Socket) -> NoReturn:
    """Start the container whose plan comes from `channel`, and stay with it. Never returns."""
    _be_shim((channel,), partial(run_start, channel))


def _be_shim(channels: tuple[sockets.Socket, ...], run: Run) -> NoReturn:
    """The `channels` are for the starter alone: others see there when the start is over."""
    try:
        # What ends the platform's group must not end containers. The launcher has blocked the signals and
        # made us non-dumpable before the fork, where it costs no monitor a page of its own.
        os.setsid()
        set_name(IN_RESERVE)
        starter = Starter(run)
        for channel in channels:
            channel.close()
        live(starter, quiet=0)
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - the last frame of this process
        with suppress(OSError):
            os.write(2, f"shim: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(1)


def live(starter: Starter, *, quiet: int = -1) -> None:
    """Take over what `starter` has started, and stay with it until it has ended for good.

    `quiet` takes the place of the launcher's standard error, which is a pipe to its supervisor: that must see
    its end when the launcher ends.
    """
    handed = starter.hand_over()
    if handed is None:
        return
    if quiet >= 0:
        os.dup2(quiet, 2)
    data, fds = handed
    poller = select.poll()
    for fd in handover.watched(data, fds):
        poller.register(fd, select.POLLIN)
    if not handover.has_timers(data):
        # Until then this process shares all it has with the launcher.
        poller.poll()
    gc.enable()
    monitor = Monitor(*handover.unpack(data, fds))
    try:
        monitor.run()
    except BaseException:
        _note_fault(monitor)
        raise


def _note_fault(monitor: Monitor) -> None:
    """A fault of the monitor's own is left where the engine finds its state."""
    import traceback  # noqa: PLC0415 - nothing that a monitor in order needs

    path = f"{monitor.plan['run_dir']}/shim.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.write(fd, traceback.format_exc().encode())
    os.close(fd)
