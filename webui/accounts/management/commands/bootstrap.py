"""What a first start needs: this host, its default network, an administrator. Safe to repeat."""

from __future__ import annotations

import socket
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from webui.accounts.services import admin_create_first
from webui.api.uploads import forget_uploads
from webui.hosts.models import Host
from webui.networks.services import network_default


class Command(BaseCommand):
    help = "Make this host's row, its default network and the first administrator, where missing."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        host_id = settings.ENVIRONMENT.host_id
        if not host_id:
            message = "There is no host-id file below SLIPWAY_ROOT; `./slipway up` makes it."
            raise CommandError(message)
        host, _ = Host.objects.get_or_create(pk=host_id, defaults={"name": socket.gethostname()})
        network_default(host=host)
        forget_uploads()
        made = admin_create_first()
        if made is not None:
            user, password = made
            self.stdout.write(
                f"\n  Sign in as {user.username} with the password {password}\n"
                f"  It is shown only now. Another: ./slipway manage changepassword {user.username}\n"
            )
