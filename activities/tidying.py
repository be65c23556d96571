"""Tidying a mirror: what is new is announced, what is old expires, what nobody names goes, the changelog is tagged."""

import asyncio
from collections.abc import Awaitable, Callable

from activities import failpoints, upkeep_metrics
from activities.announcing import LISTED_PARTITIONS, committed_event, snapshot_subject, unannounced
from activities.contracts.maintain import MIRROR
from activities.contracts.mirrors import MirrorInput, TidyReport
from activities.core.faults import Fault
from activities.core.mirrors import PREFIX, WATERMARK, MirrorConfig, Watermark
from activities.expiring import chooser
from activities.export_metrics import announcing
from activities.heartbeats import heartbeats
from activities.lake import mirror as mirrors
from activities.lake.changelogtag import advance_tag
from activities.lake.expiry import expire
from activities.lake.history import SnapshotFacts
from activities.lake.mirror import Mirror
from activities.lake.mirrorfacts import mirror_facts
from activities.lake.mirrornames import Unknown
from activities.mirror_context import MirrorContext
from activities.sweeping import mirror_sweep
from icefleet.v1.events_pb2 import Mirror as Merged
from icefleet.v1.events_pb2 import Partition, SnapshotCommitted


async def tidy_mirror(context: MirrorContext, asked: MirrorInput) -> TidyReport:
    """Do what is due; what keeps one part from being done keeps no other.

    Raises:
        Fault: what may pass by itself, once everything else is done.
    """
    config = context.mirror(asked.environment, asked.mirror)
    async with heartbeats({"mirror": config.mirror, "doing": "tidying"}):
        found = await asyncio.to_thread(mirrors.read, context.lake, config)
        if found is None:
            return TidyReport()
        report = await _Tidying(context, config, found, asked).run()
    if not asked.dry_run:
        upkeep_metrics.count(
            MIRROR,
            expired=report.expired,
            deleted=report.deleted,
            freed=report.bytes,
            problems=bool(report.problem),
        )
    return report


class _Tidying:
    """One turn."""

    def __init__(self, context: MirrorContext, config: MirrorConfig, mirror: Mirror, asked: MirrorInput) -> None:
        self._context = context
        self._asked = asked
        self._config = config
        self._mirror = mirror
        self._sweep = mirror_sweep(context, config)
        self._subject = snapshot_subject(context.environment, config.mirror)
        self._announced = self._expired = self._deleted = self._bytes = 0

    async def run(self) -> TidyReport:
        looking = (self._delete, self._expire)
        parts = looking if self._asked.dry_run else (self._announce, self._tag, *looking)
        faults = [fault for part in parts if (fault := await _fault_of(part)) is not None]
        passing = next((fault for fault in faults if isinstance(fault, Fault) and fault.retryable), None)
        if passing is not None:
            raise passing
        return TidyReport(
            announced=self._announced,
            expired=self._expired,
            deleted=self._deleted,
            bytes=self._bytes,
            problem="; ".join(f"{type(fault).__name__}: {fault}" for fault in faults),
        )

    async def _announce(self) -> None:
        with announcing(self._mirror.table) as is_next:
            async for snapshot, publish in unannounced(self._context.bus, self._mirror.table, self._subject):
                is_next(snapshot)
                facts, partitions = await asyncio.to_thread(mirror_facts, self._mirror.table, snapshot)
                await publish(self._event(facts, partitions))
                self._announced += 1

    def _event(self, facts: SnapshotFacts, partitions: list[str]) -> SnapshotCommitted:
        namespace, _, name = self._config.mirror.rpartition(".")
        listed = [
            Partition(
                partition=partition, rows=file.rows, bytes=file.bytes, object_key=self._context.store.key(file.path)
            )
            for partition, file in zip(partitions, facts.added[:LISTED_PARTITIONS], strict=False)
        ]
        event = committed_event(self._context.environment, namespace, name, facts, listed)
        event.source_table = self._config.changelog
        said = facts.summary
        if f"{PREFIX}upserted" in said:
            watermark = Watermark.load(said[WATERMARK], self._config.mirror)
            event.mirror.CopyFrom(
                Merged(
                    changelog=self._config.changelog,
                    changelog_snapshot_id=watermark.snapshot_id or 0,
                    last_sequence=watermark.newest,
                    upserted=int(said[f"{PREFIX}upserted"]),
                    deleted=int(said.get(f"{PREFIX}deleted", "0")),
                )
            )
        return event

    async def _tag(self) -> None:
        if self._mirror.watermark is not None:
            await asyncio.to_thread(advance_tag, self._context.lake, self._config, self._mirror.watermark)

    async def _delete(self) -> None:
        swept = await self._sweep.delete(dry_run=self._asked.dry_run)
        self._deleted, self._bytes = swept.objects, swept.bytes

    async def _expire(self) -> None:
        """Let snapshots expire that were announced and that are older than readers were promised."""
        rules, table = self._config.expiry, self._mirror.table
        keep, age = rules.keep_snapshots, rules.snapshot_age_seconds
        bus, needed = self._context.bus, mirrors.needed
        choose = await chooser(bus, self._subject, table, keep=keep, age_seconds=age, needed=needed)
        due = len(choose(table))
        if self._asked.dry_run:
            self._expired = due
            return
        # Each expiry is a commit, and a look at all that is there.
        if due < (1 if self._asked.thorough else max(1, rules.keep_snapshots // 2)):
            return
        await failpoints.reach("tidy-before-expire")
        self._expired = await asyncio.to_thread(expire, self._context.lake, self._config.mirror, choose)
        await failpoints.reach("tidy-after-expire")
        if self._expired or self._asked.thorough:
            await self._sweep.write_down()


async def _fault_of(part: Callable[[], Awaitable[None]]) -> Fault | Unknown | None:
    try:
        await part()
    except (Fault, Unknown) as fault:
        return fault
    return None
