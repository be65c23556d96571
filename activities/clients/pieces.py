"""What a COPY sends, in pieces of whole rows."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import psycopg

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
    async with connection.cursor() as cursor:
        async with cursor.copy(query.encode()) as copy:
            held: list[bytes | bytearray | memoryview] = []
            size = 0
            async for row in copy:
                held.append(row)
                size += len(row)
                if size >= PIECE_BYTES:
                    yield b"".join(held)
                    held, size = [], 0
        if tally is not None:
            tally.rows += cursor.rowcount
        if held:
            yield b"".join(held)
