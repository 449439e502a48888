"""Names for instances of the tests' own."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from runtime.store.paths import Config

_given: set[str] = set()


def instance_name() -> str:
    """A random name whose tag no interface of this host begins with, and no other instance of this run has.

    A tag is short, as names of interfaces are: of two instances that live side by side one in 4,096 would take the
    other's interfaces for its own leftovers.
    """
    while True:
        name = f"test-{secrets.token_hex(3)}"
        tag = Config(Path("/"), Path("/"), name).tag
        there = any(link.startswith(tag) for link in os.listdir("/sys/class/net"))
        if tag not in _given and not there:
            _given.add(tag)
            return name
