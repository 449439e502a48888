"""Celery's consumer, for a Redis on the same machine that is not the truth: patient, and it acknowledges nothing."""

from __future__ import annotations

import logging
from typing import Any

from celery.worker import consumer as celery_consumer
from celery.worker.state import maybe_shutdown

logger = logging.getLogger(__name__)

_FIRST_WAIT = 0.1  # seconds before the first new attempt
_LONGEST_WAIT = 1.0


class Consumer(celery_consumer.Consumer):
    """Waits at most a second between attempts to reach the broker, for ever.

    Celery's own steps grow to half a minute, so that work would stand still long after Redis is back.
    """

    def call_soon_ack(self, p: Any, *_args: Any, **_kwargs: Any) -> Any:
        """Nothing: a message that comes here has left the broker (workers/app.py)."""
        return p

    def ensure_connected(self, conn: Any) -> Any:
        waiting = False

        def on_error(error: Exception, interval: float) -> None:
            nonlocal waiting
            if not waiting:
                waiting = True
                logger.warning("Cannot reach the broker: %s. Trying until it answers.", error)

        connected = conn.ensure_connection(
            on_error,
            None,
            interval_start=_FIRST_WAIT,
            interval_step=_FIRST_WAIT,
            interval_max=_LONGEST_WAIT,
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        self.broker_connection_retry_attempt = 0
        if waiting:
            logger.info("The broker answers again.")
        return connected
