"""A pipeline with a buffer of the test's own, whose activities are called directly."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.cdc_context import CdcContext
from activities.clients.buffer import Buffer
from activities.contracts.cdc import IngestInput, IngestReport, LettersReport, LettersRequest
from activities.ingesting import ingest_batch
from activities.letters import settle
from support.buffers import SCHEMA, Producer
from support.fleet import Fleet
from support.ownpostgres import OwnPostgres
from worker.wiring import open_cdc

PIPELINE = "shop"


@dataclass
class Ingest:
    """One pipeline `shop`, filled by a producer of the test's own."""

    fleet: Fleet
    own: OwnPostgres
    context: CdcContext
    buffer: Buffer
    producer: Producer

    async def batch(self, wait: float = 0) -> IngestReport:
        """One batch, as the loop asks for it."""
        asked = IngestInput(self.fleet.name, PIPELINE, wait)
        return await ActivityEnvironment().run(ingest_batch, self.context, asked)

    async def drain(self) -> list[IngestReport]:
        """Batches until nothing is left to do."""
        reports = [await self.batch()]
        while reports[-1].tables:
            reports.append(await self.batch())
        return reports[:-1]

    async def settle(self, action: str, **fields: Any) -> LettersReport:
        """What a person decides about dead letters or a stopped table."""
        asked = LettersRequest(PIPELINE, action, environment=self.fleet.name, **fields)
        return await ActivityEnvironment().run(settle, self.context, asked)

    def identifier(self, table: str = "orders", schema: str = "public") -> str:
        """The changelog of a source table."""
        return f"{self.namespace}.{schema}_{table}_changelog"

    @property
    def namespace(self) -> str:
        """Of this test's changelogs alone."""
        return self.fleet.network

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


def pipeline(fleet: Fleet, own: OwnPostgres, **more: Any) -> dict[str, Any]:
    """A pipeline's config, without a source: producers of the test's own fill the buffer."""
    return {"buffer": own.config(schema=SCHEMA), "namespace": fleet.network, **more}


@asynccontextmanager
async def opened(fleet: Fleet, own: OwnPostgres, **more: Any) -> AsyncIterator[Ingest]:
    """The pipeline with its buffer made; `more` are further keys of its config."""
    fleet.set_cdc(**{PIPELINE: pipeline(fleet, own, **more)})
    buffer = Buffer(own.settings, SCHEMA)
    await buffer.install()
    async with open_cdc(fleet.settings(), fleet.name, fleet.temporal) as context:
        yield Ingest(fleet, own, context, buffer, Producer(own))
