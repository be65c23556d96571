"""A buffer with events that a test writes, and what the queries of `activities.core.eventquery` read from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from activities.clients.buffer_ddl import STATEMENTS
from activities.core.changelogs import ChangelogRules, lsn_text
from activities.core.drift import ChangelogColumns, first_columns, types_of
from activities.core.eventquery import copy_query, misfits_query, segment_query
from activities.core.sourcetables import SourceColumn, SourceTable
from support.csvrows import csv_rows

SCHEMA = 'the "buffer"'
COMMITTED = "2026-01-02 03:04:05.678901+00"
FIRST = "0" * 32


MADE = """
CREATE TYPE mood AS ENUM ('fine', 'so, so', 'it''s "bad"');
CREATE TYPE pair AS (a integer, b text);
CREATE DOMAIN positive AS integer CHECK (value > 0);
CREATE DOMAIN price AS numeric(12, 2);
CREATE DOMAIN tags AS text[];
"""
"""Types that people make."""


class RawJson(str):
    """JSON as it is to be written."""

    __slots__ = ()


class EventBuffer:
    """Events with growing ids; every `put` is one of its own transaction unless told otherwise."""

    def __init__(self, connection: psycopg.Connection[Any], rules: ChangelogRules | None = None) -> None:
        self.connection = connection
        self.rules = rules or ChangelogRules()
        self._lsn = 0x1000
        for statement in STATEMENTS:
            made = sql.SQL(statement).format(schema=sql.Identifier(SCHEMA), channel=sql.Literal(SCHEMA))
            self.connection.execute(made)
        self.connection.execute(MADE.encode())

    def put(
        self,
        table: SourceTable,
        new: Any = None,
        *,
        old: Any = None,
        operation: str = "insert",
        unchanged: tuple[str, ...] = (),
        lsn: int | None = None,
        ordinal: int = 0,
        committed: str = COMMITTED,
    ) -> int:
        """The id of a new event."""
        self._lsn += 1
        rows = [None if row is None else _jsonb(row) for row in (old, new)]
        made = self.connection.execute(
            sql.SQL(
                "INSERT INTO {}.events (source_schema, source_table, operation, commit_lsn, ordinal, committed_at, "
                "key_columns, old_row, new_row, unchanged) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id"
            ).format(sql.Identifier(SCHEMA)),
            [
                *(table.schema, table.name, operation, lsn_text(lsn or self._lsn), ordinal, committed),
                *(list(table.key), *rows, list(unchanged)),
            ],
        ).fetchone()
        assert made is not None
        return int(made[0])

    def read(self, table: SourceTable, columns: ChangelogColumns | None = None, **more: Any) -> list[list[str | None]]:
        """The rows of a segment; by default of every event, with the table's columns as they are."""
        asked = segment_query(*self._asked(table, columns, more), more.get("copied_lsn"))
        return self.copied(asked.sql)

    def misfits(
        self, table: SourceTable, columns: ChangelogColumns | None = None, **more: Any
    ) -> list[tuple[int, str]]:
        """What of a segment cannot be written."""
        asked = misfits_query(*self._asked(table, columns, more), more.get("copied_lsn"))
        return self.connection.execute(asked.encode()).fetchall()

    def copy(self, table: SourceTable, rules: ChangelogRules | None = None) -> list[list[str | None]]:
        """The rows of the table itself."""
        columns = first_columns(table, self.rules, FIRST)
        asked = copy_query(table, columns, types_of(columns), rules or self.rules, 0x2A00000001, COMMITTED)
        return self.copied(asked.sql)

    def copied(self, statement: str) -> list[list[str | None]]:
        """What COPY writes."""
        with self.connection.cursor().copy(statement.encode()) as stream:
            return csv_rows(b"".join(bytes(piece) for piece in stream).decode())

    def _asked(self, table: SourceTable, columns: ChangelogColumns | None, more: dict[str, Any]) -> tuple[Any, ...]:
        state = columns or first_columns(table, self.rules, FIRST)
        types = more.get("types") or types_of(state)
        rules = more.get("rules") or self.rules
        return SCHEMA, table, state, types, rules, more.get("first", 0), more.get("last", 10**12)


def _jsonb(row: Any) -> Jsonb:
    return Jsonb(row, dumps=str if isinstance(row, RawJson) else None)


@contextmanager
def rolled_back(buffer: EventBuffer) -> Iterator[None]:
    """Nothing of what happens inside stays."""
    with buffer.connection.transaction(force_rollback=True):
        yield


def one_column(column: SourceColumn) -> SourceTable:
    """The table `t` of a key and one column."""
    return SourceTable("public", "t", (SourceColumn("id", "bigint"), column), ("id",))
