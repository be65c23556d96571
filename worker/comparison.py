"""Every partition of a table, held against its source: what is there, missing, stale, shrunk, empty or open."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from activities.clients.clickhouse import ClickHouse
from activities.contracts.export import table_identifier
from activities.core.faults import Fault
from activities.core.partitions import Ranges, Span, asked_span, expected_span
from activities.core.planning import Classified, ExistingFile, SurveyedPartition, classify
from activities.core.tables import TableConfig, network_range
from activities.lake.catalog import Lake
from activities.lake.files import existing_files
from activities.source import read_facts
from activities.surveys import Source, next_window
from worker.config import Settings
from worker.wiring import open_clickhouse, open_lake

AT_ONCE = 4
"""Tables that are looked at together."""
NOTHING = Ranges()


@dataclass(frozen=True)
class Comparison:
    """One table of one network: every expected partition, and every one that has a file, is in one of the sets."""

    table: str
    """`<network>.<table>`."""
    config: TableConfig
    exists: bool = False
    problem: str = ""
    """Why it could not be compared; then nothing else is known."""
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
    """Missing, and not tried again by itself."""
    files: Mapping[int, ExistingFile] = field(default_factory=dict)
    """What the table holds, by partition."""
    surveyed: Mapping[int, SurveyedPartition] = field(default_factory=dict)
    """What the source holds of the closed partitions, by partition."""


async def compare(
    lake: Lake, clickhouse: ClickHouse, config: TableConfig, network: str, *, first: str = "", last: str = ""
) -> Comparison:
    """Compare one table, or its partitions from `first` to `last`, by a query or two.

    Raises:
        Fault: table or source cannot be read; BadRequest for ends that are no partitions.
    """
    rule, identifier = config.partition, table_identifier(network, config.name)
    facts = await read_facts(clickhouse, config)
    source = Source(clickhouse, config, network, facts)
    closed, still_open = expected_span(
        config, network_range(config, network), now=int(time.time()), head=await source.head()
    )
    wanted = None
    if first or last:
        wanted = asked_span(rule, first, last, Span(closed.first, max(closed.stop, still_open.stop)))
        closed, still_open = closed.intersect(wanted), still_open.intersect(wanted)
    table = await asyncio.to_thread(lake.load, identifier)
    files = {} if table is None else await asyncio.to_thread(existing_files, table, rule, facts.version_column, wanted)
    surveyed, asked = await _survey(source, closed)
    found = classify(closed, files, surveyed, asked, force=False, has_version=bool(facts.version_column))
    return _sorted_out(
        Comparison(identifier, config, table is not None, files=files, surveyed=surveyed), found, still_open
    )


async def _survey(source: Source, closed: Span) -> tuple[dict[int, SurveyedPartition], Ranges]:
    asked, surveyed = Ranges.from_span(closed), dict[int, SurveyedPartition]()
    left = asked
    while left:
        window = next_window(left, newest_first=True)
        surveyed |= await source.survey(window)
        left = left.difference(window)
    return surveyed, asked


def _sorted_out(seen: Comparison, found: Classified, still_open: Span) -> Comparison:
    def planned(reason: str) -> Ranges:
        return Ranges.from_indices(todo.index for todo in found.todo if todo.reason == reason)

    held, shrunk, stale = Ranges.from_indices(seen.files), Ranges.from_indices(found.shrunk), planned("stale")
    return replace(
        seen,
        present=held.difference(shrunk).difference(stale),
        missing=planned("missing"),
        stale=stale,
        shrunk=shrunk,
        empty=found.empty,
        open=Ranges.from_span(still_open).difference(held),
    )


async def compare_all(
    settings: Settings, environment: str, tables: Sequence[tuple[TableConfig, str]]
) -> list[Comparison]:
    """Compare many tables and networks of an environment, in order; one that cannot be compared says why."""
    lake, slots = open_lake(settings.environment(environment)), asyncio.Semaphore(AT_ONCE)
    async with AsyncExitStack() as stack:
        clusters: dict[str, ClickHouse] = {}
        for source in {config.source for config, _ in tables}:
            clusters[source] = open_clickhouse(settings, source, patient=True)
            stack.push_async_callback(clusters[source].close)

        async def one(config: TableConfig, network: str) -> Comparison:
            async with slots:
                try:
                    return await compare(lake, clusters[config.source], config, network)
                except Fault as fault:
                    return Comparison(table_identifier(network, config.name), config, problem=str(fault))

        return list(await asyncio.gather(*(one(config, network) for config, network in tables)))
