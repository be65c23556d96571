"""ClickHouse over HTTP: small answers, one Parquet stream, and an end to a query that is not wanted any more."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import clickhouse_connect
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError, Error

from activities.core.faults import Fault, ResultIncomplete, SourceRefused, SourceUnavailable, UnsupportedType
from activities.core.query import NEWER_SETTINGS, PINNED_SETTINGS, Query

# ClickHouse's numbers for what asking again cannot mend: rights, names, types, syntax, constraints.
REFUSALS = frozenset(
    {6, 27, 36, 38, 41, 42, 43, 44, 46, 47, 48, 50, 53, 60, 62, 72, 81, 115, 117, 164, 192, 193, 194, 195, 215}
    | {349, 386, 407, 452, 457, 497, 516}
    # A profile's limits on what a query may read: for the operator to lift.
    | {158, 307, 396}
)
MISFITS = frozenset({69, 70, 321, 395, 407})
"""Its numbers for a value that does not fit the type to which it is cast; asking again cannot mend that either."""
KILL_SECONDS = 10
FAILURE_BYTES = 64 * 1024
"""Bytes of a broken stream's end in which ClickHouse's exception is looked for."""
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
    password: str
    limits: Mapping[str, Any]
    """Settings sent with every query: time, memory, threads."""

    def __repr__(self) -> str:
        return f"ClickHouseSettings({self.name}: {self.user}@{self.host}:{self.port})"


class ClickHouse:
    """One cluster, connected when it is first needed."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client: AsyncClient | None = None
        self._opening = asyncio.Lock()

    @property
    def _where(self) -> str:
        return f"ClickHouse {self._settings.name} ({self._settings.host}:{self._settings.port})"

    async def _open(self) -> AsyncClient:
        async with self._opening:
            if self._client is None:
                settings = self._settings
                self._client = await clickhouse_connect.get_async_client(
                    host=settings.host,
                    port=settings.port,
                    secure=settings.secure,
                    username=settings.user,
                    password=settings.password,
                    compress=False,
                    autogenerate_session_id=False,
                    connect_timeout=10,
                    # A FINAL query may be silent for long before its first byte.
                    send_receive_timeout=float(settings.limits.get("max_execution_time", 3600)) + 60,
                    query_retries=0,
                )
            return self._client

    async def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def rows(self, query: Query, *, query_id: str = "", comment: str = "") -> list[dict[str, Any]]:
        """A small answer, whole: one dict a row."""
        with self._named():
            client = await self._open()
            result = await client.query(
                query.text,
                parameters=dict(query.parameters),
                # A survey that a profile cuts short would make partitions look empty.
                settings=self._settings_of(client, query_id, comment),
            )
            return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]

    async def parquet(self, query: Query, *, query_id: str, comment: str) -> AsyncIterator[bytes]:
        """The result as ClickHouse's own Parquet, in chunks as they arrive.

        That the stream ended does not prove that it is whole: a failure after the first byte still answers 200.
        The caller checks the footer, and asks `failure_in` about a tail that has none.

        Raises:
            ResultIncomplete: the connection broke; with ClickHouse's own words when it left some.
        """
        last = b""
        with self._named():
            client = await self._open()
            stream = await client.raw_stream(
                query.text,
                parameters=dict(query.parameters),
                settings=self._settings_of(client, query_id, comment),
                fmt="Parquet",
            )
            try:
                async with stream:
                    async for chunk in stream:
                        last = (
                            bytes(chunk[-FAILURE_BYTES:])
                            if len(chunk) >= FAILURE_BYTES
                            else (last + chunk)[-FAILURE_BYTES:]
                        )
                        yield bytes(chunk)
            except aiohttp.ClientPayloadError as cut:
                if said := failure_in(last):
                    raise broken_result(f"{self._where}: it failed in the middle of a result", said) from cut
                raise

    async def command(self, sql: str) -> None:
        """Run a statement that answers nothing: DDL, or an INSERT from a SELECT."""
        with self._named():
            client = await self._open()
            await client.command(sql)

    async def kill(self, query_id: str) -> None:
        """End a query, and wait until it is gone: bounded, since the caller is being cancelled itself."""
        query = Query("KILL QUERY WHERE query_id = {id:String} SYNC", {"id": query_id})
        with self._named():
            client = await self._open()
            async with asyncio.timeout(KILL_SECONDS):
                await client.command(query.text, parameters=dict(query.parameters))

    async def rows_read(self, query_id: str) -> int | None:
        """Rows that a running query has read so far; None when it does not run."""
        query = Query("SELECT read_rows FROM system.processes WHERE query_id = {id:String}", {"id": query_id})
        found = await self.rows(query)
        return int(found[0]["read_rows"]) if found else None

    def _settings_of(self, client: AsyncClient, query_id: str, comment: str) -> dict[str, Any]:
        """What goes with every query: pinned settings that this server knows, limits, and who is asking."""
        known = client.server_settings
        tags = {name: value for name, value in PINNED_SETTINGS.items() if name in known or name not in NEWER_SETTINGS}
        tags |= self._settings.limits
        if query_id:
            tags["query_id"] = query_id
        if comment:
            tags["log_comment"] = comment
        return tags

    @contextlib.contextmanager
    def _named(self) -> Any:
        """Turn the driver's errors into faults that say where and what to do."""
        try:
            yield
        except Fault:
            raise
        except Error as answered:
            raise self._fault(answered.code, str(answered)) from answered
        except ClickHouseError as strange:
            raise SourceUnavailable(f"{self._where}: {strange}") from strange
        except aiohttp.ClientPayloadError as cut:
            raise ResultIncomplete(f"{self._where}: the connection broke in the middle of a result: {cut}") from cut
        except CUT as away:
            raise SourceUnavailable(f"{self._where} cannot be reached: {away!r}") from away

    def _fault(self, code: int | None, message: str) -> Fault:
        if code in MISFITS:
            return UnsupportedType(f"{self._where}: {message}")
        if code in REFUSALS:
            return SourceRefused(f"{self._where} refused: {message}")
        return SourceUnavailable(f"{self._where}: {message}")


def broken_result(what: str, said: str) -> Fault:
    """The fault of a stream that broke, by what ClickHouse said at its end."""
    code = re.match(r"Code: (\d+)", said)
    kind = UnsupportedType if code and int(code[1]) in MISFITS else ResultIncomplete
    return kind(f"{what}: {said}")


def failure_in(tail: bytes) -> str:
    """The exception that ClickHouse wrote into the end of a broken stream; empty when there is none.

    Since 25.11 it stands between `__exception__` marks, before that as plain text.
    """
    text = tail[-FAILURE_BYTES:].decode("utf-8", "replace")
    marked = text.rfind("__exception__", 0, text.rfind("__exception__"))
    start = marked if marked >= 0 else text.rfind("Code: ")
    if start < 0:
        return ""
    lines = [line for line in text[start:].splitlines() if "Code: " in line or "Exception" in line]
    return lines[0].strip() if lines else ""
