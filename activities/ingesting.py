"""Batches of the buffer into its changelogs: every table by itself, so that one that cannot go on holds up no other."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog
from structlog.contextvars import bound_contextvars

from activities import failpoints
from activities.abreast import each
from activities.batches import Batch
from activities.carrying import carry
from activities.cdc_context import CdcContext
from activities.clients.buffer import Buffer
from activities.clients.buffer_chores import Chores, look_after
from activities.clients.buffer_claims import Claim, ClaimedTable, claim, stop
from activities.contracts.cdc import IngestInput, IngestReport, TableBatch
from activities.core.changelogs import changelog_name, lsn_number, lsn_text
from activities.core.faults import (
    BadConfig,
    BadRequest,
    CatalogRefused,
    CatalogUnavailable,
    ChangelogForeign,
    Fault,
    LockTaken,
    PostgresRefused,
    PostgresUnavailable,
    SchemaConflict,
    StoreRefused,
    StoreUnavailable,
    UnsupportedType,
)
from activities.ingest_metrics import ingest_told, people_wanted
from activities.readying import Work

FOR_A_PERSON = (BadConfig, BadRequest, ChangelogForeign, SchemaConflict, UnsupportedType)
"""What is wrong with one table, and stays so until somebody acts: the table stops."""
OF_EVERYBODY = (
    *(CatalogRefused, CatalogUnavailable, StoreRefused, StoreUnavailable),
    *(LockTaken, PostgresRefused, PostgresUnavailable),
)
"""What is wrong with a part that all tables share, unless it is met by one table alone."""
TURN_SECONDS = 5.0
"""So long one holding of the lock begins batches, while more waits: sessions and a turn of the loop take their time."""
LISTED_TABLES = 100
CAUSE_LENGTH = 2000

log = structlog.get_logger("icefleet.ingest")


@dataclass(frozen=True)
class Outcome:
    """What became of one table's part of a batch."""

    table: ClaimedTable
    batch: TableBatch
    failure: Exception | None = None
    """Why it could not go on, unless it was stopped for it."""

    @property
    def went_on(self) -> bool:
        """Whether its events are carried over."""
        return not self.batch.failed


async def ingest_batch(context: CdcContext, ingest: IngestInput) -> IngestReport:
    """Carry a batch over, waiting for events if there are none, and what comes behind it if more waits than fits.

    A table that fails is told in the report, and the others go on.

    Raises:
        LockTaken: another worker does it.
        Fault: no table could go on, and trying again may help, or a part that all tables share says no.
    """
    pipeline = context.pipeline(ingest.environment, ingest.pipeline)
    buffer = Buffer(pipeline.buffer, pipeline.buffer_schema)
    chores = Chores(pipeline.keep_settled_letters_days, pipeline.buffer_max_events, pipeline.buffer_max_bytes)
    if not await buffer.wait_for_events(ingest.wait_seconds, ingest.known_copies):
        async with buffer.connected() as connection:
            waits = await look_after(connection, buffer.schema, chores)
            people_wanted(pipeline.name, *waits)
        ingest_told(pipeline.name, [], None)
        return IngestReport([], events=0, bytes=0, epoch=0, more=False, to_copy=await buffer.to_copy())
    if not ingest.at_once:
        await buffer.rest(pipeline.commit_interval_seconds, pipeline.batch_events)
    async with buffer.locked() as holder:
        async with holder.transaction() as connection:
            waits = await look_after(connection, buffer.schema, chores)
            people_wanted(pipeline.name, *waits)
        return await _Turn(Work(context, pipeline, holder)).run()


