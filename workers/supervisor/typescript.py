"""The TypeScript compiler, for the tests alone: it checks the types in the scripts' comments."""

from __future__ import annotations

import hashlib
import shutil
import subprocess

from workers.supervisor import console, packages
from workers.supervisor.instance import CHECKOUT, Instance

LOCK = CHECKOUT / "tests" / "typescript" / "package-lock.json"  # version and hash


def ensure(instance: Instance) -> None:
    """The compiler that LOCK names in the virtual environment; a test skips what needs it when that fails."""
    directory = instance.venv / "typescript"
    stamp = directory / ".slipway"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not shutil.which("npm") and shutil.which("apt-get"):
        packages.ensure(("nodejs", "npm"))
    console.step(f"Installing the TypeScript compiler from {LOCK.relative_to(CHECKOUT)}")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(LOCK.with_name(name), directory)
    try:
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        console.step("There is no npm: the types of the scripts are not checked")
        return
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-5:])
        console.step(
            f"npm could not install it, so the types of the scripts are not checked:\n{last}"
        )
        return
    stamp.write_text(wanted)
