"""Findings become events. What was found before is derived: the stream remembers it."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry import metrics

from activities import failpoints
from activities.announcing import cloud_headers
from activities.clients.bus import Bus, LastMessage
from activities.context import ExportContext
from activities.contracts.export import TableInput, table_identifier
from activities.contracts.findings import FindingsReport, FoundPartition, Look
from activities.core.faults import BadRequest, BusRefused
from activities.core.partitions import Ranges, index_of, span_of
from activities.core.tables import PartitionRule
from icefleet.v1.events_pb2 import Finding
from icefleet.v1.events_pb2 import FoundPartition as FoundMessage

EVENT_TYPE = "icefleet.finding.v1"
LISTED_PARTITIONS = 500
"""Partitions that one event names."""

_STANDING = metrics.get_meter("icefleet").create_gauge(
    "icefleet.findings",
    unit="{partition}",
    description="Partitions of a table with a finding of one kind, by last look",
)
_LOOKED_AT = metrics.get_meter("icefleet").create_gauge(
    "icefleet.findings.looked_timestamp",
    unit="s",
    description="When this worker last told the findings of one kind: of several workers, the last one is right",
)


def standing_told(about: Mapping[str, str], standing: int) -> None:
    """Report how many findings stand by a look: `about` has `environment`, `network`, `table` and `kind`."""
    _STANDING.set(standing, about)
    _LOOKED_AT.set(time.time(), about)


def finding_subject(environment: str, network: str, table: str, kind: str) -> str:
    """Where a table's findings of one kind are published."""
    return f"icefleet.{environment}.finding.{network}.{table}.{kind}"


async def publish_findings(context: ExportContext, look: Look) -> FindingsReport:
    """Publish what a look found, with what earlier looks found elsewhere, if that differs from the last event.

    Raises:
        BusUnavailable: NATS is away, or another look was published meanwhile: try again.
        BusRefused: the last message on the subject is none of ours, or no stream may take the subject.
    """
    rule = context.table(TableInput(look.environment, look.table, look.network)).partition
    return await publish_changed(
        context.bus,
        finding_subject(context.environment, look.network, look.table, look.kind),
        lambda known: _event(context, rule, known, look),
    )


async def publish_changed(bus: Bus, subject: str, event_of: Callable[[Finding], Finding]) -> FindingsReport:
    """Publish what stands now, which is made of what stood before, if the two differ.

    Raises:
        BusUnavailable: NATS is away, or somebody else published meanwhile: try again.
        BusRefused: the last message on the subject is none of ours, or no stream may take the subject.
    """
    last = await bus.last(subject)
    known = _known(subject, last)
    event = event_of(known)
    standing = _count(event)
    about = {"environment": event.environment, "network": event.network, "table": event.source_table}
    standing_told({**about, "kind": event.kind}, standing)
    if _same(event, known):
        return FindingsReport(published=False, standing=standing)
    after = last.sequence if last is not None else 0
    identity = _event_id(subject, after, event)
    await failpoints.reach("before-announce")
    await bus.publish(
        subject,
        json_format.MessageToJson(event, indent=None).encode(),
        cloud_headers(event.environment, event.table, EVENT_TYPE, identity, event.found_at.ToDatetime(UTC)),
        message_id=identity,
        after=after,
    )
    return FindingsReport(published=True, standing=standing)


async def standing_findings(bus: Bus, environment: str) -> dict[str, dict[str, int]]:
    """`<network>.<table>` → kind → partitions that stand, of every table of an environment that has findings.

    Raises:
        BusUnavailable: NATS is away.
        BusRefused: the last message on one of the subjects is none of ours.
    """
    found: dict[str, dict[str, int]] = {}
    async with aclosing(bus.latest(f"icefleet.{environment}.finding.>")) as latest:
        async for subject, last in latest:
            event = _read(subject, last)
            if _count(event):
                found.setdefault(event.table, {})[event.kind] = _count(event)
    return found


def _known(subject: str, last: LastMessage | None) -> Finding:
    """What stood before this look; nothing when nobody has published yet."""
    return Finding() if last is None else _read(subject, last)


def _read(subject: str, last: LastMessage) -> Finding:
    try:
        return json_format.Parse(last.body, Finding(), ignore_unknown_fields=True)
    except json_format.ParseError as foreign:
        raise BusRefused(
            f"{subject}: the last message on this subject, number {last.sequence} of the stream, is no finding of "
            "ours, so what was found cannot be told; delete it, and keep other publishers off these subjects"
        ) from foreign


def _count(event: Finding) -> int:
    """Partitions that stand, listed or not."""
    return len(event.partitions) + event.partitions_omitted


def _event(context: ExportContext, rule: PartitionRule, known: Finding, look: Look) -> Finding:
    """What stands after this look: what it found, and what it did not look at."""
    looked = Ranges.from_pairs(
        (span.first, span.stop) for span in (span_of(rule, first, last) for first, last in look.looked)
    )
    found = {index_of(rule, one.partition): _message(one) for one in look.found}
    kept = {}
    for one in known.partitions:
        index = _index(rule, one.partition)
        if index is not None and index not in looked and index not in found:
            kept[index] = one
    every = [one for _, one in sorted({**kept, **found}.items(), reverse=True)]
    return finding(
        context.environment,
        look.network,
        look.table,
        look.kind,
        every[:LISTED_PARTITIONS],
        # What nobody listed cannot be told to have gone while some of what was listed with it is still unseen.
        omitted=max(len(every[LISTED_PARTITIONS:]) + look.omitted, known.partitions_omitted if kept else 0),
    )


def finding(
    environment: str, network: str, table: str, kind: str, found: Iterable[FoundMessage], *, omitted: int = 0
) -> Finding:
    """What stands now."""
    found_at = Timestamp()
    found_at.FromDatetime(datetime.now(UTC))
    return Finding(
        environment=environment,
        table=table_identifier(network, table),
        network=network,
        source_table=table,
        kind=kind,
        found_at=found_at,
        partitions=found,
        partitions_omitted=omitted,
    )


def _index(rule: PartitionRule, label: str) -> int | None:
    """None for a partition of a table that was cut in another way since."""
    try:
        return index_of(rule, label)
    except BadRequest:
        return None


def _message(found: FoundPartition) -> FoundMessage:
    return FoundMessage(partition=found.partition, rows=found.rows, source_rows=found.source_rows, detail=found.detail)


def _same(event: Finding, known: Finding) -> bool:
    return list(event.partitions) == list(known.partitions) and event.partitions_omitted == known.partitions_omitted


def _event_id(subject: str, after: int, event: Finding) -> str:
    """The same for every try to publish the same after the same; never for a finding that has come back."""
    content = Finding(partitions=event.partitions, partitions_omitted=event.partitions_omitted)
    seed = f"{subject}\n{after}\n".encode() + content.SerializeToString(deterministic=True)
    return f"finding-{hashlib.sha256(seed).hexdigest()[:32]}"
