"""What is there: every table of an environment, as the lake holds it."""

import time
from dataclasses import dataclass, field

from activities.core.empties import PROPERTY, known_empty
from activities.core.failing import PROPERTY as FAILING
from activities.core.failing import failing_of, set_aside
from activities.core.partitions import Ranges, Span, bounds_of, index_of, label_of, span_of
from activities.core.query import Query
from activities.core.sqltext import quote_identifier
from activities.core.tables import NetworkRange, TableConfig
from activities.findings import standing_findings
from activities.lake.catalog import Lake
from activities.lake.files import existing_files
from worker.bus import open_bus
from worker.config import Settings


@dataclass(frozen=True)
class TableOverview:
    """One table of one network.

    A gap is a run of partitions before the newest one that have no file and are not known to be empty.
    """

    table: str
    exists: bool
    partitions: int = 0
    rows: int = 0
    oldest: str = ""
    newest: str = ""
    empty: int = 0
    missing: int = 0
    gaps: list[list[str]] = field(default_factory=list)
    """First and last partition of each gap, oldest first."""
    suspended: int = 0
    """Failed every time, and left out of what is due for a while."""


def overview(lake: Lake, config: TableConfig, network: NetworkRange, suspend_after: int = 0) -> TableOverview:
    """Look at one table; this blocks. `suspend_after` is what the environment's config says."""
    identifier = f"{network.name}.{config.name}"
    table = lake.load(identifier)
    if table is None:
        return TableOverview(identifier, exists=False)
    rule = config.partition
    files = existing_files(table, rule, "")
    empty = known_empty(table.properties.get(PROPERTY, ""))
    failing = failing_of(table.properties.get(FAILING, ""), rule)
    suspended = len(set_aside(failing, suspend_after, int(time.time())).suspended)
    if not files:
        return TableOverview(identifier, exists=True, empty=len(empty), suspended=suspended)
    oldest, newest = min(files), max(files)
    start = min(oldest, span_of(rule, network.first, network.first).first)
    gaps = Ranges.from_span(Span(start, newest + 1)).difference(Ranges.from_indices(files)).difference(empty)
    return TableOverview(
        table=identifier,
        exists=True,
        partitions=len(files),
        rows=sum(file.rows for file in files.values()),
        oldest=label_of(rule, oldest),
        newest=label_of(rule, newest),
        empty=len(empty),
        missing=len(gaps),
        gaps=[[label_of(rule, first), label_of(rule, stop - 1)] for first, stop in gaps.pairs()],
        suspended=suspended,
    )


async def standing(settings: Settings, environment: str) -> dict[str, dict[str, int]]:
    """What people must look at: `<network>.<table>` → kind of finding → partitions.

    Raises:
        BusUnavailable, BusRefused: nobody can tell.
    """
    bus = open_bus(settings.environment(environment))
    try:
        return await standing_findings(bus, environment)
    finally:
        await bus.close()


def exported_rows(config: TableConfig, network: str, seen: TableOverview) -> Query:
    """What the source counts, duplicates collapsed, up to the end of the newest exported partition: `rows`."""
    _, stop = bounds_of(config.partition, index_of(config.partition, seen.newest))
    bound = "{stop:UInt64}" if config.partition.kind == "integer" else "toDateTime({stop:UInt32}, 'UTC')"
    source = f"{quote_identifier(config.database)}.{quote_identifier(config.name)} FINAL"
    network_column, column = quote_identifier(config.network_column), quote_identifier(config.partition.column)
    where = f"{network_column} = {{network:String}} AND {column} < {bound}"
    text = f"SELECT count() AS `rows` FROM {source} WHERE {where}"  # noqa: S608 - quoted names and parameters
    return Query(text, {"network": network, "stop": stop})
