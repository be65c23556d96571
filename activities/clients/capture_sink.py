"""Where a capture writes: the events of a buffer, and how far it has come, in one transaction."""

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from opentelemetry.trace import Span
from psycopg import errors, sql
from psycopg.types.json import Jsonb

from activities import spans
from activities.clients.buffer_ddl import VERSION
from activities.clients.buffer_holder import number_of, statement
from activities.clients.postgres import WATCHED, PostgresSettings, faults_of
from activities.core.capture import COLUMNS, Described, dump_described, read_described
from activities.core.changelogs import lsn_number, lsn_text
from activities.core.faults import LockTaken, PostgresRefused

SESSION: LiteralString = (
    "SELECT" + WATCHED + ", "
    "set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), false)"
)
"""The server ends the transaction of a worker that is gone or frozen: it holds the turn of producers. One that
is frozen while it copies is not idle to the server, and must be ended by hand. And a commit is on its disk before it is
answered, whatever the role's default: the slot is told of it then, and never sends it again.
"""


@dataclass(frozen=True)
class Progress:
    """How far a pipeline's capture is."""

    slot: str
    publication_id: int | None
    captured_lsn: int | None
    """Everything before it is in the buffer; None: nothing was ever captured."""
    ended: str
    """Why it cannot go on; empty while it can."""
    lineage: str = ""
    """Of which server, and of which of its timelines, the position is; empty: nobody has looked."""


@dataclass(frozen=True)
class FollowedTable:
    """A table that the pipeline knows, as it was last captured."""

    state: str
    copied_lsn: int | None
    captured: Described | None
    told: bool = True
    """Whether the buffer has had a schema event of it since it was installed."""
    memberships: frozenset[int] | None = None
    """By what it belonged to the publication when it was copied (see `MEMBERSHIPS`); None: nobody looked."""


@dataclass(frozen=True)
class Stop:
    """A table that cannot be followed any further, at one position of the log."""

    schema: str
    name: str
    lsn: int
    cause: str
    anew: bool = False
    """Whether it goes on only with another copy."""


