"""A ClickHouse for the endpoint's tests: the server named by CLICKHOUSE_URL, or the embedded endpoint of this tree."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

PASSWORD = "correct horse"


@dataclass
class Server:
    """Where a ClickHouse answers, and as whom to ask."""

    host: str
    port: int
    user: str
    password: str
    database: str = "default"
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/"

    def client_arguments(self) -> dict[str, object]:
        """What clickhouse-connect wants to know; without a session, so that queries may run side by side."""
        return {
            "host": self.host, "port": self.port, "username": self.user, "password": self.password,
            "database": self.database, "autogenerate_session_id": False,
        }  # fmt: skip

    def stop(self, number: int = signal.SIGTERM) -> float:
        """End the embedded endpoint; the seconds that it took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(10)
        return time.monotonic() - began


class Http:
    """Plain HTTP to a server."""

    def __init__(self, server: Server, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    def open(self, sql: str | None = None, *, data: object = None, method: str = "POST", **params: str):
        """A request: the statement in the body, or in the URL when there is data for the body."""
        body = data
        if sql is not None and (data is not None or method == "GET"):
            params["query"] = sql
        elif sql is not None:
            body = sql.encode()
        return self.session.request(
            method, self.server.url, params={"database": self.server.database, **params}, data=body,
            headers={"Authorization": aiohttp.encode_basic_auth(self.server.user, self.server.password)},
        )  # fmt: skip

    async def ask(self, sql: str, **options) -> str:
        """The text of an answer that must be good."""
        async with self.open(sql, **options) as response:
            text = await response.text()
            assert response.status == 200, text
            return text

    async def rows_in(self, table: str) -> int:
        return int(await self.ask(f"SELECT count() FROM {table}"))

    async def runs(self, query_id: str) -> bool:
        return await self.ask(f"SELECT count() FROM system.processes WHERE query_id = '{query_id}'") == "1\n"

    async def until_it_runs(self, query_id: str) -> None:
        await self.until(lambda: self.runs(query_id), 5)

    async def until_it_is_gone(self, query_id: str, seconds: float) -> None:
        async def is_gone() -> bool:
            return not await self.runs(query_id)

        await self.until(is_gone, seconds)

    async def until(self, condition: Callable[[], Awaitable[bool]], seconds: float) -> None:
        """Poll until the condition holds."""
        deadline = time.monotonic() + seconds
        while not await condition():
            if time.monotonic() > deadline:
                pytest.fail(f"not so within {seconds} s")
            await asyncio.sleep(0.02)


def start_endpoint(data: Path, *options: str) -> Server:
    """The embedded endpoint over `data` on a free port, ready to serve; its log is `data`.log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = data.with_suffix(".log")
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.clickhouse", "--port", str(port), "--data", str(data), *options],
            env={**os.environ, "ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD": PASSWORD},
            stdout=out,
            stderr=out,
        )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=1) as answer:
                assert answer.read() == b"Ok.\n"
                return Server("127.0.0.1", port, "icefleet", PASSWORD, process=process)
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    process.kill()
    pytest.fail(f"the endpoint did not start: {log.read_text()}")


@pytest.fixture(scope="session")
def clickhouse_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    url = os.environ.get("CLICKHOUSE_URL")
    if url:
        parts = urlsplit(url)
        yield Server(parts.hostname or "", parts.port or 8123, parts.username or "default", parts.password or "")
        return
    server = start_endpoint(tmp_path_factory.mktemp("clickhouse") / "data")
    yield server
    server.stop()


@pytest.fixture(scope="session")
async def clickhouse_database(clickhouse_server: Server) -> AsyncIterator[str]:
    """A database of these tests' own, dropped at the end."""
    name = f"icefleet_test_{uuid.uuid4().hex[:8]}"
    async with aiohttp.ClientSession() as session:
        await Http(clickhouse_server, session).ask(f"CREATE DATABASE {name}")
    clickhouse_server.database = name
    yield name
    clickhouse_server.database = "default"
    async with aiohttp.ClientSession() as session:
        await Http(clickhouse_server, session).ask(f"DROP DATABASE {name}")


@pytest.fixture
async def http(clickhouse_server: Server, clickhouse_database: str) -> AsyncIterator[Http]:
    async with aiohttp.ClientSession() as session:
        yield Http(clickhouse_server, session)


@pytest.fixture
async def own_endpoint(tmp_path: Path) -> AsyncIterator[Callable[..., Http]]:
    """Starts embedded endpoints over one directory, one after the other, with the options given."""
    started: list[Server] = []
    async with aiohttp.ClientSession() as session:

        def start(*options: str) -> Http:
            started.append(start_endpoint(tmp_path / "data", *options))
            return Http(started[-1], session)

        yield start
    for server in started:
        if server.process is not None and server.process.poll() is None:
            server.stop(signal.SIGKILL)
