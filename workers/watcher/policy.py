"""What the system itself asks for: containers that come back after a reboot, and those that go when they end.

Everything it does is an operation like a user's, by nobody, so that it is seen, retried and recorded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from runtime.errors import BadState
from runtime.model.state import Action, Observed, Status
from webui.containers.models import Container
from webui.containers.services import container_act
from webui.core.payloads import live_operation
from webui.hosts.models import Host

logger = logging.getLogger(__name__)

# A container whose monitor keeps dying is started again, but not in a loop.
SHIM_LOST_PAUSE = 30.0  # seconds
# A container whose removal failed is removed again, but what resists may do so for long.
REMOVAL_PAUSE = 10.0
_FOREVER = ("always", "unless-stopped")


class Policy:
    """Decides for one host what to start or remove without anybody asking."""

    def __init__(
        self, *, host_id: str, boot_id: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._host_id = host_id
        self._boot_id = boot_id
        self._clock = clock
        self._seen: dict[str, float] = {}  # id -> finished_at of the end that was acted on
        self._restarted: dict[
            str, float
        ] = {}  # id -> when it was last started after a lost monitor
        self._removed: dict[str, float] = {}  # id -> when its removal was last asked for

    def ended(self, observed: Observed) -> None:
        """Act on the end of a container, once: auto-remove it, or start it when its monitor died."""
        run = observed.run
        if observed.status == Status.DEAD:
            container = Container.objects.filter(pk=observed.id).first()
            if container is not None and container.spec.get("auto_remove"):
                self._remove(container)
            return
        if observed.status != Status.EXITED or run is None:
            return
        end = run.exit
        finished = end.finished_at if end is not None else run.finished_at
        if self._seen.get(observed.id) == finished:
            return
        container = Container.objects.filter(pk=observed.id).first()
        if container is None:
            return
        if container.spec.get("auto_remove"):
            self._remove(container)
            return  # as long as it is there, the next round looks again
        if end is not None and end.reason == "shim_lost" and not run.user_stopped:
            started = self._start_after_loss(container)
            if not started:
                return  # not yet; the next round asks again
        self._seen[observed.id] = finished

    def booted(self, everything: list[Observed]) -> None:
        """After a reboot of the host, start the containers whose policy says so, once per boot."""
        host = Host.objects.get(pk=self._host_id)
        if host.boot_id == self._boot_id:
            return
        if host.boot_id:
            for observed in everything:
                container = Container.objects.filter(pk=observed.id).first()
                if container is not None and comes_back(_restart(container), observed):
                    self._ask(container, "start", {})
        # Last, so that a watcher that dies half-way does the rest when it is back; what it has already
        # asked for is live or running by then.
        Host.objects.filter(pk=self._host_id).update(boot_id=self._boot_id)

    def _remove(self, container: Container) -> None:
        """Unless that was tried just now, or what started or stopped it is still at work."""
        now = self._clock()
        last = self._removed.get(container.pk)
        if last is not None and now - last < REMOVAL_PAUSE:
            return
        if self._ask(container, "remove", {"force": True, "volumes": True}):
            self._removed[container.pk] = now

    def _start_after_loss(self, container: Container) -> bool:
        if _restart(container) == "no":
            return True
        now = self._clock()
        last = self._restarted.get(container.pk)
        if last is not None and now - last < SHIM_LOST_PAUSE:
            return False
        self._restarted[container.pk] = now
        self._ask(container, "start", {})
        return True

    @staticmethod
    def _ask(container: Container, action: Action, params: dict[str, Any]) -> bool:
        """False when another operation is at work on it."""
        if live_operation("container", container.pk) is not None:
            return False
        logger.info("%s of %s (%s) by the system.", action, container.name, container.pk[:12])
        try:
            container_act(
                container=container, action=action, user=None, via="system", params=params
            )
        except BadState as error:
            logger.info("Container %s: %s", container.pk[:12], error)
        return True


def _restart(container: Container) -> str:
    return str(container.spec.get("restart", {}).get("name", "no"))


def comes_back(policy: str, observed: Observed) -> bool:
    """Whether a container runs again after a reboot, as Docker's policies say.

    "always" does unless it was never started; "unless-stopped" does unless somebody had stopped it;
    "on-failure" is about the process, not about the host.
    """
    if observed.status != Status.EXITED or observed.run is None:
        return False
    end = observed.run.exit
    stopped = observed.run.user_stopped or (end is not None and end.reason == "stopped")
    return policy in _FOREVER and not (policy == "unless-stopped" and stopped)
