"""The Celery application: JSON only, no results, one queue per host.

The broker is Redis and never the truth. A message lost with it is sent again by the watcher, and one that
comes twice finds its operation claimed, so acknowledging late is safe and losing a message is cheap.
"""

from __future__ import annotations

import os

import django
from celery import Celery
from celery.signals import setup_logging

from workers import instance

# Whoever imports the application may import models from then on.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webui.settings")
django.setup()

# Threads share one interpreter: a short task waits for the kernel, not for the GIL. A pull holds a thread
# for minutes, so there are many more threads than cores; an idle one costs nothing.
CONCURRENCY = 16

# Celery's own Django fix-up closes connections around every task and imports management commands; the
# base task looks after connections itself.
app = Celery("slipway", fixups=(), set_as_current=True)
app.conf.update(
    broker_url=instance.broker_url(instance.redis_url()),
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={"socket_timeout": 5.0, "socket_connect_timeout": 2.0},
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_acks_late=True,
    task_acks_on_failure_or_timeout=True,
    task_reject_on_worker_lost=True,
    task_default_queue=f"host.{instance.host_id()}",
    # A message is lost work only when its operation is still pending; the watcher sees to those.
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


@setup_logging.connect
def _keep_logging(**_: object) -> None:
    """Django has configured logging already; a receiver here keeps Celery from doing it again."""
