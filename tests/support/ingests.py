"""A pipeline with a buffer of the test's own, whose activities are called directly."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.announcing_changelogs import announce_changelogs
from activities.cdc_context import CdcContext
from activities.clients.buffer import Buffer
from activities.clients.buffer_status import status
from activities.contracts.cdc import (
    ChangelogsInput,
    CopyInput,
    CopyReport,
    IngestInput,
    IngestReport,
    LettersReport,
    LettersRequest,
)
from activities.copying import copy_table
from activities.core.faults import LockTaken
from activities.ingesting import ingest_batch
from activities.letters import settle
from deploy.local.stack import Stack
from support.buffers import SCHEMA, Producer
from support.fleet import Fleet, eventually
from support.ownpostgres import OwnPostgres, fresh_database
from worker.wiring_cdc import open_cdc

PIPELINE = "shop"


@dataclass
class Ingest:
    """One pipeline `shop`, filled by a producer of the test's own."""

    fleet: Fleet
    own: OwnPostgres
    context: CdcContext
    buffer: Buffer
    producer: Producer
    namespace: str
    """Of this test's changelogs alone."""
    name: str = PIPELINE

    async def batch(self, wait: float = 0) -> IngestReport:
        """One batch, as the loop asks for it."""
        asked = IngestInput(self.fleet.name, self.name, wait)
        return await ActivityEnvironment().run(ingest_batch, self.context, asked)

    async def batch_when_free(self) -> IngestReport:
        """The same once whoever held the lock is gone."""

        async def free() -> bool:
            try:
                async with self.buffer.locked():
                    return True
            except LockTaken:
                return False

        await eventually(free)
        return await self.batch()

    async def files(self) -> set[str]:
        """The keys of all objects of the namespace's changelogs."""
        return {found.key async for page in self.context.store.objects(f"cdc/{self.namespace}/") for found in page}

    async def copy(self, table: str = "public.orders") -> CopyReport:
        """A table's first copy, as its workflow asks for it."""
        return await ActivityEnvironment().run(copy_table, self.context, CopyInput(self.fleet.name, self.name, table))

    async def announce(self, *names: str) -> int:
        """Announce changelogs of the namespace, or all of them, as the loop asks for it; answers how many snapshots."""
        asked = ChangelogsInput(self.fleet.name, self.name, [f"{self.namespace}.{name}" for name in names])
        return (await ActivityEnvironment().run(announce_changelogs, self.context, asked)).announced

    async def drain(self) -> list[IngestReport]:
        """Batches until nothing is left to do."""
        reports = [await self.batch()]
        while reports[-1].tables:
            reports.append(await self.batch())
        return reports[:-1]

    async def settle(self, action: str, *, attempt: int = 1, **fields: Any) -> LettersReport:
        """What a person decides about dead letters or a stopped table."""
        asked = LettersRequest(self.name, action, environment=self.fleet.name, **fields)
        trying = ActivityEnvironment()
        trying.info = replace(trying.info, attempt=attempt)
        return await trying.run(settle, self.context, asked)

    async def tables(self) -> dict[str, tuple[str, int]]:
        """Source table → its state, and how many of its events wait."""
        _, tables = await status(self.buffer)
        return {table.name: (table.state, table.buffered_events) for table in tables}

    def identifier(self, table: str = "orders", schema: str = "public") -> str:
        """The changelog of a source table."""
        return f"{self.namespace}.{schema}_{table}_changelog"

    def table(self, table: str = "orders") -> Any:
        """The PyIceberg table of a changelog."""
        return self.fleet.load(self.identifier(table))

    def rows(self, table: str = "orders", *columns: str) -> list[dict[str, Any]]:
        """The changelog's rows in the order of their sequence numbers; `columns` names those wanted."""
        found = self.table(table).scan().to_arrow().to_pylist()
        found.sort(key=lambda row: row["cdc_sequence_number"])
        return [{name: row[name] for name in columns} if columns else row for row in found]

    def said(self, table: str = "orders") -> list[tuple[str, Any]]:
        """Operation and id of every row, in order."""
        return [(row["cdc_operation"], row["id"]) for row in self.rows(table)]

    def snapshots(self, table: str = "orders") -> list[Any]:
        """The summaries of a changelog's snapshots, oldest first."""
        loaded = self.table(table)
        return [snapshot.summary.additional_properties for snapshot in loaded.snapshots()] if loaded else []


_numbers = itertools.count(1)


@asynccontextmanager
async def opened(
    fleet: Fleet, own: OwnPostgres, *, pipeline: str = PIPELINE, schema: str = SCHEMA, **more: Any
) -> AsyncIterator[Ingest]:
    """The pipeline with a new buffer and a namespace of its own; `more` are further keys of its config.

    It has no source unless they name one: a producer of the test's own fills the buffer.
    """
    namespace = f"{fleet.network}n{next(_numbers)}"
    settings = {"buffer": own.config(schema=schema), "namespace": namespace, "commit_interval_ms": 0, **more}
    fleet.set_cdc(**{pipeline: settings})
    buffer = Buffer(own.settings, schema)
    await buffer.drop()
    await buffer.install()
    async with open_cdc(fleet.settings(), fleet.name, fleet.temporal) as context:
        yield Ingest(fleet, own, context, buffer, Producer(own, schema=schema), namespace, pipeline)


@asynccontextmanager
async def place(stack: Stack, directory: Path) -> AsyncIterator[tuple[Fleet, OwnPostgres]]:
    """A fleet and a database that the tests of a file share, since each makes a buffer and a namespace anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
        async with Fleet(stack, directory) as fleet, fresh_database(stack) as own:
            yield fleet, own


def shared_place() -> tuple[Any, Any, Any]:
    """The fixtures `shared`, `fleet` and `postgres` of a file whose tests share one place."""

    @pytest.fixture(scope="module")
    async def shared(
        stack: Stack, tmp_path_factory: pytest.TempPathFactory
    ) -> AsyncIterator[tuple[Fleet, OwnPostgres]]:
        async with place(stack, tmp_path_factory.mktemp("ingest")) as found:
            yield found

    @pytest.fixture
    def fleet(shared: tuple[Fleet, OwnPostgres]) -> Fleet:
        return shared[0]

    @pytest.fixture
    def postgres(shared: tuple[Fleet, OwnPostgres]) -> OwnPostgres:
        return shared[1]

    return shared, fleet, postgres
