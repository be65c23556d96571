"""`icefleet tables`: what is there."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from activities.contracts.export import table_identifier
from activities.core.tables import network_range
from starter.common import USAGE, EnvironmentOption, JsonOption, console, fail, load, run, say, say_json
from worker.config import Settings
from worker.overview import TableOverview, overview
from worker.wiring import open_lake


def tables(
    pattern: Annotated[str, typer.Argument(help="Only tables whose name contains this.")] = "",
    environment: EnvironmentOption = "local",
    everything: Annotated[bool, typer.Option("--all", help="Also list what has not been exported yet.")] = False,
    json: JsonOption = False,
) -> None:
    """List the tables and networks of config that are there: partitions, rows, newest, gaps.

    \b
    icefleet tables
    icefleet tables --all
    icefleet tables mainnet. --json
    """
    seen = run(_look(load(), environment, pattern))
    if not seen and not json:
        fail(f"no table of environment {environment} has {pattern!r} in its name", USAGE)
    if json:
        say_json([asdict(table) for table in seen])
        return
    shown = [table for table in seen if table.exists or everything or pattern]
    if shown:
        console.print(_table_of(shown))
    if len(shown) < len(seen):
        more = "more " if shown else ""
        say(f"{len(seen) - len(shown)} {more}of config have not been exported yet; `icefleet tables --all` lists them")


async def _look(settings: Settings, environment: str, pattern: str) -> list[TableOverview]:
    resolved = settings.environment(environment)
    lake = open_lake(resolved)
    found = []
    for config, name in settings.exports(environment):
        if pattern in table_identifier(name, config.name):
            network = network_range(config, name)
            found.append(overview(lake, config, network, resolved.export.suspend_after))
    return found


def _table_of(seen: list[TableOverview]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("table", no_wrap=True)
    for name in ("partitions", "rows", "empty", "missing", "suspended"):
        table.add_column(name, justify="right")
    for name in ("oldest", "newest", "gaps"):
        table.add_column(name, no_wrap=True)
    for one in seen:
        if not one.exists:
            table.add_row(one.table, "-", "-", "-", "-", "-", "", "", "not exported yet")
            continue
        table.add_row(
            one.table,
            f"{one.partitions:,}",
            f"{one.rows:,}",
            f"{one.empty:,}",
            f"{one.missing:,}",
            f"{one.suspended:,}",
            one.oldest,
            one.newest,
            _gaps(one.gaps),
        )
    return table


def _gaps(gaps: list[list[str]]) -> str:
    shown = [first if first == last else f"{first} … {last}" for first, last in gaps[-3:]]
    more = len(gaps) - len(shown)
    return ", ".join(shown) + (f" and {more} older" if more else "")
