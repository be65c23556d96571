"""What a backfill asks before it begins: which tables and networks it is for, and what it would do to them."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from activities.abreast import each
from activities.context import ExportContext
from activities.contracts.backfill import (
    MOST_PARALLEL,
    MOST_PARTITIONS,
    BackfillRequest,
    EstimateInput,
    Lane,
    ResolvedBackfill,
    TableEstimate,
)
from activities.contracts.export import ExportRequest, Plan, PlanInput, table_identifier
from activities.contracts.inputs import read_input
from activities.core.choosing import Export, choose
from activities.core.clock import clock_query, instants_of
from activities.core.faults import BadRequest
from activities.core.partitions import Span, asked_span, expected_span
from activities.core.tables import TableConfig, network_range
from activities.lake.files import mean_row_bytes
from activities.plan import check_request, plan_page
from activities.source import mean_source_row_bytes
from activities.surveys import SURVEY_WINDOW

_NAMED_TABLES = 10
_ENDLESS = 2**63 - 1


async def resolve(context: ExportContext, request: BackfillRequest) -> ResolvedBackfill:
    """The tables and networks of a backfill.

    Raises:
        BadRequest: with everything that is wrong with the request.
    """
    context.check_environment(request.environment)

    def explain(name: str) -> str:
        try:
            context.find_table(name, "")
        except BadRequest as wrong:
            return str(wrong)
        return f"no table {name!r}"

    chosen, problems = choose(context.exports(), request.tables, request.networks, explain)
    problems += _bound_problems(request)
    problems += _range_problems(request, {config.name: config for config, _ in chosen}.values())
    if problems:
        raise BadRequest("; ".join(problems))
    values = await _values(context, request, chosen)
    lanes = [_lane(request, config, network, values) for config, network in chosen]
    return ResolvedBackfill(lanes=lanes, slices_per_run=context.limits.pages_per_run)


_Ends = tuple[int, int] | None
_Values = Mapping[tuple[str, str], _Ends]


async def _values(context: ExportContext, request: BackfillRequest, chosen: Sequence[Export]) -> _Values:
    """Table and network → the first and last value that its clock puts into the range; only of those with dates.

    Tables of one clock are asked about together.
    """
    asked: dict[tuple[str, str, str], list[Export]] = {}
    for config, network in chosen:
        clock = config.partition.clock
        if clock is not None and _has_clock(config, request):
            asked.setdefault((config.source, f"{config.database}.{clock}", network), []).append((config, network))
    instants = instants_of(str(request.from_), str(request.to))

    async def ask(exports: list[Export]) -> _Ends:
        config, network = exports[0]
        if instants is None:
            return None
        comment = f"icefleet clock of {table_identifier(network, config.name)}"
        [answer] = await context.find_source(config.source).rows(
            clock_query(config, network, instants), comment=comment
        )
        return None if answer["first"] is None else (int(answer["first"]), int(answer["last"]))

    groups = list(asked.values())
    answers = await each(ask, groups)
    return {
        (config.name, network): ends for group, ends in zip(groups, answers, strict=True) for config, network in group
    }


def _lane(request: BackfillRequest, config: TableConfig, network: str, values: _Values) -> Lane:
    first, last = str(request.from_), str(request.to)
    if (config.name, network) in values:
        ends = values[config.name, network]
        if ends is None:
            return Lane(config.name, network, 0, nothing=True)
        first, last = (str(end) if label else "" for end, label in zip(ends, (first, last), strict=True))
    return Lane(config.name, network, _total(config, network, first, last, int(time.time())), first, last)


def _bound_problems(request: BackfillRequest) -> list[str]:
    bounds = {"max_parallel": MOST_PARALLEL, "partitions_per_request": MOST_PARTITIONS}
    given = {name: getattr(request, name) for name in bounds}
    return [
        f"field {name!r} must be from 1 to {bounds[name]}; it is {value}"
        for name, value in given.items()
        if not 1 <= value <= bounds[name]
    ]


def _range_problems(request: BackfillRequest, tables: Iterable[TableConfig]) -> list[str]:
    """For each kind of table that the range does not fit, which they are and why."""
    refused: dict[str, tuple[str, list[str]]] = {}
    for config in tables:
        asked = ExportRequest(config.name, "", from_=request.from_, to=request.to)
        try:
            if not _has_clock(config, request):
                check_request(config.partition, asked)
        except BadRequest as wrong:
            refused.setdefault(config.partition.kind, (str(wrong), []))[1].append(config.name)
    problems = []
    for kind, (why, names) in refused.items():
        listed = ", ".join(names[:_NAMED_TABLES])
        more = f" and {len(names) - _NAMED_TABLES} more" if len(names) > _NAMED_TABLES else ""
        problems.append(
            f"the range does not fit {listed}{more} ({kind} partitions): {why}; "
            "name only tables that are cut alike, and start another backfill for the others"
        )
    return problems


def _has_clock(config: TableConfig, request: BackfillRequest) -> bool:
    """Whether the range is one of dates that become values of the table's integer column."""
    if config.partition.clock is None:
        return False
    return instants_of(str(request.from_), str(request.to)) is not None


def _total(config: TableConfig, network: str, first: str, last: str, now: int) -> int | None:
    """Closed partitions that are asked for; of integer tables at most so many, and None when only the source knows."""
    expected = network_range(config, network)
    head = None
    if config.partition.kind == "integer":
        if not last and not expected.last:
            return None
        head = _ENDLESS
    closed, still_open = expected_span(config, expected, now=now, head=head)
    if not first and not last:
        return len(closed)
    everything = Span(closed.first, max(closed.stop, still_open.stop))
    return len(closed.intersect(asked_span(config.partition, first, last, everything)))


async def estimate(context: ExportContext, asked: EstimateInput) -> TableEstimate:
    """What a request would do to one table and network, counted over all pages of its plan."""
    config = context.table(asked)
    request = {**asked.request, "dry_run": True}
    read_input(ExportRequest, request)
    # Nothing of such a plan crosses Temporal, so a page of it may be as wide as one question to the source.
    wide = replace(context, partitions_per_plan=SURVEY_WINDOW)
    pages: list[Plan] = []
    rows, cursor = 0, ""
    while not pages or cursor:
        page = await plan_page(
            wide, PlanInput(asked.environment, asked.table, asked.network, "estimate", request, cursor)
        )
        rows, cursor = rows + sum(planned.rows for planned in (*page.todo, *page.last)), page.cursor
        later = Counter(planned.reason for planned in page.last)
        missing, stale = page.missing + later["missing"], page.stale + later["stale"]
        pages.append(replace(page, todo=[], last=[], empty_ranges=[], missing=missing, stale=stale))
    size, bytes_from = await _row_size(context, config, asked.network)

    def total(name: str) -> int:
        return sum(getattr(page, name) for page in pages)

    return TableEstimate(
        expected=total("expected"),
        present=total("present"),
        missing=total("missing"),
        stale=total("stale"),
        forced=total("forced"),
        suspended=total("suspended"),
        empty=total("empty"),
        open=pages[0].open,
        rows=rows,
        bytes=round(rows * size),
        bytes_from=bytes_from,
    )


async def _row_size(context: ExportContext, config: TableConfig, network: str) -> tuple[float, str]:
    """Mean bytes of a row, and where that comes from."""
    table = await asyncio.to_thread(context.lake.load, table_identifier(network, config.name))
    if table is not None and (size := mean_row_bytes(table)):
        return size, "table"
    size = await mean_source_row_bytes(context.find_source(config.source), config)
    return size, "source" if size else "nothing"
