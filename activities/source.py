"""What the source says of a table: columns, engine, keys; looked through Distributed tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from activities.core.columns import SourceColumn
from activities.core.engines import check_holder, newest_may_go
from activities.core.faults import SourceRefused
from activities.core.query import (
    Query,
    SourceFacts,
    check_sharding,
    read_distributed,
    read_engine,
    sorting_expressions,
)
from activities.core.tables import TableConfig

if TYPE_CHECKING:  # commits to mirrors and changelogs share what those of exports do, and ask no source
    from activities.clients.clickhouse import ClickHouse

_TABLE = """SELECT engine, engine_full, sorting_key FROM system.tables
WHERE database = {database:String} AND name = {table:String}"""
_COLUMNS = """SELECT name, type FROM system.columns
WHERE database = {database:String} AND table = {table:String}
AND default_kind NOT IN ('ALIAS', 'MATERIALIZED', 'EPHEMERAL')
ORDER BY position"""

_SIZE = """SELECT total_bytes, total_rows FROM system.tables
WHERE database = {database:String} AND name = {table:String}"""


async def read_facts(clickhouse: "ClickHouse", config: TableConfig) -> SourceFacts:
    """Columns of the table as it is queried; engine, sorting key and version of the table that holds its rows.

    Raises:
        SourceRefused: the source has no such table.
        BadConfig: rows are sharded so that FINAL would keep duplicates, or nobody sees whether they collapse.
    """
    where = {"database": config.database, "table": config.name}
    table = await _table(clickhouse, config, **where)
    found = await clickhouse.rows(Query(_COLUMNS, dict(where)), comment=f"icefleet facts of {config.name}")
    columns = tuple(SourceColumn(row["name"], row["type"]) for row in found)
    sharding_key = ""
    if table["engine"] == "Distributed":
        behind = read_distributed(table["engine_full"])
        sharding_key = behind.sharding_key
        table = await _table(clickhouse, config, database=behind.database or config.database, table=behind.table)
    check_holder(config.name, table["engine"])
    final, version = read_engine(table["engine"], table["engine_full"])
    sorting_key = sorting_expressions(table["sorting_key"])
    if final and sharding_key:
        check_sharding(config.name, sharding_key, sorting_key, _names(columns), config.sharding_follows)
    may_go = newest_may_go(table["engine"], table["engine_full"], sorting_key, config.partition.column)
    return SourceFacts(
        columns=columns, final=final, sorting_key=sorting_key, version_column=version, newest_may_go=may_go
    )


async def mean_source_row_bytes(clickhouse: "ClickHouse", config: TableConfig) -> float:
    """Bytes that a row takes where its table stores it, compressed; 0 when the engine does not say.

    Raises:
        SourceRefused: the source has no such table.
    """
    where = {"database": config.database, "table": config.name}
    table = await _table(clickhouse, config, **where)
    if table["engine"] == "Distributed":
        behind = read_distributed(table["engine_full"])
        where = {"database": behind.database or config.database, "table": behind.table}
    found = await clickhouse.rows(Query(_SIZE, dict(where)), comment=f"icefleet size of {config.name}")
    size = found[0] if found else {}
    rows = int(size.get("total_rows") or 0)
    return int(size.get("total_bytes") or 0) / rows if rows else 0.0


def _names(columns: Sequence[SourceColumn]) -> list[str]:
    return [column.name for column in columns]


async def _table(clickhouse: "ClickHouse", config: TableConfig, *, database: str, table: str) -> dict[str, Any]:
    query = Query(_TABLE, {"database": database, "table": table})
    found = await clickhouse.rows(query, comment=f"icefleet facts of {config.name}")
    if not found:
        raise SourceRefused(
            f"table {config.name}: the source {config.source} has no table {database}.{table} that this user may see; "
            "mend name or database in tables.yaml, or grant the user its rights"
        )
    return found[0]
