"""First copies of tables in one test's own database, called as a worker would call them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from temporalio.testing import ActivityEnvironment

from activities.cdc_context import CaptureFrom, CdcContext, PipelineConfig
from activities.clients.buffer import Buffer
from activities.contracts.cdc import CopyInput, CopyReport
from activities.copying import copy_table
from activities.core import pgoutput
from activities.core.changelogs import ChangelogRules, lsn_number
from activities.lake import changelog
from activities.lake.changelog import ChangelogState
from support.fleet import Fleet, replace_ports
from support.lakereaders import by_pyiceberg
from support.ownpostgres import OwnPostgres
from worker.wiring_cdc import open_cdc

PIPELINE = "shop"
CREATE = "CREATE TABLE orders (id bigint PRIMARY KEY, version int NOT NULL, note text)"


@dataclass
class Copies:
    """A pipeline whose source and buffer are one database."""

    fleet: Fleet
    postgres: OwnPostgres
    context: CdcContext
    pipeline: PipelineConfig
    buffer: Buffer

    @property
    def identifier(self) -> str:
        """The changelog of `public.orders`."""
        return f"{self.pipeline.rules.namespace}.public_orders_changelog"

    async def copy(self, table: str = "public.orders") -> CopyReport:
        report: CopyReport = await ActivityEnvironment().run(
            copy_table, self.context, CopyInput(self.fleet.name, PIPELINE, table)
        )
        return report

    async def state(self, table: str = "orders") -> tuple[str, str, int | None]:
        """State, cause and LSN of the copy, as the buffer knows them."""
        [(state, cause, lsn)] = await self.postgres.rows(
            "SELECT state, cause, copied_lsn::text FROM icefleet_cdc.tables WHERE source_table = %s", table
        )
        return state, cause, None if lsn is None else lsn_number(lsn)

    def changelog(self) -> ChangelogState | None:
        """What the changelog says of itself."""
        return changelog.read_state(self.context.lake, self.identifier)

    def rows(self) -> list[tuple[Any, ...]]:
        """Every row of the changelog in the order of its sequence: operation, sequence, then the source's columns."""
        environment = replace_ports(self.fleet.settings().environment(self.fleet.name), self.fleet.stack)
        [found] = by_pyiceberg(environment, [self.identifier])
        return [(row[0], row[1], *row[5:]) for row in sorted(found, key=lambda row: row[1])]

    async def objects(self) -> list[str]:
        """Keys of the objects of the changelog's files."""
        prefix = "cdc/" + self.identifier.replace(".", "/") + "/"
        return [one.key async for page in self.context.store.objects(prefix) for one in page]


@asynccontextmanager
async def copies(fleet: Fleet, postgres: OwnPostgres, **rules: Any) -> AsyncIterator[Copies]:
    """A pipeline with a table called `orders` in its source, which waits for its first copy."""
    source = CaptureFrom(postgres.settings, f"slot_{postgres.database}", "publication", 2**30, 2**31)
    pipeline = PipelineConfig(
        name=PIPELINE,
        source=source,
        buffer=postgres.settings,
        buffer_schema="icefleet_cdc",
        buffer_max_events=1_000_000,
        buffer_max_bytes=2**30,
        rules=ChangelogRules(namespace=fleet.network, **rules),
        batch_events=1000,
        batch_bytes=2**20,
        parallel_tables=2,
    )
    buffer = Buffer(postgres.settings, "icefleet_cdc")
    await buffer.install()
    await postgres.run(CREATE)
    await buffer.set_copying("public", "orders")
    async with open_cdc(fleet.settings(), fleet.name, fleet.temporal) as context:
        yield Copies(fleet, postgres, replace(context, pipelines={PIPELINE: pipeline}), pipeline, buffer)


@dataclass(frozen=True)
class Change:
    """One row's change, as the log tells it."""

    commit_lsn: int
    event: Any


async def logged(connection: psycopg.AsyncConnection[Any], slot: str, publication: str) -> list[Change]:
    """What a slot holds, in order; it keeps it."""
    found = await connection.execute(
        "SELECT data FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL, 'proto_version', '1', "
        "'publication_names', %s)",
        (slot, publication),
    )
    changes, lsn = list[Change](), 0
    for (data,) in await found.fetchall():
        event = pgoutput.decode(bytes(data))
        if isinstance(event, pgoutput.Begin):
            lsn = event.lsn
        elif isinstance(event, pgoutput.Insert | pgoutput.Update | pgoutput.Delete):
            changes.append(Change(lsn, event))
    return changes
