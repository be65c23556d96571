"""Answers: headers, bodies that stream from the engine with back-pressure, and INSERTs that stream into it."""

import asyncio
import contextlib
import dataclasses
import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from aiohttp import web

from deploy.local.clickhouse import compression
from deploy.local.clickhouse.call import Body
from deploy.local.clickhouse.engine import EngineConnection, Progress
from deploy.local.clickhouse.faults import EngineError, trailer
from deploy.local.clickhouse.running import Running
from deploy.local.clickhouse.sql import InsertHead, Reading

PIECE = 1 << 18
# Bytes held back before the status line goes out, as http_response_buffer_size has it: a query that fails before it
# has produced as much is answered with a proper status.
HELD_BACK = 1 << 20
_PIPE_BYTES = 1 << 20
_SPOOL_IN_MEMORY = 16 << 20
_CONTENT_TYPES = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "Native": "application/octet-stream",
    "Parquet": "application/octet-stream",
    "ArrowStream": "application/vnd.apache.arrow.stream",
}


@dataclasses.dataclass(frozen=True)
class Envelope:
    """What every answer to one request says in its headers."""

    query_id: str
    timezone: str
    version: str
    tag: str

    def headers(self, progress: Progress, output_format: str = "") -> dict[str, str]:
        """ClickHouse's headers; `output_format` is empty when the statement has no result."""
        summary = {name: str(value) for name, value in dataclasses.asdict(progress).items()}
        headers = {
            "X-ClickHouse-Server-Display-Name": socket.gethostname(),
            "X-ClickHouse-Query-Id": self.query_id,
            "X-ClickHouse-Timezone": self.timezone,
            "X-ClickHouse-Exception-Tag": self.tag,
            "X-ClickHouse-Summary": json.dumps(summary, separators=(",", ":")),
            "Content-Type": _CONTENT_TYPES.get(output_format, "text/plain; charset=UTF-8"),
        }
        if output_format:
            headers["X-ClickHouse-Format"] = output_format
        return headers

    def fault(self, fault: EngineError) -> web.Response:
        """The answer to a query that failed before its first byte."""
        headers = self.headers(Progress()) | {"X-ClickHouse-Exception-Code": str(fault.code)}
        return web.Response(status=fault.status, headers=headers, body=fault.text(self.version).encode())


class PipedResult:
    """A statement whose result the engine writes into a pipe: one stream of one format, and never ahead of its reader.

    The engine's own streaming interface encodes every block as a file of its own, which is no stream for formats with
    a header or a footer such as Parquet; INTO OUTFILE encodes the result as a whole.
    """

    def __init__(self, connection: EngineConnection, statement: Reading, default_format: str) -> None:
        self._connection = connection
        self._statement = statement
        self._default_format = default_format
        self._reader = asyncio.StreamReader(limit=PIECE)

    async def start(self) -> None:
        """Let the engine begin."""
        reading, writing = os.pipe()
        with contextlib.suppress(PermissionError):
            # A larger pipe saves wake-ups; systems that ration pipe memory refuse it, and the default works as well.
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader), os.fdopen(reading, "rb", 0)
        )
        sql = self._statement.into(f"/dev/fd/{writing}")
        self._query = self._connection.submit(
            lambda connection: self._connection.query_here(connection, sql, self._default_format)
        )
        # The engine opens the pipe anew; our writing end only keeps it open until the query has ended.
        self._query.add_done_callback(lambda _: os.close(writing))

    async def read(self) -> bytes:
        """The next piece, empty at the end."""
        return await self._reader.read(PIECE)

    async def finish(self) -> None:
        """Wait for the query's end.

        Raises:
            EngineError: the query failed.
        """
        await asyncio.wrap_future(self._query)

    async def ends_within(self, seconds: float) -> bool:
        """Read on and forget what comes, so that the engine is not stuck in writing; whether the query has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while await self.read():
                    pass
                return True
        return False


async def stream_result(
    request: web.Request, result: PipedResult, running: Running, envelope: Envelope, output_format: str,
    progress: Progress, coding: tuple[str, compression.Encoder], *, whole: bool,
) -> web.StreamResponse:  # fmt: skip
    """Send a result as the engine produces it; with `whole`, send nothing before the query has ended well.

    Raises:
        EngineError: the query failed before anything was sent.
    """
    name, encoder = coding
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_IN_MEMORY) as held:
        while (piece := await running.unless_killed(result.read())) and (whole or held.tell() < HELD_BACK):
            held.write(piece)
        if not piece:
            await running.unless_killed(result.finish())
        response = web.StreamResponse(headers=envelope.headers(progress, output_format))
        if name:
            response.headers["Content-Encoding"] = name
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            for held_piece in _pieces(held):
                await running.unless_killed(response.write(encoder.compress(held_piece)))
            while piece:
                await running.unless_killed(response.write(encoder.compress(piece)))
                piece = await running.unless_killed(result.read())
            await running.unless_killed(result.finish())
        except EngineError as fault:
            await _break_off(request, response, encoder, trailer(fault.text(envelope.version), envelope.tag))
            raise
        await response.write(encoder.flush())
    await response.write_eof()
    return response


def _pieces(held: IO[bytes]) -> Iterator[bytes]:
    held.seek(0)
    while piece := held.read(PIECE):
        yield piece


async def _break_off(
    request: web.Request, response: web.StreamResponse, encoder: compression.Encoder, ending: bytes
) -> None:
    """End a body with the exception's block and without the closing chunk, as ClickHouse does."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        # A client that does not read keeps nothing waiting: the block is in the socket's buffer, or it is gone.
        async with asyncio.timeout(1):
            await response.write(encoder.compress(ending) + encoder.flush())
    if request.transport is not None:
        request.transport.close()


async def insert(connection: EngineConnection, running: Running, head: InsertHead, first: bytes, body: Body) -> None:
    """Stream the data of an INSERT into the engine; the connection's progress tells what was written.

    Raises:
        EngineError: the statement or its data are wrong, or the query was killed; nothing is committed then but the
            blocks that the engine had already written.
    """
    # chDB takes bytes for SQL as well.
    statement: Any = head.statement
    # chDB leaves the stream's methods untyped.
    stream: Any = await connection.run(lambda engine: engine.send_insert(statement, head.format))
    try:
        piece = first or await running.unless_killed(body.next())
        while piece:
            data = piece
            await connection.run(lambda _: stream.append(data))  # noqa: B023 - awaited before the next turn
            piece = await running.unless_killed(body.next())
        written = await connection.run(lambda _: stream.finish())
    finally:
        # Does nothing after a finish; on every other way out the engine must not keep what came so far.
        connection.submit(lambda _: stream.cancel())
    progress = connection.progress
    progress.read_rows = progress.written_rows = progress.result_rows = written.rows_written
    progress.read_bytes = progress.written_bytes = progress.result_bytes = written.bytes_written
