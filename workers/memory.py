"""What a process that serves holds for good."""

from __future__ import annotations

import gc


def keep_what_is_loaded() -> None:
    """Have the garbage collector look no more at what is there now: all that code and settings are made of.

    It would now and then look at all of it while somebody waits, a hundred thousand objects in web: for 0.1 s.
    """
    gc.collect()
    gc.freeze()
