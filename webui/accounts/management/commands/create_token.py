"""An API token from the command line, for scripts."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from webui.accounts.models import User
from webui.accounts.services import token_create


class Command(BaseCommand):
    help = "Print a new API token of a user. It is not shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--name", default="command line")
        parser.add_argument("--read-only", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            message = f"There is no user {options['username']!r}."
            raise CommandError(message)
        _, text = token_create(user=user, name=options["name"], read_only=options["read_only"])
        self.stdout.write(text)
