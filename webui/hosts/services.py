"""Writes about hosts."""

from __future__ import annotations

from django.db import connection

from webui.hosts.models import Host


def host_lock(*, host: Host) -> None:
    """Let one transaction at a time claim or give up names, addresses and ports of a host.

    Call it first inside the transaction; it is held until that ends. On SQLite the transaction itself
    is the lock (it begins IMMEDIATE); PostgreSQL locks the row, without stopping those who only refer
    to it.
    """
    if connection.features.has_select_for_update:
        list(Host.objects.select_for_update(no_key=True).filter(pk=host.pk).values_list("pk"))
