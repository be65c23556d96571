"""Planning: what is expected, held against what the table has and what the source holds."""

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from activities.context import ExportContext
from activities.contracts.export import ExportRequest, Plan, PlanInput, PlannedPartition, table_identifier
from activities.contracts.failing import SuspendedPartition
from activities.contracts.findings import LISTED_FOUND, LISTED_RANGES, SHRUNK, FoundPartition, Look
from activities.contracts.inputs import read_input
from activities.core import empties, failing
from activities.core.columns import ExportColumn, export_columns
from activities.core.evolution import TableShape
from activities.core.faults import BadRequest, StoreUnavailable
from activities.core.freshness import planned_freshness
from activities.core.partitions import Ranges, Span, asked_span, expected_span, index_of, label_of, span_of
from activities.core.planning import (
    Classified,
    ExistingFile,
    SurveyedPartition,
    classify,
    partitions_to_survey,
)
from activities.core.query import SourceFacts, check_columns
from activities.core.recipes import forced_ids
from activities.core.tables import PartitionRule, TableConfig, network_range
from activities.export_metrics import plan_told
from activities.lake.evolution import ensure_table, look_ahead
from activities.lake.files import existing_files
from activities.source import read_facts
from activities.surveys import Answers, Source, next_window

LISTED_FINDINGS = 100
"""Partitions that a page names because the source holds less than the table."""
SHRINK_UNFORCED = (
    "field 'allow_shrink' lets a forced export take from the table what the source has lost; ask for 'force' as well"
)


@dataclass(frozen=True)
class _Subject:
    """One request against one table, as planning sees it."""

    config: TableConfig
    network: str
    request: ExportRequest
    facts: SourceFacts
    source: Source

    @property
    def rule(self) -> PartitionRule:
        return self.config.partition

    @property
    def is_range(self) -> bool:
        return self.request.from_ != "" or self.request.to != ""


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
    subject = _Subject(config, plan.network, request, facts, Source(clickhouse, config, plan.network, facts))
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
    covered, found, answers = await _survey(subject, closed, existing, skip, aside, limit, look_back)
    suspended = {index: one for index, one in sorted(aside.suspended.items()) if index in covered}
    first = [planned for planned in found.todo if planned.index not in aside.last]
    last = [planned for planned in found.todo if planned.index in aside.last]
    new_empty = found.empty.difference(known)

    def label(index: int) -> str:
        return label_of(subject.rule, index)

    page = Plan(
        identifier=identifier,
        todo=[PlannedPartition(label(todo.index), todo.reason, todo.replaces, todo.rows) for todo in first],
        cursor=_cursor(subject, closed, covered),
        limits=context.limits,
        expected=len(covered),
        present=found.present,
        missing=sum(planned.reason == "missing" for planned in first),
        stale=sum(planned.reason == "stale" for planned in first),
        forced=sum(planned.reason in {"forced", "vanished"} for planned in first),
        empty=len(found.empty) + len(unasked.intersection(Ranges.from_span(covered)).difference(found.empty)),
        open=len(still_open),
        shrunk=[label(index) for index in found.shrunk[:LISTED_FINDINGS]],
        empty_ranges=[[label(start), label(stop - 1)] for start, stop in new_empty.pairs()],
        last=[PlannedPartition(label(todo.index), todo.reason, todo.replaces, todo.rows) for todo in last],
        suspended=len(suspended),
        suspensions=[
            SuspendedPartition(label(index), one.cause, one.count, f"{datetime.fromtimestamp(until, UTC):%FT%TZ}")
            for index, (one, until) in list(suspended.items())[:LISTED_FINDINGS]
        ],
        look=None if request.dry_run else _look(plan, subject, found, existing, covered, answers),
    )
    if not request.dry_run:
        unsettled = {todo.index for todo in found.todo if todo.reason == "missing"} | suspended.keys() - existing.keys()
        _tell(subject, plan, page, held, closed, unsettled)
    return page


def _tell(
    subject: _Subject, plan: PlanInput, page: Plan, held: _Held, closed: Span, unsettled: Collection[int]
) -> None:
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
    subject: _Subject,
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
        looked=[[label_of(rule, first), label_of(rule, stop - 1)] for first, stop in ranges],
        found=[FoundPartition(label_of(rule, one), existing[one].rows, answers.rows(one)) for one in listed],
        omitted=len(found.shrunk) - len(listed),
    )


