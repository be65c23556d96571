"""A pipeline on one test's own database: source and buffer in one, a slot of its own, and what the buffer holds."""

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from activities.capturing import capture_changes
from activities.cdc_context import CaptureFrom, CdcContext, PipelineConfig
from activities.clients.bus import LastMessage
from activities.clients.postgres import PostgresSettings
from activities.contracts.cdc import (
    CaptureInput,
    CaptureReport,
    InstallReport,
    InstallRequest,
    UninstallReport,
    UninstallRequest,
)
from activities.core.changelogs import ChangelogRules
from activities.failpoints import arm_death
from activities.installing import install_capture
from activities.uninstalling import uninstall_capture
from support.fleet import eventually

ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "proto"), str(ROOT / "tests")])
ENVIRONMENT, PIPELINE, SCHEMA = "test", "shop", "icefleet_cdc"
EVENTS = (
    "SELECT source_schema || '.' || source_table, operation, ordinal, key_columns, old_row, new_row, unchanged "
    f"FROM {SCHEMA}.events ORDER BY id"
)


class StreamInMemory:
    """What a bus holds, for those who do not ask NATS."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self._last: dict[str, LastMessage] = {}

    async def last(self, subject: str) -> LastMessage | None:
        return self._last.get(subject)

    async def publish(self, subject: str, body: bytes, *_: Any, after: int, **__: Any) -> int:
        last = self._last.get(subject)
        assert after == (last.sequence if last else 0)
        self.said.append(json.loads(body))
        self._last[subject] = LastMessage(len(self.said), body)
        return len(self.said)


@dataclass
class Captures:
    """One pipeline, and what tests do with it."""

    source: PostgresSettings
    buffer: PostgresSettings
    config: PipelineConfig
    bus: Any = field(default_factory=StreamInMemory)
    environment: str = ENVIRONMENT

    @property
    def context(self) -> CdcContext:
        """What capture and installation use of it: the pipeline, and where they tell of its slot."""
        return CdcContext(self.environment, {PIPELINE: self.config}, None, None, self.bus, None, "")

    @property
    def slot(self) -> str:
        return self.config.source.slot

    def name_slot(self, slot: str) -> None:
        """Another name of the slot and of the publication, as config may come to say."""
        self.config = replace(self.config, source=replace(self.config.source, slot=slot, publication=slot))

    def limit(self, **more: Any) -> None:
        """Other limits: of the source (`…_retained_wal_bytes`), or of the buffer."""
        if source := {name: value for name, value in more.items() if name.endswith("wal_bytes")}:
            self.config = replace(self.config, source=replace(self.config.source, **source))
        self.config = replace(self.config, **{name: more[name] for name in more.keys() - source.keys()})

    async def install(self, *tables: str, **more: Any) -> InstallReport:
        return await install_capture(self.context, InstallRequest(PIPELINE, list(tables), self.environment, **more))

    async def uninstall(self, **more: Any) -> UninstallReport:
        return await uninstall_capture(self.context, UninstallRequest(PIPELINE, self.environment, **more))

    async def capture(self, seconds: float = 0.0) -> CaptureReport:
        """One turn; with no time it brings what was committed before."""
        return await capture_changes(self.context, CaptureInput(self.environment, PIPELINE, seconds))

    @asynccontextmanager
    async def capturing(self, seconds: float = 60.0) -> AsyncIterator[asyncio.Task[CaptureReport]]:
        """A capture beside the test, ended with the block."""
        task = asyncio.create_task(self.capture(seconds))
        try:
            yield task
        finally:
            task.cancel()
            (ended,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended

    async def source_run(self, *statements: str) -> None:
        """Each statement in a transaction of its own, at the source."""
        async with await self.source.connect() as connection:
            for statement in statements:
                await connection.execute(statement.encode())

    async def transact(self, *statements: str) -> None:
        """All statements in one transaction of the source."""
        async with await self.source.connect() as connection, connection.transaction():
            for statement in statements:
                await connection.execute(statement.encode())

    async def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the buffer's database answers."""
        async with await self.buffer.connect() as connection:
            return await (await connection.execute(query.encode(), values or None)).fetchall()

    async def events(self) -> list[tuple[Any, ...]]:
        """Table, operation, ordinal, key, old row, new row, unchanged, of every event in the order of ids."""
        return await self.rows(EVENTS)

    async def changes(self) -> list[tuple[str, dict[str, Any] | None, dict[str, Any] | None]]:
        """Operation, old and new row of every event but schema events."""
        return [(row[1], row[4], row[5]) for row in await self.events() if row[1] != "schema"]

    async def schemas(self, table: str) -> list[list[tuple[str, str]]]:
        """Name and type of the columns, of each schema event of a table."""
        return [
            [(column["name"], column["type"]) for column in row[5]["columns"]]
            for row in await self.events()
            if row[:2] == (table, "schema")
        ]

    async def until(
        self, found: Callable[[list[tuple[Any, ...]]], bool], seconds: float = 90.0
    ) -> list[tuple[Any, ...]]:
        """The events, once they are as wished."""

        async def enough() -> list[tuple[Any, ...]] | None:
            events = await self.events()
            return events if found(events) else None

        return await eventually(enough, seconds=seconds, every=0.01)


