"""The Celery application: JSON only, no results, one queue per host.

The broker is Redis and never the truth. A message lost with it is sent again by the watcher, and one that
comes twice finds its operation claimed, so acknowledging late is safe and losing a message is cheap.
"""

from __future__ import annotations

import os

import django
from celery import Celery
from celery.signals import setup_logging
from django.conf import settings

from workers import instance

# Threads share one interpreter: a short task waits for the kernel, not for the GIL. A pull holds a thread
# for minutes, so there are many more threads than cores; an idle one costs nothing.
CONCURRENCY = 16


def _make() -> Celery:
    """The application, with Django set up: whoever imports it may import models from then on."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "workers.settings")
    django.setup()
    from webui.core.dispatch import broker_url  # noqa: PLC0415 - imports models

    # Celery's own Django fix-up closes connections around every task and imports management commands;
    # the base task looks after connections itself.
    made = Celery("slipway", fixups=(), set_as_current=True)
    made.conf.update(
        broker_url=broker_url(settings.ENVIRONMENT.redis),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"socket_timeout": 5.0, "socket_connect_timeout": 2.0},
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        # A message that comes twice finds its operation claimed.
        task_acks_late=True,
        task_acks_on_failure_or_timeout=True,
        task_default_queue=f"host.{instance.host_id()}",
        worker_prefetch_multiplier=1,
        worker_pool="threads",
        worker_concurrency=CONCURRENCY,
        worker_consumer="workers.consumer:Consumer",
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_redirect_stdouts=False,
        imports=(
            "workers.tasks.containers",
            "workers.tasks.images",
            "workers.tasks.networks",
            "workers.tasks.volumes",
        ),
        enable_utc=True,
    )
    return made


@setup_logging.connect
def _keep_logging(**_: object) -> None:
    """Django has configured logging already; a receiver here keeps Celery from doing it again."""


app = _make()
