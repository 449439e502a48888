"""Pages of containers: the list, the form, one container's tabs, and the dialogs that warn."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_replace
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.clickjacking import xframe_options_sameorigin

from runtime.errors import NotFound
from runtime.model.state import Status
from webui.containers.committing import own_env
from webui.containers.describing import in_words
from webui.containers.fields import live_values, restart_choices
from webui.containers.form import form_context
from webui.containers.listing import FILTERS, container_page, container_rows
from webui.containers.models import Container
from webui.containers.network_dialogs import joinable
from webui.containers.selectors import container_find
from webui.core import payloads
from webui.core.pages import may_operate
from webui.networks.models import Network
from webui.operations.models import Event, Operation

TABS = (
    "summary", "stats", "logs", "processes", "terminal", "files", "changes", "events", "inspect"
)  # fmt: skip
ENDS = 5  # of a container, told on its page
DIALOGS = ("remove", "kill", "rename", "limits", "commit")
# What people send; any other is taken as well.
SIGNALS = (
    "SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGSTOP",
    "SIGCONT",
)  # fmt: skip


@login_required
def container_list(request: HttpRequest) -> HttpResponse:
    """Containers; filters (`q`, `state`, `image`, `network`), `sort` and `page` live in the URL.

    With `?only=id,id` just those, whatever the filters say.
    """
    filters = {name: request.GET.get(name, "") for name in FILTERS}
    sort = request.GET.get("sort", "")
    page = None
    if "only" in request.GET:
        rows = container_rows(request.GET["only"].split(","))
    else:
        page = container_page(filters, sort=sort, page=request.GET.get("page", ""))
        rows = page.rows
    counts = Counter(Container.objects.order_by().values_list("status", flat=True))
    return render(
        request,
        "pages/containers.html",
        {
            "rows": rows,
            "page": page,
            "total": counts.total(),
            "states": [(status, counts[status]) for status in Status if counts[status]],
            "networks": Network.objects.order_by("name"),
            "filters": filters,
            "filtered": any(filters.values()),
            "sort": sort,
        },
    )


@login_required
def container_create(request: HttpRequest) -> HttpResponse:
    """The form; `?image=` chooses an image, `?from=` copies another container's settings,
    `?volume=` adds a named volume at that path.
    """
    may_operate(request)
    source = None
    if "from" in request.GET:
        source = get_object_or_404(Container, id=request.GET["from"])
    context = form_context(
        image=request.GET.get("image", ""), source=source, volume=request.GET.get("volume", "")
    )
    return render(request, "pages/container_create.html", context)


@login_required
def container_detail(request: HttpRequest, container_id: str) -> HttpResponse:
    """One container. `?tab=` chooses what is below the header; each tab is a plain link."""
    container = _find(container_id)
    tab = request.GET.get("tab", "summary")
    if tab not in TABS:
        raise Http404
    related = {"target_type": "container", "target_id": container.id}
    operations = Operation.objects.filter(**related).select_related("user")
    last = operations.first()
    failed = last if last and last.status == Operation.Status.FAILED else None
    context: dict[str, Any] = {
        "row": payloads.container_row(container),
        "container": container,
        "spec": container.spec,
        "words": _words(container),
        "joinable": joinable(container),
        "config": container.image.config if container.image else {},
        "usage": container.usage,
        "oom": _last_oom_kill(container),
        "failed": payloads.operation_row(failed) if failed else None,
        "tab": tab,
        "tabs": TABS,
        "ends": _ends(container) if tab == "summary" else (),
    }
    if tab == "files":
        context["path"] = request.GET.get("path", "/")
        context["mounts"] = _places(container)
    if tab == "events":
        events = Event.objects.filter(**related).select_related("user")[:200]
        context["events"] = [payloads.event_row(event) for event in events]
        context["operations"] = [payloads.operation_row(each) for each in operations[:50]]
    return render(request, "pages/container.html", context)


def _places(container: Container) -> str:
    """Where something else than the root file system is, as JSON for the page's script."""
    mounts = container.spec.get("mounts", [])
    return json.dumps([{k: m.get(k, "") for k in ("target", "type", "source")} for m in mounts])


def _ends(container: Container) -> list[dict[str, Any]]:
    """Its last ends, newest first: what a container's row would say of each."""
    kinds = ("container.exited", "container.oom_killed")
    found = Event.objects.filter(target_type="container", target_id=container.pk, type__in=kinds)
    rows = []
    for event in found.order_by("-time")[:ENDS]:
        began = event.time - timedelta(seconds=float(event.data.get("ran_for") or 0))
        rows.append(
            {
                "status": "exited",
                "exit_reason": event.data.get("reason", ""),
                "exit_code": event.data.get("exit_code"),
                "oom_killed": event.type == "container.oom_killed",
                "started_at": payloads.stamp(began),
                "finished_at": payloads.stamp(event.time),
                "error": event.data.get("error", ""),
            }
        )
    return rows


def _last_oom_kill(container: Container) -> dict[str, Any] | None:
    """The last process that the kernel killed for want of memory in this run; None without one."""
    last: dict[str, Any] | None = container.usage.get("oom_last")
    started = container.started_at.timestamp() if container.started_at else 0.0
    return last if last and last["time"] >= started else None


def _name_of(identity: str) -> str:
    """Of a container or a network: their ids are drawn at random, and none is both."""
    found = (kind.objects.filter(pk=identity).values_list("name", flat=True).first()
             for kind in (Container, Network))  # fmt: skip
    return next((name for name in found if name), identity[:12])


# xterm.js writes style sheets of its own; so it has a document of its own, in a frame of the tab.
@csp_replace({"style-src": [SELF, UNSAFE_INLINE], "frame-ancestors": [SELF]})  # type: ignore[arg-type]
@xframe_options_sameorigin
@login_required
def container_terminal(request: HttpRequest, container_id: str) -> HttpResponse:
    """A terminal's document: it connects by itself, to a new shell or to the container's own process."""
    may_operate(request)
    container = _find(container_id)
    context = {"container": container, "process": container.spec.get("process", {})}
    return render(request, "pages/terminal.html", context)


def _words(container: Container) -> dict[str, Any]:
    """What the specification says beyond the usual, by section of the page."""
    words: dict[str, Any] = in_words(container.spec, _name_of)
    return {**words, "mounts": dict(words.get("mounts", ()))}


@login_required
def container_dialog(request: HttpRequest, container_id: str, name: str) -> HttpResponse:
    """The inside of a dialog about one container: what an action would do, and its form."""
    may_operate(request)
    if name not in DIALOGS:
        raise Http404
    container = _find(container_id)
    paths = container.usage.get("writable_paths") or []
    return render(
        request,
        f"dialogs/container_{name}.html",
        {
            "row": payloads.container_row(container),
            "container": container,
            "writable_bytes": container.usage.get("writable_bytes"),
            "writable_paths": [{"path": path, "bytes": size} for path, size in paths[:5]],
            "kept": container.volume_mounts.select_related("volume"),
            "live": live_values(container.spec) if name == "limits" else (),
            "own_env": own_env(container) if name == "commit" else (),
            "signals": SIGNALS,
            "policies": restart_choices(container.spec.get("restart", {})),
        },
    )


def _find(container_id: str) -> Container:
    """By id, by enough of its digits, or by name."""
    try:
        return container_find(container_id)
    except NotFound as error:
        raise Http404(error.message) from error
