"""The machines, and what their kernels can do."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from webui.core import payloads
from webui.hosts.models import Host


@login_required
def host_list(request: HttpRequest) -> HttpResponse:
    """Each host with its facts, capacity and when its worker was last heard of."""
    hosts = Host.objects.order_by("name")
    return render(request, "pages/hosts.html", {"hosts": [payloads.host_row(h) for h in hosts]})
