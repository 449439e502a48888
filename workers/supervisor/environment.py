"""The virtual environment: made from a lock file with hashes, and again only when the lock changes."""

from __future__ import annotations

import compileall
import hashlib
import shutil
import subprocess
from pathlib import Path

from workers.supervisor import console
from workers.supervisor.instance import CHECKOUT, SYSTEM_PYTHON, Instance

BASE_LOCK = CHECKOUT / "requirements" / "base.txt"
# Holds everything of base.txt, at the same versions, and the tools of development.
DEV_LOCK = CHECKOUT / "requirements" / "dev.txt"

_CODE = ("runtime", "webui", "workers")


class EnvironmentFailed(Exception):
    """The virtual environment could not be made; the message holds the tool's last lines."""


def ensure(instance: Instance, lock: Path) -> None:
    """A virtual environment that holds what `lock` says. Raises EnvironmentFailed."""
    venv = instance.venv
    stamp = venv / f".slipway-{lock.stem}"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if _read(stamp) == wanted and instance.python.exists():
        return
    # A virtual environment breaks when its directory moves or its Python goes.
    if not _works(instance.python):
        if venv.exists():
            shutil.rmtree(venv)
        console.step(f"Making the virtual environment with {SYSTEM_PYTHON}")
        _run(SYSTEM_PYTHON, "-m", "venv", str(venv))
    console.step(f"Installing Python packages from {lock.relative_to(CHECKOUT)}")
    _run(
        str(instance.python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--require-hashes",
        "--requirement",
        str(lock),
    )
    # The unprivileged processes read these files, whatever the caller's umask was.
    _run("chmod", "-R", "a+rX", str(venv))
    stamp.write_text(wanted)


def compile_code() -> None:
    """Byte code of the project, so that processes that may not write it need not compile it either."""
    for name in _CODE:
        compileall.compile_dir(CHECKOUT / name, quiet=2)


def code_is_readable() -> None:
    """The web user reads the checkout through a bind mount, so only the files' own modes count."""
    for name in _CODE:
        for path in (CHECKOUT / name, *(CHECKOUT / name).rglob("*")):
            mode = path.lstat().st_mode
            if path.is_symlink():
                continue
            wanted = mode | (0o555 if path.is_dir() else 0o444)
            if wanted != mode:
                path.chmod(wanted & 0o7777)


def _works(python: Path) -> bool:
    try:
        done = subprocess.run(
            [python, "-c", "import pip"], capture_output=True, check=False, timeout=60
        )
    except OSError:
        return False
    return done.returncode == 0


def _run(*command: str) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-15:])
        raise EnvironmentFailed(f"{' '.join(command[:5])} … failed:\n{last}")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
