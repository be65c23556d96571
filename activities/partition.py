"""One partition, from the source to one object: staged first, and created once it has been held against the source."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from temporalio import activity

from activities import failpoints
from activities.beats import Beats
from activities.clients.clickhouse import ClickHouse
from activities.clients.objectstore import StoredObject
from activities.context import ExportContext
from activities.contracts.export import ExportedPartition, PartitionsInput, PlannedPartition, table_identifier
from activities.core.columns import ExportColumn
from activities.core.faults import ObjectRefused, ResultIncomplete, SchemaMoved, SourceMoved, UnsupportedType
from activities.core.objectkeys import public_key, replacement_key
from activities.core.query import Query, SourceFacts
from activities.core.recipes import IDS, forced_ids, short_ids
from activities.core.tables import TableConfig
from activities.direct import DirectObject
from activities.footers import stored_footer
from activities.lake.fit import misfits
from activities.lake.footers import Footer
from activities.misfits import explained
from activities.transfer import Order, PendingObject, Transfer


@dataclass(frozen=True)
class Subject:
    """The table that an activity exports partitions of, as it found it."""

    context: ExportContext
    task: PartitionsInput
    config: TableConfig
    facts: SourceFacts
    clickhouse: ClickHouse
    columns: tuple[ExportColumn, ...]
    line: int
    """Objects made before this second may be about to be deleted: they are not adopted."""


@dataclass(frozen=True)
class Counted:
    """What the source holds of a partition once its file is made: rows, and the newest version."""

    rows: int
    version: int | None


@dataclass(frozen=True)
class PartitionExport:
    """One partition and everything that is known of it before a row is read."""

    subject: Subject
    planned: PlannedPartition
    index: int
    query: Query
    version: int | None
    """The newest version at the source, or the row count of a table without one."""
    recipe: str
    refused: set[str] = field(default_factory=set)
    """Keys whose object does not hold what the source holds."""
    lost: list[str] = field(default_factory=list)
    """Keys that others took between this export's look and its creation."""

    @property
    def name(self) -> str:
        """For messages."""
        task = self.subject.task
        return f"{table_identifier(task.network, task.table)} partition {self.planned.partition}"

    async def stage(self, uploads: AsyncExitStack, beats: Beats, file: bytes | None = None) -> "StagedObject":
        """Everything of the object but its name, or the object that an earlier attempt left.

        An upload lives as long as `uploads`. Without a `file` that holds the rows the source is asked for them.

        Raises:
            ObjectRefused: every key is taken by an object that another recipe made.
            ResultIncomplete: the stream ended early.
            UnsupportedType: a value does not fit its column's Iceberg type, or is text that is not UTF-8.
            SchemaMoved: the file has other columns than were planned.
        """
        await failpoints.reach("before-upload")
        store = self.subject.context.store
        for key in self._keys() if len(self.lost) < IDS else ():
            if key in self.refused:
                continue
            stored = None if self.is_likely_free else await store.head(key)
            if stored is None:
                return await self._carry(key, uploads, beats, file)
            if stored.recipe == self.recipe and stored.made >= self.subject.line:
                return await self._adopt(key, stored)
        raise ObjectRefused(f"{self.name}: every object key for it is taken by an object of another origin")

    @property
    def is_likely_free(self) -> bool:
        """Whether creating the object is the way to see that its key is taken, which a small one may be made for."""
        return self._is_small and activity.info().attempt == 1 and not self.lost and not self.refused

    @property
    def _is_small(self) -> bool:
        return 0 < self.planned.rows <= self.subject.context.limits.small_partition_rows

    def _keys(self) -> list[str]:
        """Where the object may go: the public key for a partition that has no file yet, else one beside it."""
        context, task, config = self.subject.context, self.subject.task, self.subject.config
        forced = self.planned.reason == "forced"
        ids = forced_ids(task.request_id, self.planned.partition) if forced else short_ids(self.recipe)
        beside = [context.key(replacement_key(config, task.network, self.index, one)) for one in ids]
        if self.planned.replaces:
            return beside
        return [context.key(public_key(config, task.network, self.index)), *beside]

    async def _carry(
        self, key: str, uploads: AsyncExitStack, beats: Beats, file: bytes | None = None
    ) -> "StagedObject":
        async with AsyncExitStack() as own:
            pending: Transfer
            if file is not None:
                pending = here = await own.enter_async_context(self._through_here(key))
                footer = await here.hold(file)
            else:
                pending = await own.enter_async_context(self._transfer(key))
                footer = await self._ask(pending, beats)
            self._check_columns(footer)
            footer.check_longs(self.name)
            # What failed is dropped at once; what is whole lives as long as those that it waits for.
            uploads.push_async_exit(own.pop_all())
        return StagedObject(self, footer, pending)

    async def _ask(self, pending: Transfer, beats: Beats) -> Footer:
        subject, info = self.subject, activity.info()
        comment = f"icefleet {self.name} workflow {info.workflow_id} attempt {info.attempt}"
        try:
            async with beats.query(subject.clickhouse, self.planned.partition, pending) as query_id:
                return await pending.carry(Order(self.name, subject.clickhouse, self.query, query_id, comment))
        except UnsupportedType as misfit:
            raise UnsupportedType(f"{self.name}: {await self._explained(misfit)}") from misfit

    def _transfer(self, key: str) -> Transfer:
        """How the object comes to be.

        A small one always passes through here: it is one request to the store, and six when ClickHouse writes it.
        """
        context = self.subject.context
        if context.named_collection and not self._is_small:
            return DirectObject(context, key, self.recipe)
        return self._through_here(key)

    def _through_here(self, key: str) -> PendingObject:
        context = self.subject.context
        return PendingObject(context.store, key, self.recipe, context.part_size_bytes)

    def _check_columns(self, footer: Footer) -> None:
        types = {column.name: column.iceberg for column in self.subject.columns}
        if wrong := misfits(footer, types):
            raise SchemaMoved(f"{self.name}: columns changed at the source while it was exported ({'; '.join(wrong)})")

    async def _explained(self, misfit: UnsupportedType) -> str:
        subject = self.subject
        return await explained(
            misfit, subject.clickhouse, subject.config, subject.facts, subject.columns, subject.task.network, self.index
        )

    async def _adopt(self, key: str, stored: StoredObject) -> "StagedObject":
        return StagedObject(self, await stored_footer(self.subject.context, key, stored.size), None)