def _set_aside(context: ExportContext, subject: _Subject, properties: Mapping[str, str]) -> failing.SetAside:
    """Whoever names a range, or forces one, wants what failed tried as well, and in its place."""
    if subject.is_range or subject.request.force:
        return failing.NOTHING
    remembered = failing.failing_of(properties.get(failing.PROPERTY, ""), subject.rule)
    return failing.set_aside(remembered, context.suspend_after, int(time.time()))


async def _expected(subject: _Subject, cursor: str) -> tuple[Span, Span, int]:
    """The closed partitions that are asked for and not planned yet, the open ones, and where the closed ones stop."""
    rule, request = subject.rule, subject.request
    expected = network_range(subject.config, subject.network)
    head = await subject.source.head()
    closed, still_open = expected_span(subject.config, expected, now=int(time.time()), head=head)
    if subject.is_range:
        everything = Span(closed.first, max(closed.stop, still_open.stop))
        asked = asked_span(rule, str(request.from_), str(request.to), everything)
        closed, still_open = closed.intersect(asked), still_open.intersect(asked)
    newest = closed.stop
    if cursor:
        edge = index_of(rule, cursor)
        rest = (
            Span(edge + 1, max(edge + 1, closed.stop)) if request.oldest_first else Span(min(closed.first, edge), edge)
        )
        closed, still_open = closed.intersect(rest), Span(still_open.first, still_open.first)
    return closed, still_open, newest


def _look_at_table(context: ExportContext, subject: _Subject, identifier: str, span: Span) -> _Held:
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


async def _survey(
    subject: _Subject,
    span: Span,
    existing: dict[int, ExistingFile],
    skip: Ranges,
    aside: failing.SetAside,
    limit: int,
    look_back: Span | None,
) -> tuple[Span, Classified, Answers]:
    """Ask the source, window by window, until there is a page of work or nothing left to ask."""
    request = subject.request
    newest_first = not request.oldest_first
    asked = partitions_to_survey(span, existing, skip, force=request.force, look_back=look_back).difference(
        skip if request.force else Ranges.from_indices(aside.suspended)
    )
    surveyed: dict[int, SurveyedPartition] = {}
    seen = Ranges.from_pairs(())
    while True:
        window = next_window(asked.difference(seen), newest_first=newest_first)
        if window:
            surveyed |= await subject.source.survey(window, newest_first=newest_first)
            seen = seen.union(window)
        whole = len(seen) == len(asked)
        covered = span if whole else _covered(span, seen, newest_first=newest_first)
        found = _classify(subject, covered, existing, surveyed, seen)
        first = [planned for planned in found.todo if planned.index not in aside.last]
        if len(first) > limit:
            last = first[limit - 1].index
            covered = Span(last, covered.stop) if newest_first else Span(covered.first, last + 1)
            return covered, _classify(subject, covered, existing, surveyed, seen), Answers(seen, surveyed)
        if first or whole:
            return covered, found, Answers(seen, surveyed)


def _classify(
    subject: _Subject,
    covered: Span,
    existing: dict[int, ExistingFile],
    surveyed: dict[int, SurveyedPartition],
    seen: Ranges,
) -> Classified:
    return classify(
        covered,
        existing,
        surveyed,
        seen.intersection(Ranges.from_span(covered)),
        force=subject.request.force,
        has_version=bool(subject.facts.version_column),
        newest_first=not subject.request.oldest_first,
        allow_shrink=subject.request.allow_shrink,
    )


def _look_back(context: ExportContext, subject: _Subject, stop: int) -> Span | None:
    """The newest partitions, which are asked about although they are there: late rows make them stale.

    Of a range all are, whatever their age (None).
    """
    if subject.is_range:
        return None
    days = context.look_back_days
    # Integer chunks have no clock of their own: as many of them as the look-back has hours.
    count = days if subject.rule.kind == "daily" else days * 24
    return Span(stop - count, stop)


def _covered(span: Span, seen: Ranges, *, newest_first: bool) -> Span:
    pairs = seen.pairs()
    return Span(pairs[0][0], span.stop) if newest_first else Span(span.first, pairs[-1][1])


def _cursor(subject: _Subject, closed: Span, covered: Span) -> str:
    if covered == closed or not len(closed):
        return ""
    edge = covered.stop - 1 if subject.request.oldest_first else covered.first
    return label_of(subject.rule, edge)
