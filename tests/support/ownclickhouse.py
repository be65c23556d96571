"""A ClickHouse endpoint of a test's own, whose user's profile is not the usual one."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from deploy.local.ports import free_port
from support.fleet import Fleet, eventually


@asynccontextmanager
async def endpoint(
    fleet: Fleet, directory: Path, *, highest: Mapping[str, int] | None = None, **profile: str | int
) -> AsyncIterator[tuple[int, str]]:
    """One more ClickHouse endpoint, whose user has this profile and may set no more than `highest`: port, password."""
    port = free_port([])
    settings = [word for name, value in profile.items() for word in ("--settings", f"{name}={value}")]
    settings += [word for name, value in (highest or {}).items() for word in ("--max", f"{name}={value}")]
    command = [
        sys.executable,
        "-m",
        "deploy.local.clickhouse",
        "--port",
        str(port),
        "--data",
        str(directory),
        *settings,
    ]
    password = fleet.settings().cluster(f"{fleet.name}.default").password.get_secret_value()
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, "ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD": password}, stdout=asyncio.subprocess.DEVNULL
    )

    async def ready() -> bool:
        try:
            async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/ping") as answer:
                return answer.status == 200
        except aiohttp.ClientConnectionError:
            return False

    try:
        await eventually(ready)
        yield port, password
    finally:
        process.terminate()
        await process.wait()


async def say(port: int, password: str, sql: str) -> str:
    headers = {"X-ClickHouse-User": "icefleet", "X-ClickHouse-Key": password}
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.post(f"http://127.0.0.1:{port}/", data=sql) as answer,
    ):
        text = await answer.text()
        assert answer.status == 200, text
        return text


async def make_elsewhere(fleet: Fleet, port: int, password: str) -> None:
    """The table `events` on a further endpoint: three days of 1,000 rows."""
    await say(port, password, f"CREATE DATABASE {fleet.database}")
    await say(
        port,
        password,
        f"CREATE TABLE {fleet.database}.events (updated DateTime, at DateTime, number UInt64, "
        "network LowCardinality(String)) ENGINE = ReplacingMergeTree(updated) ORDER BY (network, at, number) "
        "SETTINGS index_granularity = 100",
    )
    await say(
        port,
        password,
        f"INSERT INTO {fleet.database}.events SELECT toDateTime('2024-04-01 00:00:00', 'UTC'), "
        "toDateTime('2024-03-18 00:00:00', 'UTC') + 86400 * intDiv(number, 1000), number, "
        f"'{fleet.network}' FROM system.numbers LIMIT 3000 SETTINGS max_rows_to_read = 0, limit = 0, offset = 0",
    )
    fleet.add_table("daily", "events", "at", network={"start_date": "2024-03-18", "end_date": "2024-03-20"})
    fleet.point(clickhouse=port)
