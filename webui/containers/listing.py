"""The list of containers, a page at a time: what decides is read for all, the rest for those shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from runtime.model.state import Status
from webui.containers.models import Container
from webui.containers.selectors import containers
from webui.core import payloads
from webui.core.pages import Row, sort_rows
from webui.core.rows import ContainerRow

PAGE = 50  # rows; a browser draws them at once, and nobody reads more
FILTERS = ("q", "state", "image", "network")

SORTS: dict[str, Callable[[Row], Any]] = {
    "name": lambda row: row["name"].lower(),
    "state": lambda row: list(Status).index(row["status"]),
    "image": lambda row: row["image_reference"],
    "created": lambda row: row["created_at"],
}


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[ContainerRow]
    number: int  # from 1
    pages: int
    matching: int  # containers on all pages

    @property
    def first(self) -> int:
        """The number of the first row among all that match, from 1."""
        return (self.number - 1) * PAGE + 1

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1

    @property
    def before(self) -> int | None:
        return self.number - 1 if self.number > 1 else None

    @property
    def after(self) -> int | None:
        return self.number + 1 if self.number < self.pages else None


def container_page(filters: Mapping[str, str], *, sort: str, page: str) -> Page:
    """One page of the containers that match; `page` counts from 1, and one that is not there is the nearest."""
    fields = ["pk", "name", "status", "image_reference", "image__digest", "created_at"]
    if filters["q"]:
        fields.append("spec__labels")
    found: QuerySet[Container, Row] = _narrowed(filters).values(*fields)
    matching = sort_rows([row for row in found if _matches(row, filters)], sort, SORTS)
    pages = max(1, -(-len(matching) // PAGE))
    number = min(max(int(page), 1), pages) if page.isdecimal() else 1
    ids = [row["pk"] for row in matching[(number - 1) * PAGE : number * PAGE]]
    return Page(container_rows(ids), number, pages, len(matching))


def container_rows(ids: list[str]) -> list[ContainerRow]:
    """The rows of these containers, in this order; of those that are still there."""
    rows = {row["id"]: row for row in payloads.container_rows(containers().filter(pk__in=ids))}
    return [rows[each] for each in ids if each in rows]


def _narrowed(filters: Mapping[str, str]) -> QuerySet[Container]:
    found = Container.objects.all()
    if filters["state"]:
        found = found.filter(status=filters["state"])
    if filters["network"]:
        found = found.filter(endpoints__network__name=filters["network"]).distinct()
    return found


def _matches(row: Row, filters: Mapping[str, str]) -> bool:
    query = filters["q"].lower()
    text = [row["name"], row["pk"], row["image_reference"]]
    text += [f"{key}={value}" for key, value in (row.get("spec__labels") or {}).items()]
    return (not query or any(query in part.lower() for part in text)) and (
        filters["image"] in ("", row["image__digest"], row["image_reference"])
    )
