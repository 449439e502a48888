"""One whole platform for the tests that only use it; those that break it start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import browser, page
from tests.support.images import nginx_image_archive
from tests.support.platform import Api, Platform

__all__ = ["browser", "page"]


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    running = Platform()
    try:
        running.start(timeout=180)
        yield running
    finally:
        running.destroy()


@pytest.fixture(scope="session")
def api(platform: Platform) -> Api:
    return platform.api()


@pytest.fixture(scope="session")
def starter(api: Api) -> str:
    """The reference of the starter image, made on the spot."""
    operation = api.post("/images/starter")
    reference = operation.get("reference") or operation.get("references", [None])[0]
    return str(reference or "slipway/starter:latest")


@pytest.fixture(scope="session")
def nginx_archive() -> Path:
    """A `docker save` archive of a real nginx."""
    return nginx_image_archive()
