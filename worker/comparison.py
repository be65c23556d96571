"""Every partition of a table, held against its source: what is there, missing, stale, shrunk, empty or open."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from activities.clients.clickhouse import ClickHouse
from activities.contracts.export import table_identifier
from activities.core import failing
from activities.core.coverage import Bounds, sets_of
from activities.core.empties import PROPERTY, known_empty
from activities.core.faults import Fault, SourceUnavailable
from activities.core.partitions import Ranges, Span, check_length, expected_span
from activities.core.planning import ExistingFile, SurveyedPartition
from activities.core.query import SourceFacts
from activities.core.tables import TableConfig, network_range
from activities.lake.catalog import Lake
from activities.lake.files import existing_files
from activities.source import read_facts
from activities.surveys import Outside, Source, next_window
from worker.clickhouse import open_clickhouse
from worker.config import Settings
from worker.lake import open_lake

AT_ONCE = 4
"""Tables that are looked at together; each asks its source one question at a time."""
NOTHING = Ranges()
EVERYTHING = Bounds()
WHOLE = Span(0, 2**63)
NOWHERE = Span(0, 0)
NOBODY = Outside()
Chosen = Sequence[tuple[TableConfig, str]]


@dataclass(frozen=True)
class Comparison:
    """One table of one network: every expected partition, and every one that has a file, is in one of the sets."""

    config: TableConfig
    network: str
    expected: Span = NOWHERE
    """Every partition that should be there or will be."""
    asked: bool = False
    """Whether the source was asked: without it nothing is known to be stale or shrunk, and only what is remembered
    is known to be empty."""
    problem: str = ""
    """What could not be looked at, and why; when it was the table itself, nothing else is known."""
    present: Ranges = NOTHING
    """A file that is as new as the source, or that nothing is expected of."""
    missing: Ranges = NOTHING
    """Closed, rows at the source, no file."""
    stale: Ranges = NOTHING
    """A file, and newer rows at the source."""
    shrunk: Ranges = NOTHING
    """A file, and fewer rows at the source: a lower count is proof, also where duplicates make raw counts differ."""
    empty: Ranges = NOTHING
    """Closed, neither rows nor a file."""
    open: Ranges = NOTHING
    """Not complete yet, no file."""
    suspended: Ranges = NOTHING
    """Missing or stale, and not tried again by itself for a while."""
    outside: Outside = NOBODY
    """Rows of the source that no partition can hold; looked for where there are no bounds."""

    @property
    def table(self) -> str:
        """`<network>.<table>`."""
        return table_identifier(self.network, self.config.name)


@dataclass(frozen=True)
class _Held:
    """What the table has, and what it remembers."""

    files: Mapping[int, ExistingFile] = field(default_factory=dict)
    empty: Ranges = NOTHING
    suspended: Ranges = NOTHING


@dataclass(frozen=True)
class _Expected:
    """What should be there, and what the source has of it: None when it was not asked."""

    closed: Span
    still_open: Span
    surveyed: Mapping[int, SurveyedPartition] | None = None

    @property
    def span(self) -> Span:
        """All of it; what is open follows what is closed, wherever the bounds have cut it to nothing."""
        closed = self.closed
        return Span(closed.first, closed.stop + len(self.still_open)) if closed else self.still_open


async def compare(
    lake: Lake,
    source: Source | None,
    config: TableConfig,
    network: str,
    bounds: Bounds = EVERYTHING,
    *,
    suspend_after: int = 0,
    problem: str = "",
) -> Comparison:
    """Compare one table, by one look at its manifests and a query or two, whatever the range.

    Without a source (`problem` says why), and when it does not answer, by config and what the table remembers.
    """
    version = source.facts.version_column if source else ""
    try:
        held = await asyncio.to_thread(_held, lake, config, network, version, suspend_after)
    except (Fault, OSError) as wrong:
        return Comparison(config, network, problem=f"the table cannot be read: {wrong}")
    expected, outside = _without_source(config, network, bounds, held.files), NOBODY
    if source is not None:
        try:
            expected = await _with_source(source, bounds)
            outside = await source.outside() if bounds == EVERYTHING else outside
        except Fault as fault:
            problem = f"the source did not answer: {fault}"
    # The table was read first: what is committed meanwhile may be told as missing, and never as shrunk.
    sets = sets_of(
        expected.closed,
        expected.still_open,
        _within(held.files, bounds.span(config.partition, WHOLE)),
        expected.surveyed,
        empty=held.empty,
        suspended=held.suspended,
        has_version=bool(version),
    )
    return Comparison(
        config,
        network,
        expected=expected.span,
        asked=expected.surveyed is not None,
        problem=problem,
        present=sets["there"],
        missing=sets["missing"],
        stale=sets["stale"],
        shrunk=sets["shrunk"],
        empty=sets["empty"],
        open=sets["open"],
        suspended=sets["suspended"],
        outside=outside,
    )


def _within(files: Mapping[int, ExistingFile], span: Span) -> dict[int, ExistingFile]:
    return {index: file for index, file in files.items() if index in span}


def _held(lake: Lake, config: TableConfig, network: str, version: str, suspend_after: int) -> _Held:
    """This blocks."""
    table, rule = lake.load(table_identifier(network, config.name)), config.partition
    if table is None:
        return _Held()
    remembered = failing.failing_of(table.properties.get(failing.PROPERTY, ""), rule)
    return _Held(
        files=existing_files(table, rule, version),
        empty=known_empty(table.properties.get(PROPERTY, "")),
        suspended=Ranges.from_indices(failing.set_aside(remembered, suspend_after, int(time.time())).suspended),
    )


def _expected(config: TableConfig, network: str, bounds: Bounds, head: int | None) -> _Expected:
    closed, still_open = expected_span(config, network_range(config, network), now=int(time.time()), head=head)
    asked = bounds.span(config.partition, Span(closed.first, max(closed.stop, still_open.stop)))
    return _Expected(closed.intersect(asked), still_open.intersect(asked))


def _without_source(config: TableConfig, network: str, bounds: Bounds, files: Mapping[int, ExistingFile]) -> _Expected:
    """By config alone. A chain's head is not known then: no chunk after the table's newest one is expected."""
    if config.partition.kind != "integer":
        return _expected(config, network, bounds, None)
    stop = max(files, default=-1) + 1
    head = stop * config.partition.chunk_size + config.lag - 1
    closed = _expected(config, network, bounds, head if files else None).closed
    return _Expected(closed, Span(closed.stop, closed.stop))


async def _with_source(source: Source, bounds: Bounds) -> _Expected:
    head = await source.head()
    expected = _expected(source.config, source.network, bounds, head)
    check_length(source.config, source.network, expected.closed, head)
    left, surveyed = Ranges.from_span(expected.closed), dict[int, SurveyedPartition]()
    while left:
        window = next_window(left, newest_first=True)
        surveyed |= await source.survey(window)
        left = left.difference(window)
    return _Expected(expected.closed, expected.still_open, surveyed)


@dataclass
class _Clusters:
    """The clusters of one look, opened when they are first needed."""

    settings: Settings
    closing: AsyncExitStack
    opened: dict[str, ClickHouse] = field(default_factory=dict)
    away: dict[str, str] = field(default_factory=dict)
    """Clusters that could not be reached, and what they said: nobody waits for them twice."""

    async def facts(self, config: TableConfig) -> tuple[ClickHouse, SourceFacts]:
        """A table's cluster, and what it says of the table.

        Raises:
            Fault: it cannot be asked, or has no such table.
        """
        name = config.source
        if name in self.away:
            raise SourceUnavailable(self.away[name])
        if name not in self.opened:
            self.opened[name] = open_clickhouse(self.settings, name, patient=True)
            self.closing.push_async_callback(self.opened[name].close)
        try:
            return self.opened[name], await read_facts(self.opened[name], config)
        except SourceUnavailable as away:
            self.away[name] = str(away)
            raise


async def compare_all(
    settings: Settings,
    environment: str,
    chosen: Chosen,
    bounds: Bounds = EVERYTHING,
    *,
    ask_source: bool = True,
    looked: Callable[[], None] = lambda: None,
) -> list[Comparison]:
    """Compare tables and networks of an environment, in the order given; `looked` is called after each.

    What cannot be reached is said in its place, and the others are looked at all the same.

    Raises:
        Fault: the catalog cannot be reached or refuses, so nothing can be looked at.
    """
    resolved = settings.environment(environment)
    lake = open_lake(resolved)
    await asyncio.to_thread(lambda: lake.catalog)
    slots = asyncio.Semaphore(AT_ONCE)
    async with AsyncExitStack() as closing:
        clusters = _Clusters(settings, closing) if ask_source else None

        async def of_table(config: TableConfig, networks: Sequence[str]) -> list[Comparison]:
            async with slots:
                asked, problem = None, ""
                try:
                    asked = await clusters.facts(config) if clusters else None
                except Fault as fault:
                    problem = f"the source was not asked: {fault}"
                seen = []
                for network in networks:
                    source = Source(asked[0], config, network, asked[1]) if asked else None
                    suspend_after = resolved.export.suspend_after
                    seen.append(
                        await compare(
                            lake, source, config, network, bounds, suspend_after=suspend_after, problem=problem
                        )
                    )
                    looked()
                return seen

        configs = {config.name: config for config, _ in chosen}
        found = await asyncio.gather(
            *(of_table(config, [of for same, of in chosen if same.name == name]) for name, config in configs.items())
        )
    by_table = {seen.table: seen for every in found for seen in every}
    return [by_table[table_identifier(network, config.name)] for config, network in chosen]
