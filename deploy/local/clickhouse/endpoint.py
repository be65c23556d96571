"""The HTTP endpoint: one request in, one statement through the engine, one answer out."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from deploy.local.clickhouse import answers, compression, sql
from deploy.local.clickhouse.answers import Envelope, PipedResult
from deploy.local.clickhouse.call import Call, authenticate, understand
from deploy.local.clickhouse.engine import Engine, EngineConnection, Progress, quote
from deploy.local.clickhouse.faults import EngineError, new_tag
from deploy.local.clickhouse.running import Registry, Running

_HEAD_LIMIT = 1 << 20
_SYNC_KILL_SECONDS = 30
_KILL_AGAIN_SECONDS = 0.5
_KILLED = """SELECT '{state}' AS kill_status, query_id, user, query FROM system.http_processes
WHERE is_initial_query AND query_id IN ({wanted})"""


class Endpoint:
    """ClickHouse's HTTP interface over the embedded engine, for one user."""

    def __init__(self, engine: Engine, user: str, password: str) -> None:
        self._engine = engine
        self._user = user
        self._password = password
        self._registry = Registry()
        self._background: set[asyncio.Task[None]] = set()

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application()
        app.router.add_get("/ping", self._ping)
        app.router.add_get("/replicas_status", self._ping)
        app.router.add_route("*", "/", self._statement)
        return app

    async def stop(self) -> None:
        """Cancel every running query, and wait until the engine has let go of them."""
        ids = self._registry.ids()
        await self._engine.kill(ids)
        await asyncio.gather(*(running.gone.wait() for running in self._registry.kill(ids)))

    async def _ping(self, _request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _statement(self, request: web.Request) -> web.StreamResponse:
        query_id = request.query.get("query_id", "")
        envelope = Envelope(query_id, self._engine.timezone, self._engine.version, new_tag())
        try:
            authenticate(request, self._user, self._password)
            call = await understand(request)
            envelope = Envelope(call.setup.query_id, envelope.timezone, envelope.version, envelope.tag)
            return await self._serve(request, call, envelope)
        except EngineError as fault:
            return envelope.fault(fault)

    async def _serve(self, request: web.Request, call: Call, envelope: Envelope) -> web.StreamResponse:
        first = b"" if call.query else await call.body.next()
        if not call.query and not first:
            return web.Response(text="Ok.\n")
        running = self._registry.enter(call.setup.query_id)
        connection = self._engine.connect()
        try:
            await connection.prepare(call.setup)
            if sql.first_word(call.query + first) == b"INSERT":
                return await self._insert(call, first, connection, running, envelope)
            statement = _joined(call.query, first + await call.body.rest())
            kill = sql.kill_query(statement)
            if kill:
                return await self._kill(kill, call, connection, envelope)
            reading = sql.reading(sql.through_views(statement))
            if reading:
                return await self._read(request, call, reading, connection, running, envelope)
            return await self._run(statement, call, connection, envelope)
        finally:
            self._registry.leave_when_closed(running, connection)

    async def _read(
        self, request: web.Request, call: Call, reading: sql.Reading, connection: EngineConnection,
        running: Running, envelope: Envelope,
    ) -> web.StreamResponse:  # fmt: skip
        result = PipedResult(connection, reading, call.default_format)
        coding = compression.encoder(call.accept_encoding, enabled=bool(call.accept_encoding))
        await result.start()
        ended = False
        try:
            response = await answers.stream_result(
                request, result, running, envelope, reading.format or call.default_format, connection.progress, coding,
                whole=call.wait_end_of_query,
            )  # fmt: skip
            ended = True
        finally:
            if not ended:
                # The client went away, the query was killed, or it failed: the engine must stop in every case.
                self._in_background(self._abandon(result, call.setup.query_id))
        return response

    async def _abandon(self, result: PipedResult, query_id: str) -> None:
        await self._engine.kill([query_id])
        # A query that has just been sent may not be known to the engine yet, and escape the first time.
        while not await result.ends_within(_KILL_AGAIN_SECONDS):
            await self._engine.kill([query_id])

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _insert(
        self, call: Call, first: bytes, connection: EngineConnection, running: Running, envelope: Envelope
    ) -> web.Response:
        text = call.query + first
        head = sql.insert_head(text, complete=False)
        while head is None and len(text) < _HEAD_LIMIT and (piece := await call.body.next()):
            text = _joined(text, piece) if text == call.query else text + piece
            head = sql.insert_head(text, complete=False)
        head = head or sql.insert_head(text, complete=True)
        if head is None:
            statement = sql.through_views(text) + await call.body.rest()
            return await self._run(statement, call, connection, envelope)
        await answers.insert(connection, running, head, text[head.data_start :], call.body)
        return web.Response(headers=envelope.headers(connection.progress))

    async def _run(
        self, statement: bytes, call: Call, connection: EngineConnection, envelope: Envelope
    ) -> web.Response:
        # Shielded: a client that goes away does not undo a statement that changes something.
        data = await asyncio.shield(connection.query(statement, call.default_format))
        return web.Response(
            headers=envelope.headers(connection.progress, call.default_format if data else ""), body=data
        )

    async def _kill(self, kill: sql.Kill, call: Call, connection: EngineConnection, envelope: Envelope) -> web.Response:
        found = b"FROM system.http_processes WHERE is_initial_query AND query_id != %b AND (%b)" % (
            quote(call.setup.query_id).encode(), kill.condition,
        )  # fmt: skip
        listed = await connection.query(b"SELECT query_id " + found, "TabSeparatedRaw")
        ids = listed.decode().splitlines()
        state = {"SYNC": "finished", "ASYNC": "waiting", "TEST": "waiting"}[kill.mode]
        output_format = kill.format or call.default_format
        wanted = ", ".join(quote(query_id) for query_id in ["", *ids])
        table = await connection.query(_KILLED.format(state=state, wanted=wanted).encode(), output_format)
        if kill.mode != "TEST":
            await self._engine.kill(ids)
            killed = self._registry.kill(ids)
            if kill.mode == "SYNC":
                async with asyncio.timeout(_SYNC_KILL_SECONDS):
                    await asyncio.gather(*(running.gone.wait() for running in killed))
        return web.Response(headers=envelope.headers(Progress(), output_format), body=table)


def _joined(query: bytes, body: bytes) -> bytes:
    """A statement of which a part came in the URL and the rest in the body, as ClickHouse puts them together."""
    return query + b"\n" + body if query and body else query + body
