"""SQL text: literals, and an INSERT whose expressions are checked against the table's columns."""

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.local.sample.tables import SampleTable

SEED = 20240318


@dataclass(frozen=True)
class Statement:
    """One SQL statement, and a line for people that says what it does."""

    title: str
    sql: str


def literal(value: str | float | None) -> str:
    """A value as ClickHouse reads it: a quoted string, a number or NULL."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return repr(value)


def digest(*parts: str) -> str:
    """SQL of a hash in the way of Ethereum: 0x and 64 hexadecimal digits, of the joined text of `parts`."""
    return f"concat('0x', lower(hex(SHA256(concat({', '.join(parts)})))))"


def insert(
    table: SampleTable, database: str, *, aliases: Mapping[str, str], columns: Mapping[str, str], rows: str
) -> str:
    """An INSERT through the Distributed table that returns when its rows are on their shards.

    Args:
        table: Where to.
        database: Its database.
        aliases: Expressions that others use, by name.
        columns: The expression of every column, in the table's order.
        rows: What follows FROM.
    """
    if tuple(columns) != tuple(table.columns):
        odd = [name for name in {**columns, **table.columns} if (name in columns) != (name in table.columns)]
        raise ValueError(
            f"{table.name}: the generator's columns are not the table's: {', '.join(odd) or 'their order'}"
        )
    known = ",\n    ".join(f"{expression} AS {name}" for name, expression in aliases.items())
    # Aliases of their own: a column's name must not hide an alias that another expression uses.
    values = ",\n    ".join(columns.values())
    return (
        f"INSERT INTO {database}.{table.name} ({', '.join(columns)})\n"
        f"SETTINGS insert_distributed_sync = 1\nWITH\n    {known}\nSELECT\n    {values}\nFROM {rows}"
    )
