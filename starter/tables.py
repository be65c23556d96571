"""`icefleet tables`: what is there."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from activities.contracts.export import table_identifier
from activities.core.faults import Fault
from activities.core.partitions import label_of
from activities.core.tables import network_range
from starter.common import (
    PARTIAL,
    USAGE,
    EnvironmentOption,
    JsonOption,
    errors,
    fail,
    load,
    run,
    say,
    say_json,
    show_table,
)
from worker.comparison import Comparison, compare_all
from worker.config import Settings
from worker.lake import open_lake
from worker.overview import TableOverview, overview, standing

STATES = ("present", "missing", "stale", "shrunk", "empty", "open", "suspended")
"""What a partition may be, held against the source."""
Found = dict[str, dict[str, int]] | None
"""Table → kind of finding → partitions that stand; None where nobody can tell."""


def tables(
    pattern: Annotated[str, typer.Argument(help="Only tables whose name contains this.")] = "",
    environment: EnvironmentOption = "local",
    everything: Annotated[bool, typer.Option("--all", help="Also list what has not been exported yet.")] = False,
    source: Annotated[
        bool, typer.Option("--source", help="Hold them against the source: stale, shrunk, open.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the tables and networks of config that are there: partitions, rows, newest, findings, gaps.

    Findings are what people must look at, as of the last export (shrunk) or verification (verify). With --source each
    table is compared with its source instead, by a query or two: what is missing, what has newer rows there (stale),
    what has fewer (shrunk; nothing is replaced by itself), and what is not complete yet (open). Exit codes: 0 all were
    looked at, 1 failed, 2 cannot be, 3 some sources could not be asked, or nobody knows which findings stand.

    \b
    icefleet tables
    icefleet tables --all
    icefleet tables --source
    icefleet tables mainnet. --json
    """
    settings = load()
    seen = run(_look(settings, environment, pattern))
    if not seen and not json:
        fail(f"no table of environment {environment} has {pattern!r} in its name", USAGE)
    shown = [table for table in seen if table.exists or everything or pattern]
    compared = run(_compare(settings, environment, shown)) if source else {}
    found = {} if source else run(_findings(settings, environment))
    if json:
        if source:
            say_json([asdict(table) | _against(compared.get(table.table)) for table in seen])
        else:
            say_json([asdict(table) | {"findings": found and found.get(table.table, {})} for table in seen])
    else:
        _show(seen, shown, compared if source else None, found)
    raise typer.Exit(PARTIAL if found is None or any(one.problem for one in compared.values()) else 0)


def _show(
    seen: list[TableOverview], shown: list[TableOverview], compared: dict[str, Comparison] | None, found: Found
) -> None:
    if shown:
        show_table(_table_of(shown, found) if compared is None else _compared(shown, compared))
    for one in (compared or {}).values():
        for line in _lines(one):
            say(line)
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


async def _findings(settings: Settings, environment: str) -> Found:
    try:
        return await standing(settings, environment)
    except Fault as fault:
        errors.print(f"findings unknown: {fault}", markup=False)
        return None


async def _compare(settings: Settings, environment: str, seen: list[TableOverview]) -> dict[str, Comparison]:
    wanted = {table.table for table in seen}
    chosen = [
        (config, network)
        for config, network in settings.exports(environment)
        if table_identifier(network, config.name) in wanted
    ]
    return {one.table: one for one in await compare_all(settings, environment, chosen)}


def _against(compared: Comparison | None) -> dict[str, Any]:
    if compared is None:
        return {}
    if compared.problem:
        return {"source": {"problem": compared.problem}}
    rule = compared.config.partition
    shrunk = [[label_of(rule, first), label_of(rule, stop - 1)] for first, stop in compared.shrunk.pairs()]
    counts = {name: len(getattr(compared, name)) for name in STATES}
    return {"source": counts | {"shrunk_ranges": shrunk, "rows_outside": compared.outside.rows}}


def _compared(seen: list[TableOverview], compared: dict[str, Comparison]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("table", no_wrap=True)
    for name in ("partitions", "rows", *STATES):
        table.add_column(name, justify="right")
    for one in seen:
        found = compared[one.table]
        counts = ["?" if found.problem else f"{len(getattr(found, name)):,}" for name in STATES]
        table.add_row(one.table, f"{one.partitions:,}", f"{one.rows:,}", *counts)
    return table


def _lines(compared: Comparison) -> list[str]:
    """What counts do not say: why a table could not be compared, what has shrunk, and rows that are in no partition."""
    if compared.problem:
        return [f"{compared.table}: {compared.problem}"]
    return [*_shrunk(compared), *_outside(compared)]


def _outside(compared: Comparison) -> list[str]:
    outside, rule = compared.outside, compared.config.partition
    early = "below 0" if rule.kind == "integer" else "before 1970"
    said = [(outside.nulls, f"{rule.column} is NULL"), (outside.before, f"{rule.column} lies {early}")]
    why = ", ".join(f"in {count:,} of them {what}" for count, what in said if count)
    start = f"{compared.table}: {outside.rows:,} rows of the source belong to no partition and are never exported"
    way_out = "give them a value there, or cut the table by another column"
    return [f"{start}: {why}; {way_out}"] if why else []


def _shrunk(compared: Comparison) -> list[str]:
    if not compared.shrunk:
        return []
    rule = compared.config.partition
    gaps = [[label_of(rule, first), label_of(rule, stop - 1)] for first, stop in compared.shrunk.pairs()]
    start = f"{compared.table}: the source holds less than the table for {_gaps(gaps)}"
    return [f"{start}; nothing is replaced by itself, `icefleet export --force --allow-shrink` does it"]


def _table_of(seen: list[TableOverview], found: Found) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("table", no_wrap=True)
    for name in ("partitions", "rows", "empty", "missing", "suspended"):
        table.add_column(name, justify="right")
    for name in ("oldest", "newest", "findings", "gaps"):
        table.add_column(name, no_wrap=True)
    for one in seen:
        findings = "?" if found is None else _counted(found.get(one.table, {}))
        if not one.exists:
            table.add_row(one.table, "-", "-", "-", "-", "-", "", "", findings, "not exported yet")
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
            findings,
            _gaps(one.gaps),
        )
    return table


def _counted(kinds: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))


def _gaps(gaps: list[list[str]]) -> str:
    shown = [first if first == last else f"{first} … {last}" for first, last in gaps[-3:]]
    more = len(gaps) - len(shown)
    return ", ".join(shown) + (f" and {more} older" if more else "")
