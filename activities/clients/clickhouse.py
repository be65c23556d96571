"""ClickHouse over HTTP: small answers, one Parquet stream, and an end to a query that is not wanted any more."""

import asyncio
import contextlib
import uuid
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import clickhouse_connect
from clickhouse_connect import common
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.common import StreamContext
from clickhouse_connect.driver.exceptions import ClickHouseError, Error
from opentelemetry.trace import Span
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from activities import spans
from activities.clients.clickhouse_faults import FAILURE_BYTES, broken_stream, failure_in, fault_of
from activities.clients.waits import waiting_for
from activities.core.credentials import NO_TLS, Secret, Tls, is_tls_trouble, reveal, tls_advice
from activities.core.faults import Fault, ResultIncomplete, SourceBusy, SourceRefused, SourceUnavailable
from activities.core.query import NEWER_SETTINGS, PINNED_SETTINGS, Query
from activities.core.settings import ARROW_SETTINGS

T = TypeVar("T")

KILL_SECONDS = 10
LONGEST_WAIT_SECONDS = 15
"""Between two questions whether a source that was full takes a query now."""
# A setting that the user may not change is refused by the server, in its words, and not by the driver in other ones.
common.set_setting("invalid_setting_action", "send")
ARROW_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The last bytes of an Arrow stream that is whole."""
CUT = (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError)


@dataclass(frozen=True)
class ClickHouseSettings:
    """How to reach one cluster, and what one query of ours may take."""

    name: str
    """`<environment>.<cluster>`, for messages."""
    host: str
    port: int
    secure: bool
    user: str
    password: Secret
    limits: Mapping[str, Any]
    """Settings sent with every query: time, memory, threads, and rows and bytes to be read if they are limited."""
    export_slots: int = 4
    """Results that are streamed at once."""
    lookup_slots: int = 4
    """Further connections, for everything small: plans, counts, progress, and ends of queries."""
    patient: bool = False
    """Whether to wait while the source takes no more queries, until the caller's own time is up."""

    tls: Tls = NO_TLS

    def __repr__(self) -> str:
        return f"ClickHouseSettings({self.name}: {self.user}@{self.host}:{self.port})"


