"""The host's own row: that it is alive, and what it is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from django.utils import timezone

from runtime.errors import EngineError
from webui.hosts.models import Host
from workers import instance

logger = logging.getLogger(__name__)


class HostSource(Protocol):
    def host_facts(self) -> Mapping[str, Any]: ...

    def network_facts(self) -> Mapping[str, Any]: ...


class HostFacts:
    """Says every few seconds that this host is there; its facts are read once, at the start.

    Those of its network change with what others do to it, and are read each time.
    """

    def __init__(self, *, engine: HostSource, host_id: str) -> None:
        self._engine = engine
        self._host_id = host_id
        self._known = False
        self._facts: dict[str, Any] = {}

    def beat(self) -> None:
        """Raises DatabaseError."""
        now = timezone.now()
        if not self._known:
            try:
                facts = dict(self._engine.host_facts())
            except (EngineError, OSError) as error:
                logger.warning("The host's facts cannot be read: %s", error)
                facts = {}
            self._facts = facts = {**facts, "network": self._network()}
            Host.objects.update_or_create(
                pk=self._host_id,
                defaults={"facts": facts, "last_seen": now},
                create_defaults={"name": instance.host_name(), "facts": facts, "last_seen": now},
            )
            self._known = True
            return
        changed: dict[str, Any] = {"last_seen": now}
        network = self._network()
        if network != self._facts["network"]:
            self._facts["network"] = network
            changed["facts"] = self._facts
        if not Host.objects.filter(pk=self._host_id).update(**changed):
            self._known = False  # the database was made anew

    def _network(self) -> dict[str, Any]:
        try:
            return dict(self._engine.network_facts())
        except (EngineError, OSError) as error:
            logger.warning("The facts of the host's network cannot be read: %s", error)
            return {}
