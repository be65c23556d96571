"""What to say of a partition that holds a value which its column in Iceberg cannot: which column, and the way out.

The export itself only says that there is one. Asking which costs the source a query a column, and is done when the
partition has failed already.
"""

from typing import Any

from activities.clients.clickhouse import ClickHouse
from activities.core.columns import ExportColumn
from activities.core.faults import UnsupportedType
from activities.core.query import SourceFacts, cast_query, refused_text_query
from activities.core.sqltext import quote_identifier
from activities.core.tables import TableConfig
from activities.core.types import bare_type
from activities.core.utf8 import was_refused


async def explained(
    misfit: UnsupportedType,
    clickhouse: ClickHouse,
    config: TableConfig,
    facts: SourceFacts,
    columns: tuple[ExportColumn, ...],
    network: str,
    index: int,
) -> str:
    """Everything but the partition's name, which the caller says."""
    if was_refused(str(misfit)):
        query = refused_text_query(config, facts, columns, network, index)
        counts: dict[str, Any] = (await clickhouse.rows(query, comment=f"icefleet text of {config.name}"))[0]
        kinds = {column.name: column.type for column in facts.columns}
        wrong = [
            f"column {column.name} in {counts[column.name]} rows (write `{column.name}: {_bytes(column, kinds)}`)"
            for column in columns
            if counts.get(column.name)
        ]
        return (
            f"text that is not UTF-8, which readers of Parquet fail on: {', '.join(wrong)}; mend it at the source, or "
            "write what is said above under `types` of the table in tables.yaml, before the Iceberg table is made"
        )
    for column in columns:
        if column.expression == quote_identifier(column.name):
            continue
        try:
            query = cast_query(config, facts, column, network, index)
            await clickhouse.rows(query, comment=f"icefleet cast of {config.name}.{column.name}")
        except UnsupportedType as said:
            return (
                f"column {column.name} holds a value that does not fit {column.iceberg}; give it another type under "
                f"`types` in tables.yaml, or mend the row at the source: {said}"
            )
    return f"a value does not fit its column in Iceberg: {misfit}"


def _bytes(column: ExportColumn, kinds: dict[str, str]) -> str:
    """The Iceberg type that carries the same values as bytes."""
    name, arguments = bare_type(kinds[column.name])
    if name == "FixedString":
        return f"fixed[{arguments[0]}]"
    return str(column.iceberg).replace("string", "binary")
