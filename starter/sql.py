"""`icefleet sql`: ask the lake a question."""

from typing import Annotated, Any

import duckdb
import typer
from rich.table import Table

from activities.core.faults import BadRequest
from starter.common import (
    FAILED,
    USAGE,
    EnvironmentOption,
    JsonOption,
    fail,
    load_environment,
    run,
    say,
    say_json,
    show_table,
)
from starter.duck import Duck, mentioned
from worker.config import Environment
from worker.lake import open_lake

SHOWN_ROWS = 200
AWAY = (duckdb.IOException, duckdb.HTTPException)
"""What DuckDB raises when catalog or storage do not answer; everything else is the query's fault."""


def sql(
    query: Annotated[str, typer.Argument(help="SQL for DuckDB; tables are <network>.<table>.")],
    environment: EnvironmentOption = "local",
    as_of: Annotated[str, typer.Option(help="A snapshot id, or a UTC time such as '2024-03-20 12:00:00'.")] = "",
    json: JsonOption = False,
) -> None:
    """Run SQL in DuckDB with the catalog attached, on the tables as they are or, with --as-of, as they were.

    \b
    icefleet sql "SELECT count(*) FROM mainnet.beacon_api_eth_v1_events_block"
    icefleet sql "FROM mainnet.canonical_execution_block LIMIT 5" --json
    icefleet sql "SELECT count(*) FROM mainnet.canonical_execution_block" --as-of '2026-01-01 00:00:00'
    """
    columns, rows = run(_ask(load_environment(environment), query, as_of))
    if json:
        say_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        show_table(table_of(columns, rows[:SHOWN_ROWS]))
        if len(rows) > SHOWN_ROWS:
            say(f"{len(rows) - SHOWN_ROWS:,} more rows; --json prints them all")


async def _ask(environment: Environment, query: str, as_of: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    named = mentioned(query, open_lake(environment).identifiers())
    if as_of and (not named or mentioned(query, [f"lake.{identifier}" for identifier in named])):
        raise BadRequest("--as-of is for tables that the query names as <network>.<table>")
    try:
        with Duck(environment) as duck:
            duck.name_tables(named, as_of)
            return duck.query(query)
    except duckdb.Error as wrong:
        fail(str(wrong), FAILED if isinstance(wrong, AWAY) else USAGE)


def table_of(columns: list[str], rows: list[tuple[Any, ...]]) -> Table:
    """Rows for people: numbers to the right, and nothing cut."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        numeric = bool(rows) and isinstance(rows[0][position], int | float) and not isinstance(rows[0][position], bool)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    return table
