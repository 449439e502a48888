"""What puts operations into a host's queue speaks as Celery does, and does without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery
from celery.worker.request import Request
from kombu.connection import Connection

from webui.core import broker

ROOT = Path(__file__).parent.parent.parent


def test_a_worker_reads_the_task_and_its_one_argument() -> None:
    app = Celery("test", set_as_current=False)

    def stop(_: str) -> None:
        pass

    with Connection("memory://") as connection:
        envelope = json.loads(broker.message("f" * 32, "container.stop", "an-id"))
        message = connection.channel().message_to_python(envelope)
        body = message.decode()
        request = Request(message, app=app, task=app.task(name="container.stop")(stop))
    assert body == [["an-id"], {}, {}]
    assert (request.name, request.args, request.kwargs) == ("container.stop", ["an-id"], {})
    assert request.delivery_info["routing_key"] == f"host.{'f' * 32}"
    assert request.id
    assert (request.eta, request.expires, request.reply_to) == (None, None, None)


def test_no_two_messages_are_the_same_task() -> None:
    first, second = (json.loads(broker.message("f" * 32, "x", "an-id")) for _ in range(2))
    assert first["headers"]["id"] != second["headers"]["id"]


@pytest.mark.parametrize(
    ("module", "settings"),
    [("webui.asgi", "webui.settings"), ("workers.watcher.build", "workers.settings")],
)
def test_who_sends_has_not_loaded_celery(module: str, settings: str, tmp_path: Path) -> None:
    program = f"import sys, django; django.setup(); import {module}; print(*sys.modules)"
    env = {"DJANGO_SETTINGS_MODULE": settings, "SLIPWAY_ROOT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    assert {module, "webui.core.broker"} <= set(loaded)
    assert not {"celery", "kombu"} & set(loaded)
