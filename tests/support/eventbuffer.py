"""A buffer with events that a test writes, and what the queries of `activities.core.eventquery` read from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from activities.clients.buffer_ddl import STATEMENTS
from activities.clients.buffer_holder import statement
from activities.core.changelogs import ChangelogRules, lsn_text
from activities.core.copyquery import copy_query
from activities.core.drift import ChangelogColumns, first_columns, types_of
from activities.core.eventquery import EventQuery, SegmentEvents, misfits_query, quick_query, segment_query
from activities.core.faults import UnsupportedType
from activities.core.sourcetables import SourceColumn, SourceTable
from activities.lake.rows import csv_table
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
        self.read_slowly: list[str] = []
        """Why segments that can be read could not be read quickly."""
        self._lsn = 0x1000
        for text in STATEMENTS:
            self.connection.execute(statement(text, SCHEMA))
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
        """The rows of a segment; by default of every event, with the table's columns as they are.

        The quick way of reading them is held to the same: it fails wherever this does, and brings what this brings.
        """
        asked = self._asked(table, columns, more)
        whole, quick = segment_query(asked), quick_query(asked)
        try:
            with self.connection.transaction():
                found = self._copied(whole.sql)
        except psycopg.Error:
            with pytest.raises((psycopg.Error, UnsupportedType)), self.connection.transaction():
                csv_table(self._copied(quick.sql), quick.columns)
            raise
        self._compare(csv_table(found, whole.columns), quick)
        return csv_rows(found.decode())

    def _compare(self, wanted: pa.Table, quick: EventQuery) -> None:
        try:
            with self.connection.transaction():
                found = csv_table(self._copied(quick.sql), quick.columns)
        except (psycopg.Error, UnsupportedType) as slower:
            self.read_slowly.append(str(slower))
            return
        place = "cdc_sequence_number"
        in_order = found.take(pa.array(sorted(range(found.num_rows), key=found.column(place).to_pylist().__getitem__)))
        assert repr(in_order.to_pylist()) == repr(wanted.to_pylist())  # NaN is NaN, and zeros have signs

    def misfits(
        self, table: SourceTable, columns: ChangelogColumns | None = None, **more: Any
    ) -> list[tuple[int, str]]:
        """What of a segment cannot be written."""
        asked = misfits_query(self._asked(table, columns, more))
        return self.connection.execute(asked.encode()).fetchall()

    def copy(self, table: SourceTable, rules: ChangelogRules | None = None) -> list[list[str | None]]:
        """The rows of the table itself."""
        columns = first_columns(table, self.rules, FIRST)
        asked = copy_query(table, columns, types_of(columns), rules or self.rules, 0x2A00000001, COMMITTED)
        return self.copied(asked.sql)

    def copied(self, statement: str) -> list[list[str | None]]:
        """What COPY writes."""
        return csv_rows(self._copied(statement).decode())

    def _copied(self, statement: str) -> bytes:
        with self.connection.cursor().copy(statement.encode()) as stream:
            return b"".join(bytes(piece) for piece in stream)

    def _asked(self, table: SourceTable, columns: ChangelogColumns | None, more: dict[str, Any]) -> SegmentEvents:
        state = columns or first_columns(table, self.rules, FIRST)
        types = more.get("types") or types_of(state)
        rules = more.get("rules") or self.rules
        first, last = more.get("first", 0), more.get("last", 10**12)
        return SegmentEvents(SCHEMA, table, state, types, rules, first, last, more.get("copied_lsn"))


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
