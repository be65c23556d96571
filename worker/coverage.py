"""Looking at what is there of many tables, in the lake and at their sources, without touching anything."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from activities.clients.clickhouse import ClickHouse
from activities.contracts.export import table_identifier
from activities.core.coverage import Bounds, Coverage, states_of
from activities.core.empties import PROPERTY, known_empty
from activities.core.faults import Fault, SourceUnavailable
from activities.core.partitions import Ranges, Span, expected_span
from activities.core.planning import ExistingFile, SurveyedPartition
from activities.core.query import SourceFacts, head_query, survey_query
from activities.core.tables import TableConfig, network_range
from activities.lake.catalog import Lake
from activities.lake.files import existing_files
from activities.source import read_facts
from worker.config import Settings
from worker.wiring import open_clickhouse, open_lake

TABLES_AT_ONCE = 4
"""Tables that are looked at together; each asks its source one question at a time."""

Chosen = Sequence[tuple[TableConfig, str]]


@dataclass(frozen=True)
class _Source:
    """A table's source, ready to be asked."""

    clickhouse: ClickHouse
    facts: SourceFacts


@dataclass
class _Sources:
    """The clusters of one look, opened when they are first needed."""

    settings: Settings
    closing: AsyncExitStack
    clusters: dict[str, ClickHouse] = field(default_factory=dict)
    away: dict[str, str] = field(default_factory=dict)
    """Clusters that could not be reached, and what they said: nobody waits for them twice."""

    async def open(self, config: TableConfig) -> _Source:
        """The source of a table, and what it says of the table.

        Raises:
            Fault: it cannot be asked, or has no such table.
        """
        name = config.source
        if name in self.away:
            raise SourceUnavailable(self.away[name])
        if name not in self.clusters:
            self.clusters[name] = open_clickhouse(self.settings, name)
            self.closing.push_async_callback(self.clusters[name].close)
        try:
            return _Source(self.clusters[name], await read_facts(self.clusters[name], config))
        except SourceUnavailable as away:
            self.away[name] = str(away)
            raise


async def cover(
    settings: Settings,
    environment: str,
    chosen: Chosen,
    bounds: Bounds,
    *,
    ask_source: bool = True,
    looked: Callable[[], None] = lambda: None,
) -> list[Coverage]:
    """Look at tables and networks, in the order given; `looked` is called after each.

    What cannot be reached is said in its place, and the others are looked at all the same.

    Raises:
        Fault: the catalog cannot be reached or refuses, so nothing can be looked at.
    """
    lake = open_lake(settings.environment(environment))
    await asyncio.to_thread(lambda: lake.catalog)
    slots = asyncio.Semaphore(TABLES_AT_ONCE)
    async with AsyncExitStack() as closing:
        sources = _Sources(settings, closing) if ask_source else None

        async def of_table(config: TableConfig, networks: Sequence[str]) -> list[Coverage]:
            async with slots:
                source, trouble = None, ""
                try:
                    source = await sources.open(config) if sources else None
                except Fault as fault:
                    trouble = f"the source was not asked: {fault}"
                seen = []
                for network in networks:
                    seen.append(await _look(lake, source, config, network, bounds, trouble))
                    looked()
                return seen

        configs = {config.name: config for config, _ in chosen}
        found = await asyncio.gather(
            *(of_table(config, [of for same, of in chosen if same.name == name]) for name, config in configs.items())
        )
    by_table = {seen.table: seen for every in found for seen in every}
    return [by_table[table_identifier(network, config.name)] for config, network in chosen]


@dataclass(frozen=True)
class _Expected:
    """What should be there, and what the source has of it: None when it was not asked."""

    closed: Span
    still_open: Span
    surveyed: dict[int, SurveyedPartition] | None = None


async def _look(
    lake: Lake, source: _Source | None, config: TableConfig, network: str, bounds: Bounds, trouble: str
) -> Coverage:
    """One table and network: one look at its manifests and one survey, whatever the range."""
    version = source.facts.version_column if source else ""
    try:
        existing, empty = await asyncio.to_thread(_held, lake, config, network, version)
    except (Fault, OSError) as wrong:
        return Coverage(config.name, network, config.partition, trouble=f"the table cannot be read: {wrong}")
    expected = _without_source(config, network, bounds, existing)
    if source is not None:
        try:
            expected = await _with_source(source, config, network, bounds)
        except Fault as fault:
            trouble = f"the source did not answer: {fault}"
    return Coverage(
        config.name,
        network,
        config.partition,
        first=(expected.closed or expected.still_open).first,
        runs=states_of(
            expected.closed,
            expected.still_open,
            existing,
            expected.surveyed,
            empty=empty,
            suspended=Ranges.from_pairs(()),
            has_version=bool(version),
        ),
        asked=expected.surveyed is not None,
        trouble=trouble,
    )


def _expected(config: TableConfig, network: str, bounds: Bounds, head: int | None) -> _Expected:
    closed, still_open = expected_span(config, network_range(config, network), now=int(time.time()), head=head)
    asked = bounds.span(config.partition, Span(closed.first, max(closed.stop, still_open.stop)))
    return _Expected(closed.intersect(asked), still_open.intersect(asked))


def _without_source(config: TableConfig, network: str, bounds: Bounds, existing: dict[int, ExistingFile]) -> _Expected:
    """By config alone. A chain's head is not known then: no chunk after the table's newest one is expected."""
    if config.partition.kind != "integer":
        return _expected(config, network, bounds, None)
    stop = max(existing, default=-1) + 1
    head = stop * config.partition.chunk_size + config.lag - 1
    expected = _expected(config, network, bounds, head if existing else None)
    return replace(expected, still_open=Span(expected.closed.stop, expected.closed.stop))


async def _with_source(source: _Source, config: TableConfig, network: str, bounds: Bounds) -> _Expected:
    expected = _expected(config, network, bounds, await _head(source, config, network))
    return replace(expected, surveyed=await _survey(source, config, network, expected.closed))


def _held(lake: Lake, config: TableConfig, network: str, version: str) -> tuple[dict[int, ExistingFile], Ranges]:
    """The table's files and its remembered empties; none when there is no such table. This blocks."""
    table = lake.load(table_identifier(network, config.name))
    if table is None:
        return {}, Ranges.from_pairs(())
    return existing_files(table, config.partition, version), known_empty(table.properties.get(PROPERTY, ""))


async def _head(source: _Source, config: TableConfig, network: str) -> int | None:
    if config.partition.kind != "integer":
        return None
    query = head_query(config, source.facts, network)
    rows = await source.clickhouse.rows(query, comment=_comment(config, network))
    return None if not rows or rows[0]["head"] is None else int(rows[0]["head"])


async def _survey(source: _Source, config: TableConfig, network: str, span: Span) -> dict[int, SurveyedPartition]:
    if not len(span):
        return {}
    query = survey_query(config, source.facts, network, span, len(span), newest_first=True)
    rows = await source.clickhouse.rows(query, comment=_comment(config, network))
    return {
        int(row["partition"]): SurveyedPartition(
            int(row["partition"]), int(row["rows"]), None if row["version"] is None else int(row["version"])
        )
        for row in rows
    }


def _comment(config: TableConfig, network: str) -> str:
    return f"icefleet coverage {table_identifier(network, config.name)}"
