"""An open websocket lives as long as its session and its user do."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import Client

from webui.accounts.models import User
from webui.live.consumer import session_holds

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ann", password="a long enough password")


@pytest.fixture
def scope(user: User) -> dict[str, Any]:
    client = Client()
    client.force_login(user)
    return {"session": client.session, "user": user}


async def test_a_session_holds(scope: dict[str, Any]) -> None:
    assert await session_holds(scope)


async def test_signing_out_ends_it(scope: dict[str, Any]) -> None:
    await sync_to_async(scope["session"].delete)()
    assert not await session_holds(scope)


async def test_a_user_who_may_not_sign_in_any_more_ends_it(
    scope: dict[str, Any], user: User
) -> None:
    await User.objects.filter(pk=user.pk).aupdate(is_active=False)
    assert not await session_holds(scope)


async def test_a_new_password_ends_the_old_sessions(scope: dict[str, Any], user: User) -> None:
    user.set_password("another long password")
    await user.asave()
    assert not await session_holds(scope)
