"""A source table's columns, as its schema events tell them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from activities.core.faults import BadRequest

COLUMN_BITS = 16
"""As many as PostgreSQL's `attnum` has."""


@dataclass(frozen=True)
class SourceColumn:
    """One column of a PostgreSQL table."""

    name: str
    type: str
    """As `format_type` writes it: `bigint`, `numeric(10,2)`, `text[]`, `timestamp with time zone`, `public.mood`."""
    id: int | None = None
    """What stays when it is renamed, and differs when it is dropped and made again; None: unknown.

    The bits above the lowest `COLUMN_BITS` tell the table: they differ when that is dropped and made anew.
    """
    kind: str = "base"
    """`base`, `enum`, `domain`, `composite`, `range` … of the type's own or of its elements."""
    base: str = ""
    """Of a domain: the type below it, as `type`; else empty."""


@dataclass(frozen=True)
class SourceTable:
    """A table of the source as it is at one position of the log."""

    schema: str
    name: str
    columns: tuple[SourceColumn, ...]
    key: tuple[str, ...] = ()
    """The columns that identify a row; empty: there are none."""

    @property
    def identifier(self) -> str:
        """`schema.table`."""
        return f"{self.schema}.{self.name}"


def dump_table(table: SourceTable) -> dict[str, Any]:
    """The `new_row` of a schema event: `{"columns": [{"name", "type", "id", "kind", "base"}], "key": […]}`."""
    return {"columns": [_dump_column(column) for column in table.columns], "key": list(table.key)}


def _dump_column(column: SourceColumn) -> dict[str, Any]:
    told: dict[str, Any] = {"name": column.name, "type": column.type}
    if column.id is not None:
        told["id"] = column.id
    if column.kind != "base":
        told["kind"] = column.kind
    return told | ({"base": column.base} if column.base else {})


def parse_table(schema: str, name: str, event: Mapping[str, Any]) -> SourceTable:
    """The table of a schema event.

    Raises:
        BadRequest: the event is not of that form.
    """
    where = f"schema event of {schema}.{name}"
    columns, key = event.get("columns"), event.get("key", [])
    if not isinstance(columns, Sequence) or isinstance(columns, str) or not isinstance(key, Sequence):
        raise BadRequest(f"{where}: new_row must be {{'columns': [{{'name': …, 'type': …}}, …], 'key': […]}}")
    parsed = tuple(_column(where, column) for column in columns)
    names = [column.name for column in parsed]
    if len(set(names)) != len(names):
        raise BadRequest(f"{where}: a column is named twice among {', '.join(names)}")
    if missing := [str(column) for column in key if column not in names]:
        raise BadRequest(f"{where}: the key has {', '.join(missing)}, which is no column of it")
    return SourceTable(schema, name, parsed, tuple(key))


def _column(where: str, column: Any) -> SourceColumn:
    known = {"name": str, "type": str, "id": int, "kind": str, "base": str}
    if not isinstance(column, Mapping) or not {"name", "type"} <= set(column) <= set(known):
        raise BadRequest(f"{where}: a column is {{'name': …, 'type': …, 'id': …}}, and this is not: {column!r}")
    if wrong := [name for name, value in column.items() if not isinstance(value, known[name])]:
        raise BadRequest(f"{where}: {', '.join(wrong)} of column {column.get('name')!r} is of another kind")
    return SourceColumn(**column)
