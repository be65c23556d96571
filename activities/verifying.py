"""Holding a page of a table's partitions against the source's counts and the store's objects, without reading a row."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from activities.clients.clickhouse import ClickHouse
from activities.context import ExportContext
from activities.contracts.export import TableInput, table_identifier
from activities.contracts.inputs import read_input
from activities.contracts.verify import (
    LISTED_FINDINGS,
    Finding,
    Looked,
    LookInput,
    PartitionToRead,
    VerifyRequest,
)
from activities.core.partitions import Ranges, Span, expected_span, index_of, label_of
from activities.core.query import SourceFacts, counts_query
from activities.core.tables import PartitionRule, TableConfig, network_range
from activities.core.verdicts import MOVED, HeldFile, Seen, SourceCount, Verdict, agreed, judge, judge_object
from activities.lake.holdings import delete_files, files_outside, held_files
from activities.plan import asked_span
from activities.source import read_facts, read_head

PARTITIONS_PER_PAGE = 250
ROWS_PER_PAGE = 100_000_000
"""A page ends with the file that reaches so many rows: the source counts them all in one question."""
OBJECTS_AT_ONCE = 16


@dataclass(frozen=True)
class Subject:
    """A table that is being verified, and its source."""

    context: ExportContext
    config: TableConfig
    network: str
    facts: SourceFacts
    clickhouse: ClickHouse

    @property
    def identifier(self) -> str:
        """`<network>.<table>`."""
        return table_identifier(self.network, self.config.name)

    @property
    def rule(self) -> PartitionRule:
        """How the table is cut."""
        return self.config.partition

    def label(self, index: int) -> str:
        """A partition's name."""
        return label_of(self.rule, index)

    async def load(self) -> Any:
        """The table as it is now; None when the catalog has none."""
        return await asyncio.to_thread(self.context.lake.load, self.identifier)

    async def held(self, table: Any, span: Span) -> dict[int, list[HeldFile]]:
        """Its files within a span, by partition."""
        if table is None:
            return {}
        return await asyncio.to_thread(held_files, table, self.rule, self.facts.version_column, span)

    async def counted(self, partitions: Ranges) -> dict[int, SourceCount]:
        """What the source counts, in one question."""
        if not partitions:
            return {}
        query = counts_query(self.config, self.facts, self.network, partitions)
        rows = await self.clickhouse.rows(query, comment=f"icefleet verify {self.identifier}")
        found = ((int(row["partition"]), int(row["rows"]), row["version"]) for row in rows)
        return {index: SourceCount(count, None if version is None else int(version)) for index, count, version in found}


async def subject_of(context: ExportContext, environment: str, table: str, network: str) -> Subject:
    """Everything that is the same for all partitions of a table."""
    config = context.table(TableInput(environment, table, network))
    clickhouse = context.find_source(config.source)
    return Subject(context, config, network, await read_facts(clickhouse, config), clickhouse)


async def look_at_page(context: ExportContext, look: LookInput) -> Looked:
    """The next page: what is found, and where the page after it begins."""
    request = read_input(VerifyRequest, look.request)
    subject = await subject_of(context, look.environment, look.table, look.network)
    table = await subject.load()
    if look.first:
        rest = Span(index_of(subject.rule, look.first), index_of(subject.rule, look.last) + 1)
        findings: list[tuple[int | None, Verdict]] = []
    else:
        # After the table was loaded: what it holds by then was closed when it was exported.
        rest, findings = await _begin(subject, request, table)
    span, held = await _page(subject, table, rest)
    seen = await _look(subject, held, Ranges.from_span(span))
    doubtful = Ranges.from_indices(index for index, one in seen.items() if not one.verdict.is_sound)
    if doubtful:
        seen |= agreed(seen, await _look_again(subject, span, doubtful))
    findings += [(index, one.verdict) for index, one in sorted(seen.items()) if not one.verdict.is_sound]
    counts = Counter(one.verdict.kind for one in seen.values())
    counts["unexpected"] += sum(verdict.kind == "unexpected" for _, verdict in findings)
    counts["empty"] += len(span) - len(seen)
    moving = Ranges.from_indices(index for index, one in seen.items() if one.verdict == MOVED)
    settled = Ranges.from_span(span).difference(moving)
    named = [
        Finding(verdict.kind, "" if index is None else subject.label(index), verdict.message)
        for index, verdict in findings
    ]
    return Looked(
        first=subject.label(span.stop) if span.stop < rest.stop else "",
        last=subject.label(rest.stop - 1) if len(rest) else "",
        looked=[[subject.label(first), subject.label(stop - 1)] for first, stop in settled.pairs()],
        expected=len(span),
        left=rest.stop - span.stop,
        counts={kind: count for kind, count in counts.items() if count},
        rows=sum(file.rows for files in held.values() for file in files),
        bytes=sum(file.size for files in held.values() for file in files),
        findings=named[:LISTED_FINDINGS],
        to_read=_to_read(subject, seen) if request.deep else [],
        parallel=context.limits.parallel_partitions,
        pages_per_run=context.limits.pages_per_run,
    )


