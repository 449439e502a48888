"""What host and guest agree on; no more, so that the guest loads little."""

from __future__ import annotations

import os

PORT = "slipway.tests"  # a virtio port's name, for reports
ALIVE = "slipway.alive"  # and another's, for signs of life: init.sh writes there
ARGUMENTS = "vm-arguments.json"  # beside the code: pytest's arguments
INSIDE = "SLIPWAY_TEST_IN_VM"  # set in the guest
PATIENCE = 6.0  # how much longer than on the host anything may take


def inside() -> bool:
    """We are the guest."""
    return INSIDE in os.environ
