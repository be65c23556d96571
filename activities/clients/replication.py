"""PostgreSQL's streaming replication protocol, over psycopg: slots with a snapshot, the log of a slot."""

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, pq, sql

from activities import spans
from activities.clients.lineage import Known, lineage_of
from activities.clients.postgres import PostgresSettings, fault_of, faults_of, text_of
from activities.core.changelogs import lsn_number, lsn_text
from activities.core.faults import Fault, LockTaken, PostgresUnavailable

QUIET_SECONDS = 20.0
"""After so long without a word the server is asked for one."""
SILENT_SECONDS = 60.0
"""After so long the connection counts as lost."""
_EPOCH_MICROSECONDS = 946_684_800_000_000
"""From 1970 to 2000, where PostgreSQL's clock begins."""
_KEEPALIVE = struct.Struct("!qqb")
_STATUS = struct.Struct("!cqqqqb")
_WAL, _BEAT = b"wk"
_HEAD = 25
"""Bytes before the message of the plugin."""


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
    return await settings.connect(replication="database", prepare_threshold=None)


class LogStream:
    """What a slot's publication logs, as `pgoutput` messages; see `open_log`."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], name: str) -> None:
        self._pgconn = connection.pgconn
        self._connection = connection
        self._name = name
        self._heard = time.monotonic()
        self._asked = False
        self.answer_wanted = False
        """Whether the server waits to hear how far we are, as it does before it shuts down."""

    async def lineage(self, known: Known) -> str:
        """Of which server and timeline the log is; see `lineage_of`."""
        return await lineage_of(self._connection, self._name, known)

    async def start(self, slot: str, publication: str, lsn: int) -> None:
        """Have everything sent that was committed at `lsn` or later.

        Raises:
            LockTaken: somebody else reads the slot.
            PostgresRefused: there is no such slot or publication.
            PostgresUnavailable: the connection is lost.
        """
        with faults_of(self._name):
            await self._start(slot, publication, lsn)

    async def _start(self, slot: str, publication: str, lsn: int) -> None:
        quoted = sql.Identifier(publication).as_string(self._connection)
        command = sql.SQL(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {}, messages 'true')"
        ).format(sql.Identifier(slot), sql.SQL(lsn_text(lsn)), sql.Literal(quoted))
        self._pgconn.send_query(command.as_bytes(self._connection))
        self._pgconn.nonblocking = 1
        while True:
            self._pgconn.flush()
            if not self._pgconn.is_busy():
                break
            await self._readable(None)
            self._pgconn.consume_input()
        result = self._pgconn.get_result()
        if result is None or result.status != pq.ExecStatus.COPY_BOTH:
            raise self._end(result, slot)

    def take(self, most: int) -> list[bytes | int]:
        """What has arrived: messages, and positions up to which everything was sent before.

        Raises:
            PostgresUnavailable: the server ended the stream.
            PostgresRefused: it says why, and that will not pass.
        """
        found: list[bytes | int] = []
        take = self._pgconn.get_copy_data
        while len(found) < most:
            size, piece = take(1)
            if size <= 0:
                if size < 0:
                    raise self._end(self._pgconn.get_result(), "")
                break
            if piece[0] == _WAL:
                found.append(bytes(piece[_HEAD:]))
            elif piece[0] == _BEAT:
                position, _, wants_answer = _KEEPALIVE.unpack_from(piece, 1)
                self.answer_wanted |= bool(wants_answer)
                found.append(position)
        if found:
            self._heard, self._asked = time.monotonic(), False
        return found

    async def wait(self, seconds: float, confirmed: int) -> bool:
        """Wait until something arrives; False: nothing did.

        Raises:
            PostgresUnavailable: the connection is lost, or the server has been silent for long.
        """
        arrived = await self._readable(seconds)
        with faults_of(self._name):
            if arrived:
                self._pgconn.consume_input()
                return True
            self._pgconn.flush()
        silent = time.monotonic() - self._heard
        if silent > SILENT_SECONDS:
            raise PostgresUnavailable(f"{self._name}: no sign of life for {silent:.0f} s; look at that server")
        if silent > QUIET_SECONDS and not self._asked:
            self._asked = True
            self.confirm(confirmed, ask=True)
        return False

    def confirm(self, lsn: int, *, ask: bool = False) -> None:
        """Tell the server that everything before `lsn` is safe, so that it may forget it."""
        now = time.time_ns() // 1000 - _EPOCH_MICROSECONDS
        with faults_of(self._name):
            self._pgconn.put_copy_data(_STATUS.pack(b"r", lsn, lsn, lsn, now, ask))
            self._pgconn.flush()
        self.answer_wanted = False

    async def _readable(self, seconds: float | None) -> bool:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._pgconn.socket, ready.set)
        try:
            async with asyncio.timeout(seconds):
                await ready.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._pgconn.socket)
        return True

    def _end(self, result: pq.abc.PGresult | None, slot: str) -> Fault:
        """Why there is nothing more."""
        if result is None or result.status != pq.ExecStatus.FATAL_ERROR:
            return PostgresUnavailable(f"{self._name}: the server ended the log's stream; it may be shutting down")
        failed = errors.error_from_result(result)
        if isinstance(failed, errors.ObjectInUse):
            return LockTaken(f"{self._name}: {text_of(failed)}; another worker reads slot {slot}")
        return fault_of(self._name, failed)


@contextlib.asynccontextmanager
async def open_log(settings: PostgresSettings) -> AsyncIterator[LogStream]:
    """A connection for the log, which is yet to be started, until the end of the block.

    Raises:
        PostgresRefused: the user may not replicate.
        PostgresUnavailable: the server cannot be reached.
    """
    connection = await _replicating(settings)
    try:
        with spans.request("postgresql replication", **{"db.system.name": "postgresql"}):
            yield LogStream(connection, settings.name)
    finally:
        await connection.close()
