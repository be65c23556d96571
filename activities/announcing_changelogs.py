"""Snapshots of changelogs become events, as those of exported tables do: derived from table and stream."""

import asyncio
from typing import Any

from activities import upkeep_metrics
from activities.announcing import LISTED_PARTITIONS, committed_event, snapshot_subject, unannounced
from activities.cdc_context import CdcContext, PipelineConfig
from activities.contracts.cdc import ChangelogsInput, ChangelogsReport
from activities.contracts.maintain import CHANGELOG
from activities.core.faults import Fault
from activities.core.partitions import label_of
from activities.core.tables import PartitionRule
from activities.expiring import chooser
from activities.export_metrics import announcing
from activities.lake.changelog import PIPELINE, PREFIX, SOURCE_TABLE
from activities.lake.changelogupkeep import needed
from activities.lake.expiry import expire
from activities.lake.history import SnapshotFacts, snapshot_facts
from icefleet.v1.events_pb2 import Changelog, Partition, SnapshotCommitted

EXPIRED_AT_ONCE = 100
"""About so many snapshots beyond those that stay are there before old ones expire: each expiry is a commit."""


async def announce_changelogs(context: CdcContext, asked: ChangelogsInput) -> ChangelogsReport:
    """Publish what is new in changelogs, and let old snapshots go. What ails one keeps no other from it.

    Raises:
        Fault: that of the first changelog that could not be announced, when the others have been.
    """
    pipeline = context.pipeline(asked.environment, asked.pipeline)
    names = asked.changelogs or await asyncio.to_thread(context.lake.tables_in, (pipeline.rules.namespace,))
    announced, faults = 0, list[Fault]()
    for name in names:
        try:
            announced += await _announce(context, pipeline, name)
        except Fault as fault:
            if fault.retryable:
                raise
            faults.append(fault)
    if faults:
        raise faults[0]
    return ChangelogsReport(announced)


async def _announce(context: CdcContext, pipeline: PipelineConfig, identifier: str) -> int:
    table: Any = await asyncio.to_thread(context.lake.load, identifier)
    if table is None or table.properties.get(PIPELINE) != pipeline.name:
        return 0  # it was dropped, or somebody else fills it
    rule = PartitionRule("daily", pipeline.rules.system.timestamp)
    announced = 0
    subject = snapshot_subject(context.environment, identifier)
    with announcing(table) as is_next:
        async for snapshot, publish in unannounced(context.bus, table, subject):
            is_next(snapshot)
            facts = await asyncio.to_thread(snapshot_facts, table, rule, snapshot)
            await publish(_event(context, identifier, rule, facts, table.properties.get(SOURCE_TABLE, "")))
            announced += 1
    if len(table.snapshots()) >= pipeline.keep_snapshots + EXPIRED_AT_ONCE:
        await _let_go(context, pipeline, identifier, table)
    return announced


async def _let_go(context: CdcContext, pipeline: PipelineConfig, identifier: str, table: Any) -> None:
    """Let snapshots expire that were announced, and that are older than readers were promised."""
    subject = snapshot_subject(context.environment, identifier)
    keep, age = pipeline.keep_snapshots, pipeline.snapshot_age_seconds
    choose = await chooser(context.bus, subject, table, keep=keep, age_seconds=age, needed=needed)
    going = await asyncio.to_thread(expire, context.lake, identifier, choose)
    upkeep_metrics.count(CHANGELOG, expired=going)


def _event(
    context: CdcContext, identifier: str, rule: PartitionRule, facts: SnapshotFacts, source_table: str
) -> SnapshotCommitted:
    namespace, _, name = identifier.rpartition(".")
    partitions = [
        Partition(
            partition=label_of(rule, file.index),
            rows=file.rows,
            bytes=file.bytes,
            object_key=context.store.key(file.path),
            replaced=file.replaced,
        )
        for file in facts.added[:LISTED_PARTITIONS]
    ]
    event = committed_event(context.environment, namespace, name, facts, partitions)
    event.source_table = source_table
    said = {key.removeprefix(PREFIX): value for key, value in facts.summary.items() if key.startswith(PREFIX)}
    event.changelog.CopyFrom(
        Changelog(
            pipeline=said.get("pipeline", ""),
            source_table=source_table,
            first_sequence=said.get("first-sequence", ""),
            last_sequence=said.get("last-sequence", ""),
            events=int(said.get("events") or 0),
            position=int(said.get("position") or 0),
        )
    )
    return event
