"""For a process that copies files: devices look like files until they are opened, as if a race had been lost."""

from __future__ import annotations

import os
import stat
from typing import Any

_stat = os.stat


def _deceived(*args: Any, **options: Any) -> os.stat_result:
    facts = _stat(*args, **options)
    if stat.S_ISCHR(facts.st_mode):
        mode = stat.S_IFREG | stat.S_IMODE(facts.st_mode)
        return os.stat_result((mode, *facts[1:]))
    return facts


os.stat = _deceived
