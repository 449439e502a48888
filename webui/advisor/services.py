"""Writes about advice: silencing a rule for one container, and undoing that."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from runtime.errors import SpecInvalid
from webui.accounts.models import User
from webui.advisor.models import Silence
from webui.advisor.rules import RULE_IDS
from webui.containers.models import Container
from webui.containers.showing import container_publish


def silence_create(*, container: Container, rule: str, reason: str, user: User | None) -> Silence:
    """Say that a piece of advice does not apply here, and why. Raises SpecInvalid."""
    if rule not in RULE_IDS:
        raise SpecInvalid(
            "rule", f"There is no advice {rule!r}.", hint=f"Known: {', '.join(sorted(RULE_IDS))}."
        )
    if not reason.strip():
        raise SpecInvalid(
            "reason", "A reason is needed.", hint="Write why this is right for the container."
        )
    with transaction.atomic():
        silence, _ = Silence.objects.update_or_create(
            container=container, rule=rule, defaults={"reason": reason.strip()[:255], "user": user}
        )
        _changed(container)
    return silence


def silence_remove(*, container: Container, rule: str) -> None:
    """Let the advice be shown again; nothing happens when it was not silenced."""
    with transaction.atomic():
        if Silence.objects.filter(container=container, rule=rule).delete()[0]:
            _changed(container)


def _changed(container: Container) -> None:
    """Advice is part of the container's row."""
    Container.objects.filter(pk=container.pk).update(revision=F("revision") + 1)
    transaction.on_commit(lambda: container_publish(container_id=container.pk))