async def _begin(subject: Subject, request: VerifyRequest, table: Any) -> tuple[Span, list[tuple[int | None, Verdict]]]:
    """The partitions that are asked for and closed, and what the table holds beyond them."""
    config, rule = subject.config, subject.rule
    expected = network_range(config, subject.network)
    head = await read_head(subject.clickhouse, config, subject.facts, subject.network)
    closed, still_open = expected_span(config, expected, now=int(time.time()), head=head)
    asked = None
    if request.from_ != "" or request.to != "":
        everything = Span(closed.first, max(closed.stop, still_open.stop))
        asked = asked_span(rule, str(request.from_), str(request.to), everything)
    beyond = [] if table is None else await asyncio.to_thread(files_outside, table, rule, closed)
    found: list[tuple[int | None, Verdict]] = [
        (
            index,
            Verdict("unexpected", f"{path} holds a partition that is outside of the network's range, or still open"),
        )
        for index, path in beyond
        if asked is None or index in asked
    ]
    if table is not None and (deletes := delete_files(table)):
        what = f"the table has {deletes} delete files, which no export writes: its rows are fewer than its files hold"
        found.append((None, Verdict("unexpected", what)))
    if asked is not None:
        closed = closed.intersect(asked)
    if request.newest:
        closed = Span(max(closed.first, closed.stop - request.newest), closed.stop)
    return closed, found


async def _page(subject: Subject, table: Any, rest: Span) -> tuple[Span, dict[int, list[HeldFile]]]:
    width = min(PARTITIONS_PER_PAGE, subject.context.partitions_per_plan)
    span = Span(rest.first, min(rest.stop, rest.first + width))
    held = await subject.held(table, span)
    rows = 0
    for index in span:
        rows += sum(file.rows for file in held.get(index, ()))
        if rows >= ROWS_PER_PAGE:
            span = Span(span.first, index + 1)
            break
    return span, {index: files for index, files in held.items() if index in span}


async def _look(subject: Subject, held: Mapping[int, list[HeldFile]], partitions: Ranges) -> dict[int, Seen]:
    """Every partition that has a file, or rows at the source."""
    counted = await subject.counted(partitions)
    sizes = await _sizes(subject.context, [files[0] for files in held.values() if len(files) == 1])
    has_version = bool(subject.facts.version_column)
    seen = {}
    for index in sorted({*held, *counted}):
        if index not in partitions:
            continue
        files, source = tuple(held.get(index, ())), counted.get(index, SourceCount())
        verdict = judge(files, source, has_version=has_version)
        if len(files) == 1:
            there = judge_object(files[0], sizes[files[0].path])
            verdict = verdict if there.is_sound else there
        seen[index] = Seen(verdict, files, source)
    return seen


async def _look_again(subject: Subject, span: Span, doubtful: Ranges) -> dict[int, Seen]:
    """The doubtful ones as they are now: a table is exported to, and rows arrive, while it is looked at."""
    held = await subject.held(await subject.load(), span)
    seen = await _look(subject, {index: held[index] for index in held if index in doubtful}, doubtful)
    nothing = Seen(Verdict("empty"), (), SourceCount())
    return {index: seen.get(index, nothing) for index in doubtful}


def _to_read(subject: Subject, seen: Mapping[int, Seen]) -> list[PartitionToRead]:
    return [
        PartitionToRead(subject.label(index), one.files[0].rows)
        for index, one in sorted(seen.items())
        if one.verdict.kind == "proved"
    ]


async def _sizes(context: ExportContext, files: Sequence[HeldFile]) -> dict[str, int | None]:
    """Path → bytes of its object, None when it is not there."""
    slots = asyncio.Semaphore(OBJECTS_AT_ONCE)

    async def size(path: str) -> int | None:
        where = urlsplit(path)
        store = context.store if where.netloc == context.store.name else context.store.bucket(where.netloc)
        async with slots:
            stored = await store.head(path.partition(f"{where.netloc}/")[2])
        return None if stored is None else stored.size

    paths = [file.path for file in files]
    return dict(zip(paths, await asyncio.gather(*(size(path) for path in paths)), strict=True))