class Sink:
    """The buffer as a capture sees it; see `open_sink`. One task at a time may use it."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], name: str, schema: str) -> None:
        self._connection = connection
        self._name = name
        self._schema = schema
        self._copying: contextlib.AbstractAsyncContextManager[psycopg.AsyncCopy] | None = None
        self._copy: psycopg.AsyncCopy | None = None
        self._span: Span | None = None
        """Of the copy that is under way."""
        self._lineage: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether a transaction has begun that `commit` ends."""
        return self._copy is not None

    async def progress(self) -> Progress:
        """How far the capture is.

        Raises:
            PostgresRefused: there is no buffer, or it is of another version.
        """
        with faults_of(self._name):
            try:
                row = await self._one(
                    "SELECT version, slot, publication_id, captured_lsn::text, ended, lineage FROM {schema}.pipeline"
                )
            except (errors.UndefinedTable, errors.UndefinedColumn):
                row = None
        if row is None or row[0] != VERSION:
            raise PostgresRefused(
                f"{self._name}: there is no buffer of this version; make it with `icefleet cdc install`"
            )
        _, slot, publication_id, captured, ended, lineage = row
        position = lsn_number(captured) if captured else None
        return Progress(slot or "", publication_id, position, ended or "", lineage or "")

    async def install_alone(self) -> None:
        """Wait until nobody else installs, and have others wait until this session ends."""
        number = number_of(self._schema, "tables")
        with faults_of(self._name):
            await self._connection.execute(sql.SQL("SELECT pg_advisory_lock({})").format(number))

    async def begin(self, before: int | None, lineage: str) -> None:
        """Say of which server and timeline the position is from here on.

        Raises:
            LockTaken: somebody else moved the position from `before`.
        """
        with faults_of(self._name):
            moved = await self._connection.execute(
                self._sql(
                    "UPDATE {schema}.pipeline SET lineage = %s WHERE captured_lsn IS NOT DISTINCT FROM %s::pg_lsn"
                ),
                (lineage, None if before is None else lsn_text(before)),
            )
        if moved.rowcount != 1:
            raise self.overtaken()
        self._lineage = lineage

    async def tables(self) -> dict[tuple[str, str], FollowedTable]:
        """The tables that the pipeline knows, by schema and name."""
        with faults_of(self._name):
            found = await self._connection.execute(
                self._sql(
                    "SELECT source_schema, source_table, state, copied_lsn::text, captured, memberships "
                    "FROM {schema}.tables"
                )
            )
            return {
                (schema, name): FollowedTable(
                    state,
                    lsn_number(lsn) if lsn else None,
                    read_described(captured) if captured else None,
                    (captured or {}).get("told", True),
                    None if memberships is None else frozenset(memberships),
                )
                for schema, name, state, lsn, captured, memberships in await found.fetchall()
            }

    async def ask(self, text: LiteralString, values: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """What one statement answers, in which `{schema}` stands for that of the buffer."""
        with faults_of(self._name):
            return await (await self._connection.execute(self._sql(text), values)).fetchall()

    async def change(self, *changes: tuple[LiteralString, Mapping[str, object]]) -> None:
        """Statements and their values, in one transaction and this order; `{schema}` as in `ask`."""
        with faults_of(self._name):
            async with self._connection.transaction():
                for text, values in changes:
                    await self._connection.execute(self._sql(text), values or None)

    async def write(self, lines: Iterable[str]) -> None:
        """Add events, in order; nobody sees them before `commit`. Other producers wait from now until then."""
        with faults_of(self._name):
            if self._copy is None:
                await self._connection.execute("BEGIN")
                columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
                self._span = spans.start("postgresql copy", **{"db.system.name": "postgresql"})
                self._copying = self._connection.cursor().copy(
                    sql.SQL("COPY {}.events ({}) FROM STDIN").format(sql.Identifier(self._schema), columns)
                )
                self._copy = await self._copying.__aenter__()
            await self._copy.write("".join(lines).encode())

    async def commit(
        self, before: int | None, lsn: int, tables: Sequence[Described] = (), stops: Sequence[Stop] = ()
    ) -> None:
        """Make what was written visible, with the position up to which this is everything.

        Raises:
            LockTaken: somebody else moved the position from `before`: nothing of this was kept.
            PostgresUnavailable: the buffer is away; perhaps it was kept.
        """
        with faults_of(self._name):
            if self._copying is None:
                await self._connection.execute("BEGIN")
            else:
                await self._copying.__aexit__(None, None, None)
                self.close()
            self._copying = self._copy = None
            for table in tables:
                await self._keep(table)
            for stop in stops:
                await self.stop(stop)
            # Last, since whoever takes the ingest's lock changes this row too.
            moved = await self._connection.execute(
                self._sql(
                    "UPDATE {schema}.pipeline SET captured_lsn = %s, captured_at = clock_timestamp() "
                    "WHERE captured_lsn IS NOT DISTINCT FROM %s::pg_lsn AND lineage IS NOT DISTINCT FROM %s "
                    "AND ended IS NULL"
                ),
                (lsn_text(lsn), None if before is None else lsn_text(before), self._lineage),
            )
            if moved.rowcount != 1:
                await self._connection.execute("ROLLBACK")
                raise self.overtaken()
            await self._connection.execute("COMMIT")

    def close(self, failed: str = "") -> None:
        """No more is written; `failed` names what the copy that was under way ended with."""
        span, self._span = self._span, None
        if span is not None:
            spans.end(span, failed)

    def overtaken(self) -> LockTaken:
        """What to say when somebody else has moved the position."""
        return LockTaken(f"{self._name}: another capture wrote into the buffer; it goes on, and this one ends")

    async def end(self, why: str) -> None:
        """Say that nothing can be captured any more until it is installed again."""
        with faults_of(self._name):
            await self._connection.execute(self._sql("UPDATE {schema}.pipeline SET ended = %s"), (why,))

    async def register(self, table: Described, *, copying: bool) -> tuple[str, str]:
        """Know a table, and let it wait for its first copy if it is new or that is asked; its state then, and why."""
        with faults_of(self._name):
            found = await self._connection.execute(
                self._sql(
                    "INSERT INTO {schema}.tables AS t (source_schema, source_table, state, copying_lsn, captured) "
                    "VALUES (%(schema)s, %(name)s, 'copying', '0/0', %(captured)s) "
                    "ON CONFLICT (source_schema, source_table) DO UPDATE SET captured = excluded.captured, "
                    "state = CASE WHEN %(copying)s THEN 'copying' ELSE t.state END, "
                    "copying_lsn = CASE WHEN %(copying)s THEN '0/0' ELSE t.copying_lsn END, "
                    "asked = t.asked + %(copying)s::int, "
                    "cause = CASE WHEN %(copying)s THEN '' ELSE t.cause END RETURNING state, cause"
                ),
                {
                    "schema": table.table.schema,
                    "name": table.table.name,
                    "captured": Jsonb({**dump_described(table), "told": False}),
                    "copying": copying,
                },
            )
            state, cause = await found.fetchone() or ("", "")
        return state, cause

    async def forget(self) -> None:
        """Say that no slot fills the buffer, and no table is followed."""
        unfilled: LiteralString = (
            "UPDATE {schema}.pipeline SET slot = NULL, publication_id = NULL, captured_lsn = NULL, lineage = NULL, "
            "ended = NULL"
        )
        await self.change(("UPDATE {schema}.tables SET captured = NULL", {}), (unfilled, {}))

    async def _keep(self, table: Described) -> None:
        await self._connection.execute(
            self._sql("UPDATE {schema}.tables SET captured = %s WHERE source_schema = %s AND source_table = %s"),
            (Jsonb(dump_described(table)), table.table.schema, table.table.name),
        )

    async def stop(self, stop: Stop) -> None:
        """Stop a table that is active, unless it was copied later than that."""
        # What is to be copied, or was copied from later on, is not concerned.
        await self._connection.execute(
            self._sql(
                "UPDATE {schema}.tables SET state = 'stopped', cause = %s, "
                "copying_lsn = CASE WHEN %s THEN '0/0' ELSE copying_lsn END WHERE source_schema = %s "
                "AND source_table = %s AND state = 'active' AND (copied_lsn IS NULL OR copied_lsn <= %s::pg_lsn)"
            ),
            (stop.cause, stop.anew, stop.schema, stop.name, lsn_text(stop.lsn)),
        )

    async def _one(self, text: LiteralString, parameters: Sequence[object] = ()) -> tuple[Any, ...] | None:
        found = await self._connection.execute(self._sql(text), parameters or None)
        return await found.fetchone()

    def _sql(self, text: LiteralString) -> sql.Composed:
        return statement(text, self._schema)


@contextlib.asynccontextmanager
async def open_sink(settings: PostgresSettings, schema: str) -> AsyncIterator[Sink]:
    """A session with the buffer; what was not committed is undone when it ends.

    Raises:
        PostgresRefused: login, rights or database are wrong.
        PostgresUnavailable: nobody answers.
    """
    connection = await settings.connect()
    try:
        with faults_of(settings.name):
            await connection.execute(SESSION)
        sink = Sink(connection, f"{settings.name}, schema {schema}", schema)
        try:
            yield sink
        finally:
            sink.close("not committed")
    finally:
        await connection.close()
