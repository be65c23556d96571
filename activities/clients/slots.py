"""Replication slots and publications of a source, as its catalogue shows them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import errors

from activities.clients.postgres import PostgresSettings, check_encoding, faults_of
from activities.core.changelogs import lsn_number
from activities.core.faults import LockTaken, PostgresRefused, SlotLost

OLDEST_SERVER = 150_000
DROP_SECONDS = 10.0
MEMBERSHIPS: LiteralString = """
    ARRAY(
        SELECT r.oid::bigint FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid
        UNION ALL SELECT n.oid::bigint FROM pg_catalog.pg_publication_namespace n
            WHERE n.pnpubid = p.oid AND n.pnnspid = c.relnamespace
        UNION ALL SELECT p.oid::bigint WHERE p.puballtables
    )
"""
"""By what a table `c` (of pg_class) belongs to a publication `p`: itself, its schema, or with all tables. What is taken
out and put in again has another oid, and so has one whose row filter or columns were changed.
"""
PARTLY: LiteralString = """
    EXISTS (
        SELECT FROM pg_catalog.pg_publication_rel r
        WHERE r.prpubid = p.oid AND r.prrelid = c.oid AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL)
    )
"""
"""Whether a publication `p` leaves out rows or columns of a table `c`."""
LEFT_OUT: LiteralString = """
    SELECT concat_ws(', ', CASE WHEN NOT pubinsert THEN 'inserts' END, CASE WHEN NOT pubupdate THEN 'updates' END,
        CASE WHEN NOT pubdelete THEN 'deletes' END, CASE WHEN NOT pubtruncate THEN 'truncates' END,
        CASE WHEN NOT pubviaroot AND EXISTS (
            SELECT FROM pg_get_publication_tables(pubname) t JOIN pg_class c ON c.oid = t.relid WHERE c.relispartition
        ) THEN 'the names of partitioned tables' END)
    FROM pg_publication WHERE pubname = %s
"""
INSTALL = "`icefleet cdc install --again` copies its tables anew and goes on from there"


@dataclass(frozen=True)
class SlotState:
    """One slot."""

    confirmed_lsn: int
    """What was committed before it is not sent any more."""
    retained_bytes: int
    """Log that the source keeps for it."""
    log_lsn: int
    """Where the source's log ends."""
    flushed_lsn: int
    """What of it is on its disk, and so can be sent."""
    active: bool
    """Whether somebody reads from it just now."""


