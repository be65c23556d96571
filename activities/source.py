"""What the source says of a table: columns, engine, keys; looked through Distributed tables."""

from collections.abc import Sequence
from typing import Any

from activities.clients.clickhouse import ClickHouse
from activities.core.columns import SourceColumn
from activities.core.faults import SourceRefused
from activities.core.query import (
    Query,
    SourceFacts,
    check_sharding,
    head_query,
    read_distributed,
    read_engine,
    sorting_expressions,
)
from activities.core.tables import TableConfig

_TABLE = """SELECT engine, engine_full, sorting_key FROM system.tables
WHERE database = {database:String} AND name = {table:String}"""
_COLUMNS = """SELECT name, type FROM system.columns
WHERE database = {database:String} AND table = {table:String}
AND default_kind NOT IN ('ALIAS', 'MATERIALIZED', 'EPHEMERAL')
ORDER BY position"""


async def read_facts(clickhouse: ClickHouse, config: TableConfig) -> SourceFacts:
    """Columns of the table as it is queried; engine, sorting key and version of the table that holds its rows.

    Raises:
        SourceRefused: the source has no such table.
        BadConfig: rows are sharded so that FINAL would keep duplicates.
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
    final, version = read_engine(table["engine"], table["engine_full"])
    sorting_key = sorting_expressions(table["sorting_key"])
    if final and sharding_key:
        check_sharding(config.name, sharding_key, sorting_key, _names(columns), config.sharding_follows)
    return SourceFacts(columns=columns, final=final, sorting_key=sorting_key, version_column=version)


async def read_head(clickhouse: ClickHouse, config: TableConfig, facts: SourceFacts, network: str) -> int | None:
    """The newest value of an integer partition column at the source; None without rows, and for days and hours."""
    if config.partition.kind != "integer":
        return None
    query = head_query(config, facts, network)
    answer = await clickhouse.rows(query, comment=f"icefleet head of {network}.{config.name}")
    head = answer[0]["head"] if answer else None
    return None if head is None else int(head)


def _names(columns: Sequence[SourceColumn]) -> list[str]:
    return [column.name for column in columns]


async def _table(clickhouse: ClickHouse, config: TableConfig, *, database: str, table: str) -> dict[str, Any]:
    query = Query(_TABLE, {"database": database, "table": table})
    found = await clickhouse.rows(query, comment=f"icefleet facts of {config.name}")
    if not found:
        raise SourceRefused(
            f"table {config.name}: the source {config.source} has no table {database}.{table} that this user may see; "
            "mend name or database in tables.yaml, or grant the user its rights"
        )
    return found[0]