def captures(source: PostgresSettings, buffer: PostgresSettings | None = None) -> Captures:
    """A pipeline with a slot that nobody else has."""
    slot = f"icefleet_{uuid.uuid4().hex[:10]}"
    config = PipelineConfig(
        name=PIPELINE,
        source=CaptureFrom(source, slot, slot, 2**40, 2**41),
        buffer=buffer or source,
        buffer_schema=SCHEMA,
        buffer_max_events=10_000_000,
        buffer_max_bytes=2**40,
        rules=ChangelogRules(),
        batch_events=1000,
        batch_bytes=2**26,
        parallel_tables=2,
    )
    return Captures(source, buffer or source, config)


class Victims:
    """Captures and installations that die: one process imports everything once, and every victim is a fork of it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def die_at(self, shop: Captures, failpoint: str) -> None:
        """Capture in a process of its own that is killed (SIGKILL) when it reaches a failpoint."""
        await self._die(shop, failpoint, {"capture": {}})

    async def install_and_die_at(self, shop: Captures, failpoint: str, *tables: str, again: bool = False) -> None:
        """Install in such a process."""
        await self._die(shop, failpoint, {"install": {"tables": tables, "again": again}})

    async def uninstall_and_die_at(self, shop: Captures, failpoint: str, *, drop_buffer: bool = False) -> None:
        """Take a pipeline down in such a process."""
        await self._die(shop, failpoint, {"uninstall": {"drop_buffer": drop_buffer}})

    async def _die(self, shop: Captures, failpoint: str, order: dict[str, Any]) -> None:
        orders, answers = self._process.stdin, self._process.stdout
        assert orders is not None
        assert answers is not None
        settings = {name: value for name, value in vars(shop.source).items() if name != "tls"}
        told = json.dumps({**settings, "slot": shop.slot, "failpoint": failpoint, "order": order})
        orders.write(told.encode() + b"\n")
        await orders.drain()
        assert int(await answers.readline() or -1) == signal.SIGKILL, failpoint


@asynccontextmanager
async def victims() -> AsyncIterator[Victims]:
    """The process whose forks die, for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": PATHS},
    )
    try:
        yield Victims(process)
    finally:
        process.kill()
        await process.wait()


async def _work(told: dict[str, Any]) -> None:
    slot, failpoint, order = told.pop("slot"), told.pop("failpoint"), told.pop("order")
    shop = captures(PostgresSettings(**told))
    shop.name_slot(slot)
    arm_death(failpoint)
    if "install" in order:
        await shop.install(*order["install"].pop("tables"), **order["install"])
    elif "uninstall" in order:
        await shop.uninstall(**order["uninstall"])
    else:
        await shop.capture(60)


def _main() -> None:
    """Fork a victim for each line that comes, and answer the signal that ended it."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(_work(json.loads(line)))
            return
        _, end = os.waitpid(child, 0)
        sys.stdout.write(f"{os.WTERMSIG(end) if os.WIFSIGNALED(end) else 0}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
