"""`icefleet seed`: sample tables in a ClickHouse that has none."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from activities.core.faults import BadRequest, SourceRefused
from activities.core.query import Query
from deploy.local.sample import COMMENT, TABLES, SampleTable, Statement, drops, mark, statements
from starter.common import JsonOption, console, errors, load, run, say, say_json, show_table
from worker.clickhouse import open_clickhouse
from worker.config import Settings

# A node that is the whole of its cluster: tables made here are made everywhere, and no row is read twice.
_CLUSTER = """SELECT cluster FROM system.clusters
GROUP BY cluster HAVING count() = 1 AND min(is_local) = 1 ORDER BY cluster LIMIT 1"""
_FOUND = """SELECT name, comment FROM system.tables
WHERE database = 'default' AND has(splitByChar(',', {names:String}), name)"""
_COUNT = "SELECT meta_network_name AS network, count() AS rows FROM default.{table} GROUP BY network ORDER BY network"

SourceOption = Annotated[
    str, typer.Option(metavar="ENVIRONMENT.CLUSTER", help="The ClickHouse that gets the tables, as config names it.")
]
ScaleOption = Annotated[float, typer.Option(min=0.1, max=10, help="Multiplies how many clients report.")]


class ClickHouse(Protocol):
    """What this command needs of the client that worker.wiring opens."""

    async def rows(self, query: Query) -> list[dict[str, Any]]:
        """A small answer, one dict a row."""

    async def command(self, sql: str) -> None:
        """Run a statement that answers nothing."""


def seed(
    source: SourceOption = "local.default",
    scale: ScaleOption = 1.0,
    replace: Annotated[bool, typer.Option("--replace", help="Drop the sample's tables first, if they exist.")] = False,
    yes_create_tables: Annotated[
        bool, typer.Option("--yes-create-tables", help="Yes, in an environment other than `local`.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fill ClickHouse with a small, fixed piece of two Ethereum networks: block events, attestations, blocks.

    The rows are the same on every server. A second run changes nothing.
    Tables that `seed` did not make are never touched.

    Examples:
      icefleet seed

      icefleet seed --replace --scale 4

      icefleet seed --source staging.default --yes-create-tables
    """
    settings = load()
    report = run(_seed(settings, source, scale, replace=replace, allowed=yes_create_tables, quiet=as_json))
    if as_json:
        say_json(report)
    else:
        _show(report)


async def _seed(
    settings: Settings, source: str, scale: float, *, replace: bool, allowed: bool, quiet: bool
) -> dict[str, Any]:
    if source.partition(".")[0] != "local" and not allowed:
        raise BadRequest(
            f"{source} is not in the environment `local`, and `seed` makes tables: "
            "add --yes-create-tables if you mean it"
        )
    clickhouse = open_clickhouse(settings, source)
    try:
        is_there = await _is_there(clickhouse, source, scale, replace=replace)
        if not is_there:
            cluster = await _cluster(clickhouse, source)
            await _work(clickhouse, [*drops(), *statements(cluster=cluster, scale=scale)], quiet=quiet)
        tables = {table.name: await _count(clickhouse, table) for table in TABLES}
    finally:
        await clickhouse.close()
    return {"source": source, "scale": scale, "created": not is_there, "tables": tables}


async def _is_there(clickhouse: ClickHouse, source: str, scale: float, *, replace: bool) -> bool:
    """Whether the sample is there, whole and at this scale, and may stay.

    Raises:
        BadRequest: There are tables of these names that are not the sample's, or hold it at another scale.
    """
    names = [name for table in TABLES for name in (table.name, table.local)]
    found = await clickhouse.rows(Query(_FOUND, {"names": ",".join(names)}))
    comments = {row["name"]: row["comment"] for row in found}
    strangers = sorted(name for name, comment in comments.items() if not comment.startswith(COMMENT))
    if strangers:
        raise BadRequest(
            f"{source} has tables that `seed` did not make, and does not touch: {', '.join(strangers)}; "
            "rename or drop them yourself, or seed another ClickHouse"
        )
    if replace or len(comments) < len(names):
        return False
    marks = {comments[table.local] for table in TABLES}
    if COMMENT in marks:
        return False  # a run before this one was interrupted
    if marks != {mark(scale)}:
        raise BadRequest(
            f"{source} holds another sample ({', '.join(sorted(marks))}) than {mark(scale)!r}: "
            "add --replace to make it anew"
        )
    return True


async def _cluster(clickhouse: ClickHouse, source: str) -> str:
    found = await clickhouse.rows(Query(_CLUSTER))
    if not found:
        raise SourceRefused(
            f"{source} has no cluster of exactly this one node in system.clusters, and Distributed tables need one: "
            "add a <remote_servers> entry with one shard, or seed another ClickHouse"
        )
    return str(found[0]["cluster"])


async def _work(clickhouse: ClickHouse, todo: Sequence[Statement], *, quiet: bool) -> None:
    with _progress(len(todo), quiet=quiet) as step:
        for statement in todo:
            step(statement.title)
            await clickhouse.command(statement.sql)


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """What is told the title of every step: a bar on a terminal, else a line for every table."""
    shown = errors if quiet else console
    if not shown.is_terminal:
        said: set[str] = set()

        def line(title: str) -> None:
            table, _, what = title.partition(": ")
            if what != "drop" and table not in said:
                said.add(table)
                shown.print(f"filling {table} ...", markup=False)

        yield line
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=shown, transient=True) as progress:
        task = progress.add_task("", total=total)
        begun = False

        def step(title: str) -> None:
            nonlocal begun
            progress.update(task, description=title, advance=1 if begun else 0)
            begun = True

        yield step


async def _count(clickhouse: ClickHouse, table: SampleTable) -> dict[str, dict[str, int]]:
    """Per network: the rows as they are stored, and the `latest`, which FINAL leaves."""
    stored = await clickhouse.rows(Query(_COUNT.format(table=table.name)))
    latest = await clickhouse.rows(Query(_COUNT.format(table=f"{table.name} FINAL")))
    return {
        one["network"]: {"rows": int(one["rows"]), "latest": int(other["rows"])}
        for one, other in zip(stored, latest, strict=True)
    }


def _show(report: dict[str, Any]) -> None:
    source, scale = report["source"], report["scale"]
    done = f"seeded {source}" if report["created"] else f"{source} holds the sample already; --replace makes it anew"
    say(f"{done} (scale {scale:g})")
    table = Table(
        "table", "network", Column("rows", justify="right"), Column("older versions", justify="right"), box=None
    )
    for name, networks in report["tables"].items():
        for network, count in networks.items():
            table.add_row(name, network, f"{count['latest']:,}", f"{count['rows'] - count['latest']:,}")
    show_table(table)
