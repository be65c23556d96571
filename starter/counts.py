"""The same rows counted twice: in the lake by DuckDB, at the source by ClickHouse."""

from dataclasses import dataclass

from activities.core.tables import network_range
from starter.duck import Duck
from worker.clickhouse import open_clickhouse
from worker.config import Settings
from worker.lake import open_lake
from worker.overview import exported_rows, overview


@dataclass(frozen=True)
class Counts:
    """Rows of everything that has been exported of one table and network."""

    files: int
    newest: str
    lake: int
    source: int


async def count_both(settings: Settings, environment: str, name: str, network: str, duck: Duck) -> Counts:
    """Count a table in the lake, and at the source up to the newest exported partition."""
    config = settings.table(environment, name, network)
    known = network_range(config, network)
    seen = overview(open_lake(settings.environment(environment)), config, known)
    rows: list[tuple[int, ...]] = [(0,)]
    if seen.exists:
        _, rows = duck.query(f'SELECT count(*) FROM lake."{network}"."{name}"')  # noqa: S608 - names of config
    clickhouse = open_clickhouse(settings, config.source)
    try:
        answer = await clickhouse.rows(exported_rows(config, network, seen)) if seen.newest else [{"rows": 0}]
    finally:
        await clickhouse.close()
    return Counts(seen.partitions, seen.newest, int(rows[0][0]), int(answer[0]["rows"]))
