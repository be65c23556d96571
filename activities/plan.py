"""Planning: what is expected, held against what the table has and what the source holds."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from activities.context import ExportContext
from activities.contracts.export import ExportLimits, ExportRequest, Plan, PlanInput, PlannedPartition, table_identifier
from activities.contracts.failing import SuspendedPartition
from activities.contracts.findings import LISTED_FOUND, LISTED_RANGES, SHRUNK, FoundPartition, Look
from activities.contracts.inputs import read_input
from activities.core import empties, failing, planning
from activities.core.columns import ExportColumn, export_columns
from activities.core.evolution import TableShape
from activities.core.faults import BadRequest, StoreUnavailable
from activities.core.freshness import planned_freshness
from activities.core.partitions import (
    Ranges,
    Span,
    asked_span,
    check_length,
    expected_span,
    index_of,
    label_of,
    span_of,
)
from activities.core.planning import Classified, ExistingFile
from activities.core.query import check_columns
from activities.core.recipes import forced_ids
from activities.core.tables import PartitionRule, network_range
from activities.export_metrics import plan_told
from activities.lake.evolution import ensure_table, look_ahead
from activities.lake.files import existing_files
from activities.plan_survey import Subject, survey_page
from activities.source import read_facts
from activities.surveys import Answers, Source

LISTED_FINDINGS = 100
"""Partitions that a page names because the source holds less than the table."""
SHRINK_UNFORCED = (
    "field 'allow_shrink' lets a forced export take from the table what the source has lost; ask for 'force' as well"
)


@dataclass(frozen=True)
class _Held:
    """What a table holds: files by partition, properties, and when its head was committed (0: never)."""

    files: dict[int, ExistingFile]
    properties: Mapping[str, str]
    committed_at: float


def check_request(rule: PartitionRule, request: ExportRequest) -> None:
    """Refuse a request that no plan could be made for.

    Raises:
        BadRequest: an end of its range is malformed, the end lies before the start, a bound is below 0, or the table
            may shrink without being forced to.
    """
    first, last = str(request.from_), str(request.to)
    if first or last:
        span_of(rule, first or last, last or first)
    if request.after:
        index_of(rule, request.after)
    if request.allow_shrink and not request.force:
        raise BadRequest(SHRINK_UNFORCED)
    if request.max_partitions < 0:
        raise BadRequest(f"field 'max_partitions' is {request.max_partitions}; write how many, or 0 for no bound")


async def plan_page(context: ExportContext, plan: PlanInput) -> Plan:
    """The next page of a request, and what was seen on the way."""
    config = context.table(plan)
    request = read_input(ExportRequest, plan.request)
    clickhouse = context.find_source(config.source)
    facts = await read_facts(clickhouse, config)
    subject = Subject(config, plan.network, request, facts, Source(clickhouse, config, plan.network, facts))
    identifier = table_identifier(plan.network, plan.table)
    if not plan.cursor:
        # Said once for the whole request, instead of by every partition after it has been read.
        with contextlib.suppress(StoreUnavailable):
            await context.store.check()
    closed, still_open, newest = await _expected(subject, plan.cursor)
    held = await asyncio.to_thread(_look_at_table, context, subject, identifier, closed)
    existing, properties = held.files, held.properties
    since = datetime.now(UTC).date() - timedelta(days=context.recheck_empty_days)
    known = empties.known_empty(properties.get(empties.PROPERTY, ""), since=since)
    aside = _set_aside(context, subject, properties)
    # Whoever names a range wants it looked at, also where it was empty last time.
    skip = Ranges.from_pairs(()) if subject.is_range or request.force else known
    unasked = skip
    if request.force:
        skip = _forced_already(existing, plan.request_id, subject.rule)
    limit = min(plan.limit or context.partitions_per_plan, context.partitions_per_plan)
    look_back = _look_back(context, subject, newest)
    covered, found, answers = await survey_page(subject, closed, existing, skip, aside, limit, look_back)
    page = replace(
        _page(identifier, context.limits, subject.rule, covered, found, aside),
        cursor=_cursor(subject, closed, covered),
        empty=len(found.empty) + len(unasked.intersection(Ranges.from_span(covered)).difference(answers.asked)),
        empty_ranges=_labels(subject.rule, found.empty.difference(known).pairs()),
        open=len(still_open),
        look=None if request.dry_run else _look(plan, subject, found, existing, covered, answers),
    )
    if not request.dry_run:
        unsettled = {todo.index for todo in found.todo if todo.reason == "missing"}
        unsettled |= {index for index in aside.suspended if index in covered} - existing.keys()
        _tell(subject, plan, page, held, closed, unsettled)
    return page


def _page(
    identifier: str,
    limits: ExportLimits,
    rule: PartitionRule,
    covered: Span,
    found: Classified,
    aside: failing.SetAside,
) -> Plan:
    """What was found of `covered`; what failed before is set aside for later, or left out for a while."""
    suspended = [(index, *one) for index, one in sorted(aside.suspended.items()) if index in covered]
    first = [planned for planned in found.todo if planned.index not in aside.last]
    reasons = Counter(planned.reason for planned in first)
    return Plan(
        identifier=identifier,
        todo=[_planned(rule, planned) for planned in first],
        cursor="",
        limits=limits,
        expected=len(covered),
        present=found.present,
        missing=reasons["missing"],
        stale=reasons["stale"],
        forced=reasons["forced"] + reasons["vanished"],
        shrunk=[label_of(rule, index) for index in found.shrunk[:LISTED_FINDINGS]],
        last=[_planned(rule, planned) for planned in found.todo if planned.index in aside.last],
        suspended=len(suspended),
        suspensions=[
            SuspendedPartition(label_of(rule, index), one.cause, one.count, _time(until))
            for index, one, until in suspended[:LISTED_FINDINGS]
        ],
    )


def _planned(rule: PartitionRule, planned: planning.PlannedPartition) -> PlannedPartition:
    return PlannedPartition(label_of(rule, planned.index), planned.reason, planned.replaces, planned.rows)


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%FT%TZ}"


def _labels(rule: PartitionRule, pairs: Iterable[tuple[int, int]]) -> list[list[str]]:
    """First and last partition of ranges, each of which is given by its first index and the one behind its last."""
    return [[label_of(rule, start), label_of(rule, stop - 1)] for start, stop in pairs]


def _tell(subject: Subject, plan: PlanInput, page: Plan, held: _Held, closed: Span, unsettled: Collection[int]) -> None:
    """Report the page. Only the first page of what is due, newest first, shows how the table is."""
    request, fresh = subject.request, None
    if not (plan.cursor or subject.is_range or request.force or request.oldest_first):
        fresh = planned_freshness(
            subject.config,
            plan.network,
            closed=closed,
            newest=max(held.files, default=-1),
            unsettled=unsettled,
            committed_at=held.committed_at,
            now=time.time(),
        )
    failing_now = failing.failing_of(held.properties.get(failing.PROPERTY, ""), subject.rule)
    plan_told(plan.network, plan.table, page, fresh, len(failing_now))


def _look(
    plan: PlanInput,
    subject: Subject,
    found: Classified,
    existing: dict[int, ExistingFile],
    covered: Span,
    answers: Answers,
) -> Look:
    """What is to be published of a plan: the partitions of which the source holds less than the table."""
    rule = subject.rule
    listed = found.shrunk[:LISTED_FOUND]
    ranges = answers.asked.intersection(Ranges.from_span(covered)).pairs()[-LISTED_RANGES:]
    return Look(
        environment=plan.environment,
        table=plan.table,
        network=plan.network,
        kind=SHRUNK,
        looked=_labels(rule, ranges),
        found=[FoundPartition(label_of(rule, one), existing[one].rows, answers.rows(one)) for one in listed],
        omitted=len(found.shrunk) - len(listed),
    )


def _set_aside(context: ExportContext, subject: Subject, properties: Mapping[str, str]) -> failing.SetAside:
    """Whoever names a range, or forces one, wants what failed tried as well, and in its place."""
    if subject.is_range or subject.request.force:
        return failing.NOTHING
    remembered = failing.failing_of(properties.get(failing.PROPERTY, ""), subject.rule)
    return failing.set_aside(remembered, context.suspend_after, int(time.time()))


async def _expected(subject: Subject, cursor: str) -> tuple[Span, Span, int]:
    """The closed partitions that are asked for and not planned yet, the open ones, and where the closed ones stop."""
    rule, request = subject.rule, subject.request
    expected = network_range(subject.config, subject.network)
    head = await subject.source.head()
    closed, still_open = expected_span(subject.config, expected, now=int(time.time()), head=head)
    if subject.is_range:
        everything = Span(closed.first, max(closed.stop, still_open.stop))
        asked = asked_span(rule, str(request.from_), str(request.to), everything)
        closed, still_open = closed.intersect(asked), still_open.intersect(asked)
    check_length(subject.config, subject.network, closed, head)
    newest = closed.stop
    if cursor:
        edge = index_of(rule, cursor)
        rest = (
            Span(edge + 1, max(edge + 1, closed.stop)) if request.oldest_first else Span(min(closed.first, edge), edge)
        )
        closed, still_open = closed.intersect(rest), Span(still_open.first, still_open.first)
    return closed, still_open, newest


def _look_at_table(context: ExportContext, subject: Subject, identifier: str, span: Span) -> _Held:
    """What the table holds in `span`; it is made, or made ready, on the way."""

    def decide(shape: TableShape | None) -> tuple[ExportColumn, ...]:
        columns = export_columns(subject.config, subject.facts.columns, shape)
        check_columns(subject.config, subject.facts)
        return columns

    if subject.request.dry_run:
        table = look_ahead(context.lake, identifier, subject.rule, decide)
    else:
        table = ensure_table(context.lake, identifier, subject.rule, decide)
    if table is None:
        return _Held({}, {}, 0.0)
    files = existing_files(table, subject.rule, subject.facts.version_column, span)
    head = table.current_snapshot()
    return _Held(files, table.properties, head.timestamp_ms / 1000 if head is not None else 0.0)


def _forced_already(existing: dict[int, ExistingFile], request_id: str, rule: PartitionRule) -> Ranges:
    """What this very request has replaced before it was interrupted: the table says so, by the keys of its files."""
    return Ranges.from_indices(
        index
        for index, file in existing.items()
        if file.key.endswith(tuple(f"-{name}.parquet" for name in forced_ids(request_id, label_of(rule, index))))
    )


def _look_back(context: ExportContext, subject: Subject, stop: int) -> Span | None:
    """The newest partitions, which are asked about although they are there: late rows make them stale.

    Of a range all are, whatever their age (None).
    """
    if subject.is_range:
        return None
    days = context.look_back_days
    # Integer chunks have no clock of their own: as many of them as the look-back has hours.
    count = days if subject.rule.kind == "daily" else days * 24
    return Span(stop - count, stop)


def _cursor(subject: Subject, closed: Span, covered: Span) -> str:
    if covered == closed or not len(closed):
        return ""
    edge = covered.stop - 1 if subject.request.oldest_first else covered.first
    return label_of(subject.rule, edge)
