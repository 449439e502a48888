"""Statements of the way that every start takes, whose SQL Django makes once.

To make the SQL of a query takes Django five times as long as SQLite takes to answer it (0.25 ms to 0.05 ms), and
each time the same comes out. So a function that describes a query keeps it:

    @prepared
    def _by_digest(digest: str) -> QuerySet[ApiToken]:
        return ApiToken.objects.filter(digest=digest)

    found = first(_by_digest("12ab…"))

It is called once with placeholders, and may do nothing with them but to filter by them or, in a `prepared_update`,
to set fields to them. An argument is a value or a list of values, never None: `IS NULL` is other SQL.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from django.core.exceptions import EmptyResultSet
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import AutoField, Expression, Field, Model, QuerySet
from django.db.models.sql import UpdateQuery

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Model)
_LISTS = (list, tuple, set, frozenset)
_KEPT = 32  # shapes of one statement: lists of so many lengths


class _Slot(Expression):
    """Where an argument goes: the `index`th, and of a list the `item`th value."""

    def __init__(self, index: int, item: int = -1) -> None:
        super().__init__()
        self.index, self.item = index, item
        self.sets: Field[Any, Any] | None = None

    def as_sql(self, _compiler: Any, _connection: Any) -> tuple[str, Any]:
        return "%s", [self]

    def __str__(self) -> str:
        # Django does it to a list for a foreign key, and would search for the words from then on.
        raise TypeError("Filter by the field it refers to: network__pk__in, not network_id__in.")

    def bound(self, arguments: list[Any], connection: Any) -> Any:
        """The argument as the database takes it."""
        value = arguments[self.index]
        value = value if self.item < 0 else value[self.item]
        if self.sets is not None:
            return self.sets.get_db_prep_save(value, connection)
        if isinstance(value, UUID) and not connection.features.has_native_uuid_field:
            return value.hex
        if isinstance(value, datetime):
            return connection.ops.adapt_datetimefield_value(value)
        return value


@dataclass(frozen=True, slots=True)
class _Made:
    sql: str
    params: tuple[Any, ...]  # constants and slots
    compiler: Any
    # Of a SELECT: the QuerySet, and what makes Python's values of the database's, by column.
    rows: Any = None
    converters: Any = None

    def bound(self, arguments: list[Any], connection: Any) -> list[Any]:
        return [p.bound(arguments, connection) if isinstance(p, _Slot) else p for p in self.params]


def prepared(build: Callable[P, QuerySet[Any, R]]) -> Callable[P, list[R]]:
    """Have a function that describes a query answer with its rows, read anew at each call."""
    made = functools.lru_cache(_KEPT)(functools.partial(_made, build, _select))

    @functools.wraps(build)
    def run(*args: P.args, **_: P.kwargs) -> list[R]:
        connection = connections[DEFAULT_DB_ALIAS]
        arguments, shape = _shaped(args)
        query = made(connection.vendor, shape)
        if query is None:
            return []
        return _rows(query, query.bound(arguments, connection), connection)

    return run


def prepared_update(
    build: Callable[P, tuple[QuerySet[Any, Any], dict[str, Any]]],
) -> Callable[P, int]:
    """The same for an UPDATE, described by (which rows, what they are set to); answers how many there were."""
    made = functools.lru_cache(_KEPT)(functools.partial(_made, build, _update))

    @functools.wraps(build)
    def run(*args: P.args, **_: P.kwargs) -> int:
        connection = connections[DEFAULT_DB_ALIAS]
        arguments, shape = _shaped(args)
        query = made(connection.vendor, shape)
        if query is None:
            return 0
        with connection.cursor() as cursor:
            cursor.execute(query.sql, query.bound(arguments, connection))
            return int(cursor.rowcount)

    return run


def insert(*rows: Model) -> None:
    """Write new rows, as their `save(force_insert=True)` would; no signal is sent. Raises IntegrityError."""
    connection = connections[DEFAULT_DB_ALIAS]
    with connection.cursor() as cursor:
        for row in rows:
            sql, fields, key = _insertion(type(row), connection.vendor)
            values = [f.get_db_prep_save(f.pre_save(row, add=True), connection) for f in fields]
            cursor.execute(sql, values)
            if key:
                setattr(row, key, cursor.fetchone()[0])
            row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS


@functools.cache
def _insertion(model: type[Model], _vendor: str) -> tuple[str, list[Field[Any, Any]], str]:
    """The SQL, whose values, and the attribute that the database counts ("" where we make the key)."""
    quote = connections[DEFAULT_DB_ALIAS].ops.quote_name
    key: Any = model._meta.pk
    counted = isinstance(key, AutoField)
    fields: list[Any] = [f for f in model._meta.concrete_fields if not (counted and f is key)]
    columns = ", ".join(quote(field.column) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    sql = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({places})"
    if counted:
        return f"{sql} RETURNING {quote(key.column)}", fields, key.attname
    return sql, fields, ""


def first(rows: Iterable[R]) -> R | None:
    return next(iter(rows), None)


def prefetched(row: Model, name: str, related: list[Any]) -> None:
    """Have `row.<name>.all()` answer with these rows, as Django has it after `prefetch_related`."""
    found: Any = getattr(row, name).all()
    found._result_cache, found._prefetch_done = related, True
    kept: Any = row
    kept._prefetched_objects_cache = {**getattr(row, "_prefetched_objects_cache", {}), name: found}


def _shaped(args: tuple[Any, ...]) -> tuple[list[Any], tuple[int, ...]]:
    """The arguments, sets as lists; and what the SQL depends on: the length of each list, -1 for a value."""
    arguments = [list(a) if isinstance(a, _LISTS) else a for a in args]
    return arguments, tuple(len(a) if isinstance(a, list) else -1 for a in arguments)


def _made(build: Any, compiled: Any, _vendor: str, shape: tuple[int, ...]) -> _Made | None:
    """None when no row can match: a list is empty."""
    slots = [
        _Slot(index) if length < 0 else [_Slot(index, item) for item in range(length)]
        for index, length in enumerate(shape)
    ]
    try:
        made: _Made = compiled(build(*slots))
    except EmptyResultSet:
        return None
    return made


def _select(rows: QuerySet[Any, Any]) -> _Made:
    compiler, sql, params = _compiled(rows.query)
    columns = [selected[0] for selected in compiler.select[: compiler.col_count]]
    return _Made(sql, params, compiler, rows, compiler.get_converters(columns))


def _update(described: tuple[QuerySet[Any, Any], dict[str, Any]]) -> _Made:
    rows, values = described
    query: Any = rows.query.chain(UpdateQuery)
    query.add_update_values(values)
    for field, _, value in query.values:
        if isinstance(value, _Slot):
            value.sets = field
    compiler, sql, params = _compiled(query)
    return _Made(sql, params, compiler)


def _compiled(query: Any) -> tuple[Any, str, tuple[Any, ...]]:
    """With a connection of its own: what is kept must not hold on to that of the thread that came first."""
    connection = connections.create_connection(DEFAULT_DB_ALIAS)
    try:
        compiler = query.get_compiler(connection=connection)
        sql, params = compiler.as_sql()
    finally:
        connection.close()  # some questions about a server are asked of it
    return compiler, sql, tuple(params)


def _rows(made: _Made, params: list[Any], connection: Any) -> list[Any]:
    """As Django reads them, by a copy of the compiler that needs not compile any more."""
    compiler, query = copy.copy(made.compiler), copy.copy(made.rows.query)
    compiler.connection = connection
    compiler.as_sql = lambda *_, **__: (made.sql, params)
    compiler.get_converters = lambda *_: made.converters
    query.get_compiler = lambda *_, **__: compiler
    rows: Any = QuerySet(made.rows.model, query)
    rows._iterable_class, rows._fields = made.rows._iterable_class, made.rows._fields
    return list(rows._iterable_class(rows))
