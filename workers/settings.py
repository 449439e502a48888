"""The project's settings for processes that serve no pages: without what only pages, REST and admin need.

Six megabytes less for the worker and the watcher each.
"""

from __future__ import annotations

from webui.settings import *  # noqa: F403 - the same settings, but for these

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "webui.core",
    "webui.accounts",
    "webui.hosts",
    "webui.images",
    "webui.networks",
    "webui.volumes",
    "webui.containers",
    "webui.operations",
    "webui.advisor",
    "webui.live",
]