@dataclass(frozen=True)
class StagedObject:
    """An object that is whole, and is not there yet; or one that an earlier attempt left (`pending` None)."""

    export: PartitionExport
    footer: Footer
    pending: Transfer | None

    @property
    def held(self) -> int:
        """Bytes that wait in memory."""
        return 0 if self.pending is None else self.pending.held

    async def create(self, counted: Counted) -> ExportedPartition | None:
        """Let it be there, if it holds what the source holds; None when another key must be tried.

        Raises:
            SourceMoved: the source's rows have changed since they were read.
            ResultIncomplete: it holds another number of rows than the source counts.
        """
        key = self.footer.key
        try:
            self._check(counted)
        except ResultIncomplete:
            if self.pending is None:
                # Rows of a version that was there before have come since: it is nothing but another object.
                self.export.refused.add(key)
                return None
            raise
        if self.pending is not None:
            if not await self.pending.create():
                # Somebody was faster; that object will do if it was made by the same recipe.
                self.export.lost.append(key)
                return None
            await failpoints.reach("after-upload")
        planned = self.export.planned
        return ExportedPartition(
            partition=planned.partition,
            reason=planned.reason,
            replaces=planned.replaces,
            key=key,
            rows=self.footer.rows,
            bytes=self.footer.size,
            adopted=self.pending is None,
        )

    def _check(self, counted: Counted) -> None:
        """Hold the file against the source, which must not have moved since."""
        export, rows = self.export, self.footer.rows
        if rows == 0:
            raise SourceMoved(f"{export.name}: it had rows when it was planned and has none now")
        if counted.version != export.version:
            raise SourceMoved(
                f"{export.name}: newer rows arrived while it was exported ({export.version} became {counted.version})"
            )
        if counted.rows != rows:
            raise ResultIncomplete(f"{export.name}: the file holds {rows} rows, the source counts {counted.rows}")
