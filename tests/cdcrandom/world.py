"""Everything that a run acts upon: one stack, proxies before its parts, a source and its pipeline."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from activities.core.changelogs import lsn_text
from activities.core.faults import PostgresUnavailable
from cdcrandom.oracle import set_up
from cdcrandom.tables import TABLES, Table
from cdcrandom.writers import Writer, Writing, fill
from deploy.local.stack import Stack
from support.faultproxy import HttpFaults, TcpFaults
from support.fleet import Fleet, eventually, replace_ports
from support.ownpostgres import OwnPostgres, fresh_database
from worker.config import Environment

PIPELINE = "shop"
WRITERS = 4
BATCH_EVENTS = 300
"""Transactions that have more events than this are split between snapshots."""
SCHEMA = "icefleet_cdc"
AWAY_SECONDS = 60
"""How long PostgreSQL is away at most."""
TRIES = 20
"""How often a person says the same again when something is in the way."""


class World:
    """One environment, everything of it behind a proxy, and what is written to its source."""

    def __init__(
        self,
        stack: Stack,
        fleet: Fleet,
        source: OwnPostgres,
        buffer: OwnPostgres,
        seed: str,
        *,
        tables: Sequence[Table] = TABLES,
    ) -> None:
        self.stack = stack
        self.fleet = fleet
        self.source = source
        self.buffer = buffer
        self.seed = seed
        self.proxies: dict[str, HttpFaults | TcpFaults] = {}
        self.writing = Writing(source, tables, churn=BATCH_EVENTS + 50)
        self.story: list[str] = []
        self.installed: list[str] = []
        self.lost: list[str] = []
        """Commands that never succeeded."""
        self._began = time.monotonic()
        self._writers: list[asyncio.Task[None]] = []

    @property
    def direct(self) -> Environment:
        """The environment past every proxy, for whoever looks at what there is."""
        return replace_ports(self.fleet.settings().environment(self.fleet.name), self.stack)

    async def settle(self) -> None:
        """Say in config what is carried over, through the proxies that there are, and make and fill the tables."""
        ports = {part: proxy.port for part, proxy in self.proxies.items()}
        parts = {"store": "s3", "catalog": "catalog", "nats": "nats"}
        self.fleet.point(**{name: ports[part] for part, name in parts.items() if part in ports})
        direct = self.stack.ports["postgres"]
        pipeline = {
            "source": self.source.config(port=ports.get("source", direct)),
            "buffer": self.buffer.config(port=ports.get("buffer", direct)),
            "batch_events": BATCH_EVENTS,
            "commit_interval_ms": 200,
        }
        self.fleet.set_cdc(**{PIPELINE: pipeline})
        await set_up(self.source, self.writing.tables)
        await fill(self.writing, Random(f"{self.seed} rows"))

    def say(self, text: str) -> None:
        """Put a line into the story of the run, and show it."""
        self.story.append(f"{time.monotonic() - self._began:7.1f} s  {text}")
        print(self.story[-1], flush=True)  # noqa: T201 - whoever waits minutes for a run wants to see it go on

    # --- for troubles -------------------------------------------------------------------------------------------

    @property
    def under_way(self) -> int:
        """How many people write."""
        return len(self._writers)

    def stir(self, name: str = "") -> None:
        """There is always something to carry over."""

    def http(self, part: str) -> HttpFaults:
        """The proxy before the store or the catalog."""
        proxy = self.proxies[part]
        assert isinstance(proxy, HttpFaults)
        return proxy

    def tcp(self, part: str) -> TcpFaults:
        """The proxy before NATS, `source` or `buffer`."""
        proxy = self.proxies[part]
        assert isinstance(proxy, TcpFaults)
        return proxy

    # --- people -------------------------------------------------------------------------------------------------

    def begin_writing(self) -> None:
        """Let everybody write."""
        writers = [Writer(self.writing, Random(f"{self.seed} writer {number}")) for number in range(WRITERS)]
        self._writers = [asyncio.create_task(writer.write()) for writer in writers]

    async def end_writing(self) -> None:
        """Have everybody stop, in the middle of a transaction too."""
        for writer in self._writers:
            writer.cancel()
        ended = await asyncio.gather(*self._writers, return_exceptions=True)
        self._writers = []
        for one in ended:
            if not isinstance(one, asyncio.CancelledError):
                self.lost.append(f"a writer: {one!r}")

    async def install(self, tables: Sequence[Table]) -> None:
        """Have tables copied and followed."""
        names = [table.identifier for table in tables]
        self.say(f"install {', '.join(names)}")
        await self.insist("install", "--tables", ",".join(names))
        self.installed += names
        self.say(f"installed {', '.join(names)}")

    async def insist(self, *words: str, of: str = "cdc") -> str:
        """`icefleet cdc …`, said again while something is in the way; answers what it says."""
        complaint = ""
        for _ in range(TRIES):
            code, answer, complaint = await self.command(*words, of=of)
            if not code:
                return answer
            self.say(f"icefleet {of} {words[0]} ended with {code}: {complaint.strip()[-150:]}")
            await asyncio.sleep(1)
        self.lost.append(f"icefleet {of} {' '.join(words)}: {complaint}")
        raise AssertionError(self.lost[-1])

    async def command(self, *words: str, of: str = "cdc") -> tuple[int, str, str]:
        """`icefleet cdc …`: exit code, output, errors."""
        return await self.fleet.command(of, *words, seconds=120)

    async def told(self, *words: str, of: str = "cdc") -> Any:
        """What a command says as JSON."""
        return json.loads(await self.insist(*words, "--json", of=of))

    async def ask(self, database: OwnPostgres, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query answers; the server may be away for a while."""

        async def answer() -> list[list[tuple[Any, ...]]]:
            with suppress(PostgresUnavailable, psycopg.OperationalError):
                return [await database.rows(query, *values)]
            return []

        [rows] = await eventually(answer, seconds=AWAY_SECONDS, every=0.3)
        return list(rows)

    # --- the buffer ---------------------------------------------------------------------------------------------

    async def buffered(self) -> int:
        """How many events wait in the buffer."""
        [(count,)] = await self.ask(self.buffer, f"SELECT count(*) FROM {SCHEMA}.events")
        return int(count)

    async def states(self) -> dict[str, tuple[str, str]]:
        """Table → its state, and the cause when it is stopped."""
        rows = await self.ask(
            self.buffer, f"SELECT source_schema || '.' || source_table, state, cause FROM {SCHEMA}.tables ORDER BY 1"
        )
        return {table: (state, cause) for table, state, cause in rows}

    async def copied(self, table: str, seconds: float) -> None:
        """Wait until the first copy of a table is there."""

        async def active() -> bool:
            return (await self.states()).get(table, ("", ""))[0] == "active"

        await eventually(active, seconds=seconds, every=0.3)

    async def carried(self, lsn: int, seconds: float) -> None:
        """Wait until everything up to a position of the source's log is in the changelogs."""

        async def nothing_left() -> bool:
            [(captured, waiting)] = await self.ask(
                self.buffer,
                f"SELECT captured_lsn >= %s::text::pg_lsn, (SELECT count(*) FROM {SCHEMA}.events) "
                f"FROM {SCHEMA}.pipeline",
                lsn_text(lsn),
            )
            return bool(captured) and not waiting

        await eventually(nothing_left, seconds=seconds, every=0.3)


@asynccontextmanager
async def open_world(directory: Path, seed: str) -> AsyncIterator[World]:
    """A stack of the run's own with filled tables, and every way to it through a proxy."""
    async with AsyncExitStack() as opened:
        stack = opened.enter_context(Stack(directory / "stack"))
        source = await opened.enter_async_context(fresh_database(stack))
        buffer = await opened.enter_async_context(fresh_database(stack))
        fleet = await opened.enter_async_context(Fleet(stack, directory / "config"))
        world = World(stack, fleet, source, buffer, seed)
        for part, port in (("store", "s3"), ("catalog", "catalog")):
            world.proxies[part] = await opened.enter_async_context(HttpFaults(stack.ports[port]))
        for part, port in (("nats", "nats"), ("source", "postgres"), ("buffer", "postgres")):
            world.proxies[part] = await opened.enter_async_context(TcpFaults(stack.ports[port]))
        await world.settle()
        yield world