class ClickHouse:
    """One cluster, connected when it is first needed.

    It never has more than `export_slots` streams and `export_slots + lookup_slots` connections: what comes on top
    waits for its turn.
    """

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client: AsyncClient | None = None
        self._opening = asyncio.Lock()
        self._slots = asyncio.Semaphore(settings.export_slots)

    @property
    def where(self) -> str:
        """What messages call the cluster."""
        return f"ClickHouse {self._settings.name} ({self._settings.host}:{self._settings.port})"

    async def _open(self) -> AsyncClient:
        async with self._opening:
            if self._client is None:
                settings, tls = self._settings, self._settings.tls
                connections = settings.export_slots + settings.lookup_slots
                self._client = await clickhouse_connect.get_async_client(
                    host=settings.host,
                    port=settings.port,
                    secure=settings.secure,
                    username=settings.user,
                    password=reveal(settings.password),
                    ca_cert=tls.ca_file or None,
                    client_cert=tls.cert_file or None,
                    client_cert_key=tls.key_file or None,
                    server_host_name=tls.server_name or None,
                    # With a password the certificate is for the connection alone, and says nothing of the user.
                    tls_mode="strict" if tls.cert_file and settings.password else None,
                    compress=False,
                    autogenerate_session_id=False,
                    connect_timeout=10,
                    # A FINAL query may be silent for long before its first byte.
                    send_receive_timeout=float(settings.limits.get("max_execution_time", 3600)) + 60,
                    query_retries=0,
                    connector_limit=connections,
                    connector_limit_per_host=connections,
                )
            self._log_in(self._client)
            return self._client

    def _log_in(self, client: AsyncClient) -> None:
        """Let the next request have the password as it is now: it may have been replaced."""
        if callable(self._settings.password) and "Authorization" in client.headers:
            login = f"{self._settings.user}:{reveal(self._settings.password)}"
            client.headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"

    async def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def rows(self, query: Query, *, query_id: str = "", comment: str = "") -> list[dict[str, Any]]:
        """A small answer, whole: one dict a row. A question that is given up is ended at the source as well."""
        query_id = query_id or f"icefleet-{uuid.uuid4()}"

        async def ask() -> list[dict[str, Any]]:
            client = await self._open()
            try:
                # A survey that a profile cuts short would make partitions look empty.
                return await _rows(client, query, self._settings_of(client, query_id, comment))
            except asyncio.CancelledError:
                # The server would go on with it, and a count may take as long as an export. What cannot be killed ends
                # when its time is up.
                with contextlib.suppress(Fault, TimeoutError):
                    await asyncio.shield(self.kill(query_id))
                raise

        return await self._patiently(ask)

    async def rows_as_is(self, query: Query, *, comment: str) -> list[dict[str, Any]]:
        """A small answer under the user's own settings, none of ours: to see what they are and what they allow."""

        async def ask() -> list[dict[str, Any]]:
            return await _rows(await self._open(), query, {"log_comment": _traced(comment)} if comment else {})

        return await self._patiently(ask)

    def parquet(self, query: Query, *, query_id: str, comment: str) -> AsyncGenerator[bytes]:
        """The result as ClickHouse's own Parquet; `_stream` says how it comes."""
        return self._stream(query, "Parquet", {}, query_id=query_id, comment=comment)

    def arrow(self, query: Query, *, query_id: str, comment: str) -> AsyncGenerator[bytes]:
        """The result as an Arrow stream, which can be read as it comes; `_stream` says how it comes.

        One that is whole ends with `ARROW_END`.
        """
        return self._stream(query, "ArrowStream", ARROW_SETTINGS, query_id=query_id, comment=comment)

    async def _stream(
        self, query: Query, output_format: str, more: Mapping[str, Any], *, query_id: str, comment: str
    ) -> AsyncGenerator[bytes]:
        """The result in chunks as they arrive, once an export slot is free.

        Close it (`contextlib.aclosing`), so that connection and slot are given back at once.

        That the stream ended does not prove that it is whole: a failure after the first byte still answers 200.
        The caller checks how it ends, and asks `broken` about a tail that is none.

        Raises:
            ResultIncomplete: the connection broke; with ClickHouse's own words when it left some.
            SourceRefused: a limit was met, or a value does not fit, in the middle of the result.
        """

        async def ask() -> StreamContext:
            client = await self._open()
            return await client.raw_stream(
                query.text,
                parameters=dict(query.parameters),
                settings=self._settings_of(client, query_id, comment) | dict(more),
                fmt=output_format,
                transport_settings=spans.headers(span),
            )

        last = b""
        async with self._slot(), _asking("stream", query_id) as span:
            stream = await self._patiently(ask)
            with self._named():
                try:
                    async with stream:
                        async for chunk in stream:
                            last = _end_of(last, chunk)
                            yield bytes(chunk)
                except aiohttp.ClientPayloadError as cut:
                    if failure_in(last):
                        raise self.broken(f"{self.where}: it failed in the middle of a result", last) from cut
                    raise

    async def write(self, query: Query, query_id: str, comment: str, settings: Mapping[str, Any]) -> None:
        """Run an INSERT from a SELECT to its end, once an export slot is free. It is never sent twice.

        A client that goes away does not end it. After SourceUnavailable or ResultIncomplete it may still run, have
        ended well, or have failed: `rows_read` and `ending` say which.
        """

        async def ask() -> None:
            client = await self._open()
            own = {**self._settings_of(client, query_id, comment), **settings}
            told = spans.headers(span)
            answer = await client.raw_query(
                query.text, parameters=dict(query.parameters), settings=own, transport_settings=told
            )
            if said := failure_in(answer):  # after a first byte, such as that of a header that tells of progress
                raise fault_of(self.where, None, said, self._settings.limits)

        async with self._slot(), _asking("write", query_id) as span:
            await self._patiently(ask)

    def broken(self, what: str, tail: bytes) -> Fault:
        """The fault that ended a stream whose last bytes are `tail`; `what` says what is wrong with the stream."""
        return broken_stream(self.where, what, failure_in(tail), self._settings.limits)

    async def check(self) -> None:
        """See that the cluster answers and takes the login.

        Raises:
            SourceUnavailable: it cannot be reached.
            SourceRefused: it refuses the login.
        """
        await self.rows(Query("SELECT 1"), comment="icefleet worker")

    async def command(self, sql: str) -> None:
        """Run a statement that answers nothing: DDL, or an INSERT from a SELECT."""
        with self._named():
            client = await self._open()
            await client.command(sql)

    async def kill(self, query_id: str) -> None:
        """End a query, and wait until it is gone: bounded, since the caller is being cancelled itself."""
        query = Query("KILL QUERY WHERE query_id = {id:String} SYNC", {"id": query_id})
        with self._named():
            async with asyncio.timeout(KILL_SECONDS):
                client = await self._open()
                await client.command(query.text, parameters=dict(query.parameters))

    async def rows_read(self, query_id: str) -> int | None:
        """Rows that a running query has read so far; None when it does not run."""
        query = Query("SELECT read_rows FROM system.processes WHERE query_id = {id:String}", {"id": query_id})
        with self._named():
            client = await self._open()
            found = await _rows(client, query, self._settings_of(client, "", ""))
        return int(found[0]["read_rows"]) if found else None

    async def ending(self, query_id: str) -> str | None:
        """What the query log says that a query failed with; empty when it ended well, None while nothing is known."""
        query = Query(
            "SELECT toString(type) AS type, exception FROM system.query_log WHERE query_id = {id:String} "
            "AND type != 'QueryStart' AND event_date >= today() - 1 LIMIT 1",
            {"id": query_id},
        )
        try:
            found = await self.rows(query)
        except SourceRefused:  # no log, or none for this user
            return None
        if not found:
            return None
        return "" if found[0]["type"] == "QueryFinish" else str(found[0]["exception"] or found[0]["type"])

    def failed(self, said: str) -> Fault:
        """The fault that ended a query of which the query log holds this exception."""
        return fault_of(self.where, None, said, self._settings.limits)

    def _settings_of(self, client: AsyncClient, query_id: str, comment: str) -> dict[str, Any]:
        """What goes with every query: pinned settings that this server knows, limits, and who is asking."""
        known = client.server_settings
        tags = {name: value for name, value in PINNED_SETTINGS.items() if name in known or name not in NEWER_SETTINGS}
        tags |= self._settings.limits
        if query_id:
            tags["query_id"] = query_id
        if comment:
            tags["log_comment"] = _traced(comment)
        return tags

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """One of the export slots, as soon as one is free."""
        if self._slots.locked():
            with waiting_for(f"one of the {self._settings.export_slots} export slots for {self.where}"):
                await self._slots.acquire()
        else:
            await self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release()

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer; from a source that is full it is asked for until there is one, or the caller is cancelled."""

        async def named() -> T:
            with self._named():
                return await ask()

        if not self._settings.patient:
            return await named()
        turned_away = retry_if_exception_type(SourceBusy)
        wait = wait_random_exponential(multiplier=0.5, max=LONGEST_WAIT_SECONDS)
        return await AsyncRetrying(retry=turned_away, wait=wait, sleep=self._pause, reraise=True)(named)

    async def _pause(self, seconds: float) -> None:
        with waiting_for(f"{self.where}, which takes no more queries just now"):
            await asyncio.sleep(seconds)

    @contextlib.contextmanager
    def _named(self) -> Any:
        """Turn the driver's errors into faults that say where and what to do."""
        try:
            yield
        except Fault:
            raise
        except Error as answered:
            if answered.code is None:  # else it is the server that tells of somebody
                self._look_at_certificates(answered)
            raise fault_of(self.where, answered.code, str(answered), self._settings.limits) from answered
        except ClickHouseError as strange:
            raise SourceUnavailable(f"{self.where}: {strange}") from strange
        except aiohttp.ClientPayloadError as cut:
            raise ResultIncomplete(f"{self.where}: the connection broke in the middle of a result: {cut}") from cut
        except CUT as away:
            self._look_at_certificates(away)
            raise SourceUnavailable(f"{self.where} cannot be reached: {away!r}") from away
        except OSError as wrong:
            # What is left are files of certificates that are none.
            raise SourceRefused(f"{self.where}: {wrong}; {tls_advice('that cluster')}") from wrong

    def _look_at_certificates(self, failed: Exception) -> None:
        if self._settings.secure and is_tls_trouble(failed):
            way_out = tls_advice("that cluster")
            raise SourceRefused(f"{self.where}: no connection by TLS: {failed}; {way_out}") from failed


@contextlib.asynccontextmanager
async def _asking(what: str, query_id: str) -> AsyncIterator[Span]:
    with spans.request(f"clickhouse {what}", **{"db.system.name": "clickhouse", "icefleet.query_id": query_id}) as span:
        yield span


def _traced(comment: str) -> str:
    """With the trace that the query belongs to, by which its other ends are found."""
    trace = spans.trace_id()
    return f"{comment} trace {trace}" if trace else comment


async def _rows(client: AsyncClient, query: Query, settings: dict[str, Any]) -> list[dict[str, Any]]:
    async with _asking("query", str(settings.get("query_id", ""))) as span:
        result = await client.query(
            query.text, parameters=dict(query.parameters), settings=settings, transport_settings=spans.headers(span)
        )
    return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]


def _end_of(last: bytes, chunk: bytes) -> bytes:
    return bytes(chunk[-FAILURE_BYTES:]) if len(chunk) >= FAILURE_BYTES else (last + chunk)[-FAILURE_BYTES:]
