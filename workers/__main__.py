"""`python -m workers`: this host's worker."""

from __future__ import annotations

import sys
import warnings

from celery.exceptions import CPendingDeprecationWarning, SecurityWarning


def main() -> None:
    """Run the worker until SIGTERM: it takes no new work, then finishes what it has."""
    from workers import instance  # noqa: PLC0415 - as late as what it prepares for
    from workers.app import app  # noqa: PLC0415 - sets Django up

    # Said at each lost connection: Celery would rather cancel what runs. Ours runs on and may run twice.
    warnings.simplefilter("ignore", CPendingDeprecationWarning)
    # Loaded now, so that the first task is as quick as the others.
    instance.engine().networks.warm_up()
    options = ["--loglevel", "INFO", "--without-gossip", "--without-mingle", "-O", "fair"]
    # Celery warns of root. Root's work is what this worker is for, and its messages are ids (JSON).
    warnings.simplefilter("ignore", SecurityWarning)
    app.worker_main(["--quiet", "worker", *options, *sys.argv[1:]])


if __name__ == "__main__":
    main()
