"""Snapshots become events. What is still to be announced is derived: the stream remembers what was."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from activities import failpoints
from activities.clients.bus import Bus, LastMessage
from activities.context import ExportContext
from activities.contracts.export import AnnounceReport, TableInput, table_identifier
from activities.core.faults import BusRefused
from activities.core.partitions import label_of
from activities.core.tables import TableConfig
from activities.export_metrics import announced_told, announcing
from activities.lake.history import Announced, ChangedFile, SnapshotFacts, snapshot_facts, snapshots_after
from icefleet.v1.events_pb2 import Partition, SnapshotCommitted, Totals

Publish = Callable[[SnapshotCommitted], Awaitable[None]]
EVENT_TYPE = "icefleet.snapshot.committed.v1"
LISTED_PARTITIONS = 1500
"""Partitions that one event names: with long keys they stay below the bus's limit of one megabyte."""


def subject_of(environment: str, table: TableInput) -> str:
    """Where a table's snapshots are announced."""
    return snapshot_subject(environment, table_identifier(table.network, table.table))


def snapshot_subject(environment: str, identifier: str) -> str:
    """Where the snapshots of any Iceberg table of ours are announced."""
    return f"icefleet.{environment}.snapshot.{identifier}"


async def announce(context: ExportContext, asked: TableInput) -> AnnounceReport:
    """Publish every snapshot newer than the last one that the stream holds, oldest first, each once."""
    config = context.table(asked)
    identifier = table_identifier(asked.network, asked.table)
    table = await asyncio.to_thread(context.lake.load, identifier)
    if table is None or table.current_snapshot() is None:
        return AnnounceReport(announced=0)
    subject = subject_of(context.environment, asked)
    announced = 0
    with announcing(table) as is_next:
        async for snapshot, publish in unannounced(context.bus, table, subject):
            is_next(snapshot)
            facts = await asyncio.to_thread(snapshot_facts, table, config.partition, snapshot)
            await publish(event_of(context, config, asked, facts))
            announced += 1
    return AnnounceReport(announced=announced)


async def unannounced(bus: Bus, table: Any, subject: str) -> AsyncIterator[tuple[Any, Publish]]:
    """Every snapshot newer than the last one that the stream holds, oldest first, and what publishes its event.

    Raises:
        BusUnavailable: NATS is away, or another announcer was faster.
        BusRefused: the last message on the subject is none of ours, or an event is too large.
    """
    last = await bus.last(subject)
    known = announced_until(subject, last, str(table.metadata.table_uuid))
    after = last.sequence if last is not None else 0

    async def publish(event: SnapshotCommitted) -> None:
        nonlocal after
        await failpoints.reach("before-announce")
        after = await bus.publish(
            subject,
            json_format.MessageToJson(event, indent=None).encode(),
            headers_of(event),
            message_id=event_id(event),
            after=after,
            traceparent=event.traceparent,
        )
        announced_told(event.committed_at.ToMilliseconds())
        await failpoints.reach("after-announce")

    for snapshot in snapshots_after(table, *known):
        yield snapshot, publish


def announced_until(subject: str, last: LastMessage | None, table_uuid: str) -> Announced:
    """The last announcement; a table made anew starts from nothing."""
    if last is None:
        return Announced()
    try:
        event = json.loads(last.body)
        if event["tableUuid"] != table_uuid:
            return Announced()
        at = event.get("committedAt")
        committed_ms = round(datetime.fromisoformat(at).timestamp() * 1000) if at else None
        return Announced(int(event["snapshotId"]), int(event.get("sequenceNumber", 0)), committed_ms)
    except (ValueError, TypeError, KeyError) as foreign:
        raise BusRefused(
            f"{subject}: the last message on this subject, number {last.sequence} of the stream, is no announcement of "
            "ours, so what was announced cannot be told; delete it, and keep other publishers off these subjects"
        ) from foreign


def event_id(event: SnapshotCommitted) -> str:
    """What makes an announcement the same announcement: table UUID and snapshot."""
    return f"{event.table_uuid}-{event.snapshot_id}"


def event_of(context: ExportContext, config: TableConfig, asked: TableInput, facts: SnapshotFacts) -> SnapshotCommitted:
    """The event of one snapshot."""
    partitions = [_partition(context, config, file) for file in facts.added[:LISTED_PARTITIONS]]
    event = committed_event(context.environment, asked.network, asked.table, facts, partitions)
    event.source_table = config.name
    return event


def committed_event(
    environment: str, namespace: str, name: str, facts: SnapshotFacts, partitions: Sequence[Partition]
) -> SnapshotCommitted:
    """What the event of any snapshot says; `partitions` are the first of those that it added to."""
    committed_at = Timestamp()
    committed_at.FromMilliseconds(facts.timestamp_ms)
    return SnapshotCommitted(
        environment=environment,
        table=f"{namespace}.{name}",
        network=namespace,
        table_uuid=facts.table_uuid,
        snapshot_id=facts.snapshot_id,
        parent_snapshot_id=facts.parent_id or 0,
        sequence_number=facts.sequence_number,
        operation=facts.operation,
        committed_at=committed_at,
        partitions=partitions,
        partitions_omitted=len(facts.added) - len(partitions),
        added=Totals(
            files=len(facts.added),
            rows=sum(file.rows for file in facts.added),
            bytes=sum(file.bytes for file in facts.added),
        ),
        files_removed=facts.removed,
        traceparent=facts.summary.get("icefleet.traceparent", ""),
    )


def _partition(context: ExportContext, config: TableConfig, file: ChangedFile) -> Partition:
    key = context.store.key(file.path)
    return Partition(
        partition=label_of(config.partition, file.index),
        rows=file.rows,
        bytes=file.bytes,
        object_key=key,
        public_url=f"{context.public_url}/{key}" if context.public_url else "",
        replaced=file.replaced,
    )


def cloud_headers(environment: str, table: str, kind: str, identity: str, at: datetime) -> dict[str, str]:
    """What CloudEvents wants of every event, binary content mode."""
    return {
        "ce-specversion": "1.0",
        "ce-type": kind,
        "ce-source": f"/icefleet/{environment}/{table}",
        "ce-id": identity,
        "ce-time": at.isoformat(timespec="milliseconds"),
        "ce-subject": table,
        "content-type": "application/json",
    }


def headers_of(event: SnapshotCommitted) -> dict[str, str]:
    """CloudEvents' headers, binary content mode."""
    committed_at = datetime.fromtimestamp(event.committed_at.ToMilliseconds() / 1000, UTC)
    headers = cloud_headers(event.environment, event.table, EVENT_TYPE, event_id(event), committed_at)
    if event.traceparent:
        headers["ce-traceparent"] = event.traceparent
    return headers
