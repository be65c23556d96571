"""PostgreSQL's streaming replication protocol, over psycopg: slots with a snapshot, the log of a slot."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, sql

from activities.clients.postgres import PostgresSettings, faults_of
from activities.core.changelogs import lsn_number
from activities.core.faults import LockTaken, PostgresUnavailable


@dataclass(frozen=True)
class ExportedSnapshot:
    """A position of the log, and the rows that were there at exactly that position."""

    lsn: int
    """What was committed before it is in the snapshot; what came at it or later is in the log."""
    name: str
    """For `SET TRANSACTION SNAPSHOT`."""


@contextlib.asynccontextmanager
async def exported_snapshot(
    settings: PostgresSettings, slot: str, *, temporary: bool
) -> AsyncIterator[ExportedSnapshot]:
    """Make a slot, and hold the snapshot of where it begins until the end of the block; a temporary slot ends with it.

    Waits for transactions that were running when it began.

    Raises:
        PostgresRefused: the source writes no logical log, or the user may not replicate.
        PostgresUnavailable: it cannot be reached.
        LockTaken: there is a slot of that name.
    """
    connection = await _replicating(settings)
    try:
        yield await _made(connection, settings.name, slot, temporary=temporary)
    finally:
        await connection.close()


async def _made(connection: psycopg.AsyncConnection[Any], name: str, slot: str, *, temporary: bool) -> ExportedSnapshot:
    make = sql.SQL("CREATE_REPLICATION_SLOT {} {}LOGICAL pgoutput (SNAPSHOT 'export')").format(
        sql.Identifier(slot), sql.SQL("TEMPORARY " if temporary else "")
    )
    with faults_of(name):
        try:
            created = await connection.execute(make)
        except errors.DuplicateObject as there:
            raise LockTaken(f"{name}: slot {slot} is there already; wait for its owner, or drop it") from there
        row = await created.fetchone()
    if row is None:
        raise PostgresUnavailable(f"{name}: no answer to the making of slot {slot}; try again")
    return ExportedSnapshot(lsn_number(row[1]), row[2])


async def _replicating(settings: PostgresSettings) -> psycopg.AsyncConnection[Any]:
    """A connection that speaks the replication protocol: simple queries only, values as UTF-8."""
    return await settings.connect(replication="database", client_encoding="utf8", prepare_threshold=None)