class _Turn:
    """One holding of the lock: batches are taken until one gets on, without tables that cannot, and some more then.

    What may be everybody's trouble is met by two tables at least, and for no longer than a turn by more of them.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._outcomes: list[Outcome] = []

    async def run(self) -> IngestReport:
        """Take and carry; while a batch lands, the next one is read."""
        until = time.monotonic() + TURN_SECONDS
        taken = Claim([], more=False, to_copy=[])
        batch, ahead = self._begin(), None
        try:
            while True:
                try:
                    if await batch.may_be_followed() and time.monotonic() < until:
                        ahead = self._begin(batch)
                    outcomes = await batch.outcome()
                except (Fault, asyncio.CancelledError) as ended:
                    if not any(one.went_on for one in self._outcomes):
                        self._raise_what_came_first(ended)
                        raise
                    # Or nobody would hear what was carried over; the next turn meets the same.
                    return self._report(batch.claim or taken)
                taken = batch.claim or taken
                self._outcomes += outcomes
                if all(one.went_on for one in outcomes) and (ahead or (taken.more and time.monotonic() < until)):
                    batch.let_next_land()
                    batch, ahead = ahead or self._begin(), None
                    continue
                if ahead:
                    await ahead.give_up()
                    ahead = None
                is_over = self._is_everybodys() and time.monotonic() >= until
                if not taken.tables or is_over or any(one.went_on for one in outcomes):
                    self._raise_if_nothing_went_on()
                    return self._report(taken)
                batch = self._begin()
        finally:
            for left in (ahead, batch):
                if left:
                    await left.give_up()

    def _begin(self, before: Batch[list[Outcome]] | None = None) -> Batch[list[Outcome]]:
        return Batch(self._take, before)

    async def _take(self, batch: Batch[list[Outcome]]) -> list[Outcome]:
        await failpoints.reach("cdc-before-claim")
        config = self._work.pipeline
        failed = {(one.table.schema, one.table.name) for one in self._outcomes if one.failure}
        behind = batch.before.claim if batch.before else None
        taken = await claim(self._work.holder, config.batch_events, config.batch_bytes, without=failed, behind=behind)
        batch.claimed(taken)
        await failpoints.reach("cdc-after-claim")
        return await each(lambda table: self._carry(table, batch), taken.tables, config.parallel_tables)

    async def _carry(self, table: ClaimedTable, batch: Batch[list[Outcome]]) -> Outcome:
        try:
            with bound_contextvars(source_table=f"{table.schema}.{table.name}"):
                return Outcome(table, await carry(self._work, table, batch))
        except FOR_A_PERSON as wrong:
            return await self._stop(table, wrong)
        except CatalogRefused as wrong:
            # It may refuse everything, or just this table's name.
            return await (self._stop(table, wrong) if await self._is_catalog_open() else self._fail(table, wrong))
        except Exception as wrong:
            # Told in the report, or raised when nobody gets on; a mistake of ours is not to be overlooked either.
            if not isinstance(wrong, Fault):
                log.exception(
                    "the changes of a table could not be carried", source_table=f"{table.schema}.{table.name}"
                )
            return await self._fail(table, wrong)
        finally:
            batch.table_read(table, None)

    async def _stop(self, table: ClaimedTable, wrong: Exception) -> Outcome:
        failed = self._failed(table, wrong)
        try:
            await stop(self._work.holder, table, failed.failed)
        except Fault as away:
            return Outcome(table, failed, away)
        return Outcome(table, replace(failed, stopped=True))

    async def _fail(self, table: ClaimedTable, wrong: Exception) -> Outcome:
        return Outcome(table, self._failed(table, wrong), wrong)

    async def _is_catalog_open(self) -> bool:
        try:
            await asyncio.to_thread(self._work.context.lake.check)
        except Fault:
            return False
        return True

    def _failed(self, table: ClaimedTable, wrong: Exception) -> TableBatch:
        try:
            name = changelog_name(self._work.pipeline.rules, table.schema, table.name)
        except BadConfig:
            name = ""
        return TableBatch(table.identifier, name, 0, failed=f"{type(wrong).__name__}: {wrong}"[:CAUSE_LENGTH])

    def _is_everybodys(self) -> bool:
        """Whether several tables have met what all may share: one alone may be damaged, and is not to starve others."""
        return sum(isinstance(one.failure, OF_EVERYBODY) for one in self._outcomes) > 1

    def _raise_what_came_first(self, ended: BaseException) -> None:
        """What tables failed with says more than the fault that came after it; who is cancelled stays so."""
        if isinstance(ended, Fault):
            self._raise_if_nothing_went_on()

    def _raise_if_nothing_went_on(self) -> None:
        failures = [one.failure for one in self._outcomes if one.failure]
        failures.sort(key=lambda failure: not isinstance(failure, OF_EVERYBODY))
        if failures and not any(one.went_on for one in self._outcomes):
            raise failures[0]

    def _report(self, last: Claim) -> IngestReport:
        carried = [one.table for one in self._outcomes if one.went_on]
        batches = sorted(_of_tables(self._outcomes), key=lambda batch: not batch.failed)
        waiting_since = max((table.last_committed_at for table in carried), default=None) if last.more else None
        ingest_told(self._work.pipeline.name, batches, waiting_since)
        unlisted = [one.changelog for one in batches[LISTED_TABLES:] if one.snapshot_id or one.already_there]
        return IngestReport(
            tables=batches[:LISTED_TABLES],
            unlisted=unlisted,
            events=sum(one.batch.events for one in self._outcomes),
            bytes=sum(table.bytes for table in carried),
            epoch=self._work.holder.epoch,
            more=last.more,
            to_copy=last.to_copy,
            last_lsn=lsn_text(max(lsn_number(table.last_lsn) for table in carried)) if carried else "",
        )


def _of_tables(outcomes: Sequence[Outcome]) -> list[TableBatch]:
    """What became of each table in all batches together."""
    found: dict[str, TableBatch] = {}
    for batch in (one.batch for one in outcomes):
        before = found.get(batch.table)
        found[batch.table] = batch if before is None else _added(before, batch)
    return list(found.values())


def _added(before: TableBatch, after: TableBatch) -> TableBatch:
    return replace(
        after,
        events=before.events + after.events,
        snapshot_id=after.snapshot_id or before.snapshot_id,
        already_there=before.already_there + after.already_there,
        dead_letters=before.dead_letters + after.dead_letters,
    )
