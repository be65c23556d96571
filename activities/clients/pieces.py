"""What a COPY sends, in pieces of whole rows."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, generators, pq
from psycopg.abc import PQGen
from psycopg.waiting import Wait

from activities import spans

PIECE_BYTES = 2 * 2**20
"""From here on rows that were read are handed on; a piece is larger by one row at most."""


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
    with spans.request("postgresql copy", **{"db.system.name": "postgresql"}):
        async with connection.cursor() as cursor, cursor.copy(query.encode()):
            while True:
                piece, result = await connection.wait(_next(connection.pgconn))
                if result is None:
                    yield piece
                    continue
                if tally is not None:
                    tally.rows += result.command_tuples or 0
                if piece:
                    yield piece
                return


def _next(pgconn: pq.abc.PGconn) -> PQGen[tuple[bytes, pq.abc.PGresult | None]]:
    """The next piece, for `Connection.wait`; with the result of the COPY when there is no more."""
    held = bytearray()  # a list of rows would be thousands of views, which Python's collector goes through all the time
    while len(held) < PIECE_BYTES:
        length, row = pgconn.get_copy_data(1)
        if length > 0:
            held += row
        elif length == 0:
            while not (yield Wait.R):
                continue
            pgconn.consume_input()
        else:
            result: pq.abc.PGresult = (yield from generators.fetch_many(pgconn))[0]
            if result.status != pq.ExecStatus.COMMAND_OK:
                raise errors.error_from_result(result)
            return bytes(held), result
    return bytes(held), None
