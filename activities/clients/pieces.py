"""What a COPY sends, in pieces of whole rows."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, generators, pq
from psycopg.abc import PQGen
from psycopg.waiting import Wait

PIECE_BYTES = 2 * 2**20
"""From here on rows that were read are handed on; a piece is larger by one row at most."""

PAUSE_SECONDS = 0.002
"""So long rows may gather, once some have come. PostgreSQL sends some 8 kB at a time, and waiting for these takes this
process longer than PostgreSQL makes them."""


@dataclass
class Tally:
    """How many rows the server says that it sent; known when the last piece has come."""

    rows: int = 0


async def pieces(
    connection: psycopg.AsyncConnection[Any], query: str, tally: Tally | None = None
) -> AsyncGenerator[bytes, None]:
    """What a `COPY … TO STDOUT` of text lines sends, in pieces of whole rows, the last of them at its good end.

    Raises:
        psycopg.Error: as it came, since what is wrong with a value is the caller's to judge.
    """
    # The copy's own iterator goes through the event loop for each row, which takes longer than PostgreSQL's work on it.
    async with connection.cursor() as cursor, cursor.copy(query.encode()):
        held = bytearray()  # a list of rows would be thousands of views, which Python's collector goes through
        while (result := await connection.wait(_taken(connection.pgconn, held))) is None:
            if len(held) >= PIECE_BYTES:
                yield bytes(held)
                held.clear()
            else:
                await asyncio.sleep(PAUSE_SECONDS)
        if tally is not None:
            tally.rows += result.command_tuples or 0
        if held:
            yield bytes(held)


def _taken(pgconn: pq.abc.PGconn, held: bytearray) -> PQGen[pq.abc.PGresult | None]:
    """Add the rows that are there to `held`, one at least, for `Connection.wait`; the result of the COPY at its end."""
    before, looked = len(held), False
    while len(held) < PIECE_BYTES:
        length, row = pgconn.get_copy_data(1)
        if length > 0:
            held += row
            looked = False
        elif length < 0:
            return (yield from _result(pgconn))
        elif looked and len(held) > before:
            return None
        else:
            while looked and not (yield Wait.R):
                continue
            pgconn.consume_input()
            looked = True
    return None


def _result(pgconn: pq.abc.PGconn) -> PQGen[pq.abc.PGresult]:
    result: pq.abc.PGresult = (yield from generators.fetch_many(pgconn))[0]
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise errors.error_from_result(result)
    return result
