"""A PostgreSQL of the test's own: Debian's binaries, a directory of /tmp, loopback only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.platform import free_port
from tests.support.waiting import wait_until

USER = "postgres"  # the server refuses to run as root


def binaries() -> Path | None:
    """The newest installed version's directory of programs; None when there is none."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3])
    )
    return found[-1].parent if found else None


@contextmanager
def running_postgres() -> Iterator[str]:
    """Yields the DATABASE_URL of an empty database. Durability is off: it lives for one test."""
    programs = binaries()
    assert programs is not None, "PostgreSQL is not installed"
    base = Path(tempfile.mkdtemp(prefix="slw-pg-", dir="/tmp"))
    shutil.chown(base, USER)
    port = free_port()
    subprocess.run(
        [
            programs / "initdb",
            f"--pgdata={base}/data",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
        ],
        user=USER,
        group=USER,
        extra_groups=[],
        cwd=base,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=True,
    )
    log = (base / "log").open("wb")
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": base,
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    server = subprocess.Popen(
        [str(programs / "postgres"), "-D", f"{base}/data", *options],
        user=USER,
        group=USER,
        extra_groups=[],
        cwd=base,
        stdout=log,
        stderr=log,
    )
    try:
        ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        wait_until(
            lambda: subprocess.run(ready, check=False).returncode == 0,
            timeout=30,
            every=0.1,
            what="PostgreSQL answers",
        )
        subprocess.run(
            [programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", USER, "slipway"],
            check=True,
        )
        yield f"postgres://{USER}@127.0.0.1:{port}/slipway"
    finally:
        server.send_signal(signal.SIGINT)  # fast shutdown
        server.wait(timeout=30)
        log.close()
        shutil.rmtree(base, ignore_errors=True)
