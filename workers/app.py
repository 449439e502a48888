"""The Celery application: JSON only, no results, one queue per host.

The broker is Redis and never the truth. A message lost with it, or with a worker that has taken it, is sent
again by the watcher, and one that comes twice finds its operation claimed: so nothing is acknowledged.
"""

from __future__ import annotations

import os

import django
from celery import Celery
from celery.signals import setup_logging
from django.conf import settings
from kombu.entity import Queue

from workers import instance

# Threads share one interpreter: a short task waits for the kernel, not for the GIL. A pull holds a thread
# for minutes, so there are many more threads than cores; an idle one costs nothing.
CONCURRENCY = 16


def _make() -> Celery:
    """The application, with Django set up: whoever imports it may import models from then on."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "workers.settings")
    django.setup()
    from webui.core.broker import broker_url, queue_of  # noqa: PLC0415 - needs the settings

    queue = queue_of(instance.host_id())
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
        # Acknowledging takes two round trips per operation, and says what the operation's row says anyway.
        task_queues=(Queue(queue, routing_key=queue, no_ack=True),),
        task_default_queue=queue,
        task_acks_late=True,  # a connection that is lost cancels nothing
        worker_pool="threads",
        worker_concurrency=CONCURRENCY,
        worker_consumer="workers.consumer:Consumer",
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_disable_rate_limits=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_redirect_stdouts=False,
        imports=(
            "workers.tasks.containers",
            "workers.tasks.images",
            "workers.tasks.joining",
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
