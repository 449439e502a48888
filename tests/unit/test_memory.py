"""What has been loaded is not looked at again by the garbage collector."""

from __future__ import annotations

import gc
import sys

from workers.memory import keep_what_is_loaded


def test_a_full_round_does_not_look_at_what_was_there_before() -> None:
    there = [object()]
    keep_what_is_loaded()
    try:
        looked_at = {id(each) for each in gc.get_objects()}
        assert not {id(there), id(sys.modules)} & looked_at
    finally:
        gc.unfreeze()
