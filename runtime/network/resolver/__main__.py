"""`python -m runtime.network.resolver`: serve the instance that SLIPWAY_* names, until SIGTERM."""

from __future__ import annotations

import gc
import os
import pwd
import signal
import sys
from types import FrameType

from runtime.kernel.capabilities import NUMBERS
from runtime.kernel.constants import PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS
from runtime.kernel.syscalls import capset, prctl
from runtime.network.resolver.forwarder import Forwarder, Upstreams
from runtime.network.resolver.loop import Loop
from runtime.network.resolver.server import Server, say
from runtime.store.paths import Config

USER = "nobody"


def main() -> None:
    if "SLIPWAY_PRELOAD" in os.environ:  # tests of failures
        __import__(os.environ["SLIPWAY_PRELOAD"])
    config = Config.from_env()
    loop = Loop()
    loop.hear_signals()
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    config.dns.mkdir(parents=True, exist_ok=True, mode=0o755)
    # Paths are relative from here on: the directories above need not be open to the user we become.
    os.chdir(config.dns)
    if os.geteuid() == 0:
        become(USER)
    Server(loop, ".", Forwarder(loop, Upstreams())).start()
    gc.collect()
    gc.freeze()
    say(f"serving the networks of {config.name}")
    loop.run()


def become(user: str) -> None:
    """Give up root and every capability but the one to bind port 53 as networks appear."""
    entry = pwd.getpwnam(user)
    keep = 1 << NUMBERS["NET_BIND_SERVICE"]
    prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    capset(keep, keep, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
