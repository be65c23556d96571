"""`icefleet compare`: two published trees or tables, partition by partition."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.progress import Progress

from starter.common import PARTIAL, EnvironmentOption, JsonOption, console, load, one_line, run, say, say_json
from worker.compare import CompareReport, Comparison, understand
from worker.compare import compare as compare_sides
from worker.config import Settings


def compare(
    left: Annotated[str, typer.Argument(help="A table, a tree in a bucket, or a tree on the web; see below.")],
    right: Annotated[str, typer.Argument(help="What it is compared with.")],
    environment: EnvironmentOption = "local",
    table: Annotated[str, typer.Option("--table", "-t", help="Of two trees: which table of tables.yaml.")] = "",
    network: Annotated[str, typer.Option("--network", "-n", help="Of two trees: which network.")] = "",
    first: Annotated[str, typer.Option("--from", help="First partition, inclusive.")] = "",
    last: Annotated[str, typer.Option("--to", help="Last partition, inclusive.")] = "",
    deep: Annotated[bool, typer.Option("--deep", help="Also read all values, and compare their checksums.")] = False,
    json: JsonOption = False,
) -> None:
    """Compare what two places hold of a table: what is missing on either side, rows, schema and values.

    \b
    icefleet compare https://data.example.org production: -t canonical_execution_block -n mainnet --to 20000000
    icefleet compare staging:mainnet.beacon_api_eth_v1_events_block production:mainnet.beacon_api_eth_v1_events_block
    icefleet compare s3://old-bucket local: -t beacon_api_eth_v1_events_block -n mainnet --from 2024-03-18 --deep

    A side is an Iceberg table (ENVIRONMENT:NETWORK.TABLE), the public layout in an environment's own bucket
    (ENVIRONMENT:) or below another place of its store (s3://BUCKET/PREFIX), or below an address (https://…), where each
    partition that config expects is asked for. Only footers are read without --deep. Exit codes: 0 the same, 1 failed,
    2 cannot be, 3 differences.
    """
    settings = load()
    with one_line():
        asked = understand(
            settings, left, right, environment, table=table, network=network, first=first, last=last, deep=deep
        )
    report = run(_compare(settings, asked, quiet=json))
    if json:
        say_json(asdict(report))
    else:
        _print(report)
    raise typer.Exit(PARTIAL if report.found else 0)


async def _compare(settings: Settings, asked: Comparison, *, quiet: bool) -> CompareReport:
    with Progress(console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("partitions", total=None)
        return await compare_sides(
            settings, asked, lambda done, total: progress.update(task, completed=done, total=total)
        )


def _print(report: CompareReport) -> None:
    say(report.message)
    for difference in report.differences:
        say(f"  {difference.kind} {difference.partition}: {difference.message}")
    if report.found > len(report.differences):
        say(f"  and {report.found - len(report.differences)} more")
