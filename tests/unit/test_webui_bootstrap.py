"""What a first start makes, that a second one changes nothing, and tokens from the command line."""

from __future__ import annotations

import os
import re
import time
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client

from webui.accounts.models import ApiToken, User
from webui.hosts.models import Host
from webui.networks.models import Network

pytestmark = pytest.mark.django_db


def run(command: str, *args: str) -> str:
    out = StringIO()
    call_command(command, *args, stdout=out)
    return out.getvalue()


def test_a_first_start_makes_host_network_and_admin() -> None:
    found = re.search(r"Sign in as (\S+) with the password (\S+)\n", run("bootstrap"))
    assert found
    assert Host.objects.get().pk == settings.ENVIRONMENT.host_id
    network = Network.objects.get()
    assert (network.name, network.is_default, network.subnet) == ("default", True, "172.30.0.0/22")
    user = User.objects.get()
    assert (user.role, user.is_superuser) == ("admin", True)
    signed_in = Client().post("/login/", {"username": found[1], "password": found[2]})
    assert signed_in.status_code == 302


def test_a_second_start_changes_and_prints_nothing() -> None:
    run("bootstrap")
    before = User.objects.get().password
    assert run("bootstrap") == ""
    assert User.objects.get().password == before
    assert Host.objects.count() == Network.objects.count() == 1


def test_what_is_left_of_broken_uploads_goes_but_not_one_under_way() -> None:
    old, new = settings.SLIPWAY.spool / "old.part", settings.SLIPWAY.spool / "new.part"
    for path in (old, new):
        path.write_bytes(b"x")
    past = time.time() - 7200
    os.utime(old, (past, past))
    run("bootstrap")
    assert (old.exists(), new.exists()) == (False, True)
    new.unlink()


def test_a_token_is_printed_and_works() -> None:
    run("bootstrap")
    text = run("create_token", "admin", "--name", "ci", "--read-only").strip()
    assert ApiToken.objects.get(name="ci").read_only
    answer = Client(headers={"Authorization": f"Bearer {text}"}).get("/api/v1/hosts")
    assert answer.status_code == 200


def test_a_token_needs_somebody_to_belong_to() -> None:
    with pytest.raises(CommandError, match="no user 'nobody'"):
        run("create_token", "nobody")