class Slots:
    """A session with the source; see `open_slots`."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], name: str) -> None:
        self.connection = connection
        self.name = name

    async def check_server(self) -> None:
        """Make sure that the server logs what captures need.

        Raises:
            PostgresRefused: it is too old, `wal_level` is another, or the database's texts are not UTF-8.
        """
        check_encoding(self.connection, self.name)
        with faults_of(self.name):
            asked = await self.connection.execute(
                "SELECT current_setting('wal_level'), current_setting('server_version_num')::int, "
                "current_setting('server_version')"
            )
            level, number, version = await asked.fetchone() or ("", 0, "")
        if number < OLDEST_SERVER:
            raise PostgresRefused(f"{self.name}: this is PostgreSQL {version}; capture needs 15 or newer")
        if level != "logical":
            raise PostgresRefused(
                f"{self.name}: wal_level is {level!r}, so no changes of rows can be read; set `wal_level = logical` in "
                "postgresql.conf (or by ALTER SYSTEM) and restart that server"
            )

    async def state(self, slot: str) -> SlotState | None:
        """A slot as it is; None when there is none.

        Raises:
            SlotLost: the server gave it up.
            PostgresRefused: a slot of that name is something else.
        """
        with faults_of(self.name):
            asked = await self.connection.execute(
                """
                WITH log (lsn, flushed) AS (
                    SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                        ELSE pg_current_wal_insert_lsn() END,
                        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END
                )
                SELECT plugin, database = current_database(), coalesce(wal_status, ''), confirmed_flush_lsn::text,
                    coalesce(pg_wal_lsn_diff(lsn, restart_lsn), 0)::bigint, lsn::text, flushed::text, active
                FROM pg_replication_slots CROSS JOIN log WHERE slot_name = %s
                """,
                (slot,),
            )
            row = await asked.fetchone()
        if row is None:
            return None
        plugin, here, status, confirmed, retained, log, flushed, active = row
        if plugin != "pgoutput" or not here:
            raise PostgresRefused(
                f"{self.name}: slot {slot} is of plugin {plugin}{'' if here else ' in another database'}, so it is not "
                "this pipeline's; give the pipeline another `slot`, or drop that one"
            )
        if status == "lost" or confirmed is None:
            raise SlotLost(
                f"{self.name}: the server has given up slot {slot} (invalidated; see max_slot_wal_keep_size and "
                f"pg_replication_slots), and with it changes that were not captured; {INSTALL}"
            )
        return SlotState(lsn_number(confirmed), int(retained), lsn_number(log), lsn_number(flushed), active)

    async def create(self, slot: str) -> int:
        """Make a slot, once transactions that run have ended; what is committed at its position or later is read."""
        with faults_of(self.name):
            made = await self.connection.execute(
                "SELECT lsn::text FROM pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,)
            )
            return lsn_number((await made.fetchone() or ("0/0",))[0])

    async def drop(self, slot: str) -> bool:
        """Drop a slot if it is there, once its reader has gone.

        Raises:
            LockTaken: its reader stays.
        """
        with faults_of(self.name):
            for _ in range(int(DROP_SECONDS * 10)):
                try:
                    await self.connection.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
                except errors.UndefinedObject:
                    return False
                except errors.ObjectInUse:
                    # The server notices a moment later that a reader has left.
                    await asyncio.sleep(0.1)
                else:
                    return True
        raise LockTaken(f"{self.name}: slot {slot} is still read by somebody; stop that capture, then try again")

    async def publication_id(self, publication: str) -> int | None:
        """The oid of a publication; None when there is none of that name."""
        with faults_of(self.name):
            asked = await self.connection.execute(
                "SELECT oid::bigint FROM pg_publication WHERE pubname = %s", (publication,)
            )
            row = await asked.fetchone()
        return None if row is None else int(row[0])

    async def left_out(self, publication: str) -> str:
        """Which changes a publication does not tell of, in words; empty: it tells of all, or is not there."""
        with faults_of(self.name):
            row = await (await self.connection.execute(LEFT_OUT, (publication,))).fetchone()
        return str(row[0]) if row else ""

    async def published(self, publication: str) -> dict[int, set[int]]:
        """The oids of the tables of a publication, and by which memberships each belongs to it."""
        with faults_of(self.name):
            asked = await self.connection.execute(
                "SELECT c.oid::bigint," + MEMBERSHIPS + "FROM pg_publication p CROSS JOIN LATERAL "
                "pg_get_publication_tables(p.pubname) t JOIN pg_class c ON c.oid = t.relid WHERE p.pubname = %s",
                (publication,),
            )
            return {relid: set(memberships) for relid, memberships in await asked.fetchall()}

    async def existing(self, relids: list[int]) -> set[int]:
        """Those of some tables that were not dropped."""
        with faults_of(self.name):
            asked = await self.connection.execute(
                "SELECT oid::bigint FROM pg_class WHERE oid::bigint = ANY (%s)", (relids,)
            )
            return {int(row[0]) for row in await asked.fetchall()}

    async def name_of(self, relid: int) -> tuple[str, str] | None:
        """Schema and name that a table has now; None when it was dropped."""
        with faults_of(self.name):
            asked = await self.connection.execute(
                "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE c.oid::bigint = %s",
                (relid,),
            )
            return await asked.fetchone()


def leaves_out(table: str, publication: str) -> PostgresRefused:
    """What to say of a table of which a publication leaves out rows or columns."""
    return PostgresRefused(
        f"source table {table}: publication {publication} leaves out rows or columns of it, so its changelog would not "
        "be what the table is; take it out of the publication, and install again"
    )


@contextlib.asynccontextmanager
async def open_slots(settings: PostgresSettings) -> AsyncIterator[Slots]:
    """A session with a source, until the end of the block.

    Raises:
        PostgresRefused: login, rights or database are wrong.
        PostgresUnavailable: nobody answers.
    """
    connection = await settings.connect()
    try:
        yield Slots(connection, settings.name)
    finally:
        await connection.close()
