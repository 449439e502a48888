"""What an instance needs before its processes start: users, directories, keys, database."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import secrets
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from runtime.store.files import write_atomic
from workers.supervisor import confine, console
from workers.supervisor.instance import CHECKOUT, REDIS_USER, WEB_USER, Instance, account
from workers.supervisor.processes import Process


class PrepareFailed(Exception):
    """Something the instance needs could not be made; the message says what and why."""


def users() -> None:
    """The two system users without a shell: web, and Redis, which shares its socket with web's group."""
    if not _exists(grp.getgrnam, WEB_USER):
        _run("groupadd", "--system", WEB_USER)
    for name in (WEB_USER, REDIS_USER):
        if not _exists(pwd.getpwnam, name):
            _run(
                "useradd",
                "--system",
                "--gid",
                WEB_USER,
                "--no-create-home",
                "--home-dir",
                "/nonexistent",
                "--shell",
                "/usr/sbin/nologin",
                name,
            )


def directories(instance: Instance) -> None:
    """The layout below root and run, with owners and modes; what is right already is left alone."""
    config = instance.config
    web, redis, root = account(WEB_USER), account(REDIS_USER), account("root")
    for path, owner, group, mode in (
        (config.root, root, root.pw_gid, 0o711),
        (config.run, root, root.pw_gid, 0o711),
        (config.db, web, web.pw_gid, 0o750),
        (config.spool, web, web.pw_gid, 0o700),
        (config.tmp, root, root.pw_gid, 0o700),
        # What images and containers hold may be setuid, and root's on disk: no user of the host comes near
        # it (CVE-2021-41091).
        (config.blobs, root, root.pw_gid, 0o700),
        (config.images, root, root.pw_gid, 0o700),
        (config.layers, root, root.pw_gid, 0o700),
        (config.containers, root, root.pw_gid, 0o700),
        (config.volumes, root, root.pw_gid, 0o700),
        (instance.stamps, root, root.pw_gid, 0o700),
        # The watcher (root) makes its socket here; web's group opens it.
        (config.stream_socket.parent, root, web.pw_gid, 0o750),
        (config.redis_socket.parent, redis, web.pw_gid, 0o750),
        (instance.app, root, root.pw_gid, 0o755),
    ):
        path.mkdir(parents=True, exist_ok=True)
        now = path.stat()
        if (now.st_uid, now.st_gid) != (owner.pw_uid, group):
            os.chown(path, owner.pw_uid, group)
        if stat.S_IMODE(now.st_mode) != mode:
            path.chmod(mode)
    _reachable(config.root)
    _reachable(config.run)


def _reachable(path: Path) -> None:
    """Web works below these as an unprivileged user, so every directory above must let it through."""
    for directory in path.parents:
        if not directory.stat().st_mode & stat.S_IXOTH:
            raise PrepareFailed(
                f"{path} cannot be used: {directory} lets only its owner in, and web runs as "
                f"the user {WEB_USER}. Choose another SLIPWAY_ROOT or SLIPWAY_RUN, "
                f"or: chmod o+x {directory}"
            )


def keys(instance: Instance) -> None:
    """The secret that signs sessions, and the id that names this host's queue; made once."""
    web = account(WEB_USER)
    if not instance.secret_key.exists():
        write_atomic(instance.secret_key, secrets.token_urlsafe(50).encode(), mode=0o600)
        os.chown(instance.secret_key, 0, web.pw_gid)
        instance.secret_key.chmod(0o640)
    if not instance.host_id.exists():
        write_atomic(instance.host_id, secrets.token_hex(16).encode())


def database(instance: Instance) -> None:
    """Migrate when a migration or the database changed, then let Django make what a first start needs.

    Both run as the web user, since the files of SQLite are his.
    """
    stamp = instance.stamps / "migrations"
    wanted = _migrations_hash(instance.database_url)
    sqlite = instance.config.db / "slipway.sqlite3"
    done = stamp.exists() and stamp.read_text() == wanted
    if done and (instance.database_url or sqlite.exists()):
        return
    console.step("Migrating the database")
    manage(instance, ["migrate", "--no-input", "--verbosity", "0"], check=True)
    manage(instance, ["bootstrap"], check=True)
    write_atomic(stamp, wanted.encode())


def manage(instance: Instance, arguments: list[str], *, check: bool = False) -> int:
    """Run Django's `manage.py` as web runs: the same user, the same view. Returns its exit code."""
    process = Process(
        name="manage",
        colour="grey",
        argv=[str(instance.app_python), "manage.py", *arguments],
        env=instance.web_env(),
        user=WEB_USER,
        sees_app=True,
        cwd=str(instance.app),
    )
    try:
        done = subprocess.run(
            process.argv,
            env=dict(process.env),
            preexec_fn=confine.preparation(process, instance, foreground=True),
            check=False,
        )
    except subprocess.SubprocessError as error:
        raise PrepareFailed(f"manage.py could not be started as {WEB_USER}; see above.") from error
    if check and done.returncode:
        raise PrepareFailed(f"manage.py {arguments[0]} ended with exit code {done.returncode}.")
    return done.returncode


def _migrations_hash(database_url: str) -> str:
    digest = hashlib.sha256(database_url.encode())
    for path in sorted((CHECKOUT / "webui").glob("*/migrations/*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    # Django and the libraries bring migrations of their own.
    digest.update((CHECKOUT / "requirements" / "base.txt").read_bytes())
    return digest.hexdigest()


def _exists(lookup: Callable[[str], object], name: str) -> bool:
    try:
        lookup(name)
    except KeyError:
        return False
    return True


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PrepareFailed(f"{' '.join(command)} failed: {done.stderr.strip()}")
