"""`icefleet compare`: two published trees or tables, partition by partition."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.progress import Progress

from starter.common import (
    FAILED,
    PARTIAL,
    EnvironmentOption,
    JsonOption,
    console,
    load,
    one_line,
    run,
    say,
    say_json,
)
from starter.options import FromOption, ToOption
from worker.compare import CompareReport, Comparison
from worker.compare_tables import Compared, compare_all, understand
from worker.config import Settings

CODES = {"same": 0, "different": PARTIAL, "failed": FAILED}
PatternsOption = list[str] | None


def compare(
    left: Annotated[str, typer.Argument(help="A table, a tree in a bucket, or a tree on the web; see below.")],
    right: Annotated[str, typer.Argument(help="What it is compared with.")],
    environment: EnvironmentOption = "local",
    table: Annotated[
        PatternsOption,
        typer.Option("--table", "-t", help="Of two trees: only these tables, groups or globs."),
    ] = None,
    network: Annotated[
        PatternsOption, typer.Option("--network", "-n", help="Of two trees: only these names or globs.")
    ] = None,
    first: FromOption = "",
    last: ToOption = "",
    deep: Annotated[bool, typer.Option("--deep", help="Also read all values, and compare their checksums.")] = False,
    json: JsonOption = False,
) -> None:
    """Compare what two places hold of tables: what is missing on either side, rows, schema and values.

    \b
    icefleet compare https://data.example.org production: --from 2024-03-18 --to 2024-03-18
    icefleet compare https://data.example.org production: -t 'canonical_*' -n mainnet -n 'hole*' --to 20000000
    icefleet compare staging:mainnet.beacon_api_eth_v1_events_block production:mainnet.beacon_api_eth_v1_events_block
    icefleet compare s3://old-bucket local: -t beacon_api_eth_v1_events_block -n mainnet --from 2024-03-18 --deep

    A side is an Iceberg table (ENVIRONMENT:NETWORK.TABLE), the public layout in an environment's own bucket
    (ENVIRONMENT:) or below another place of its store (s3://BUCKET/PREFIX), or below an address (https://…), where each
    partition that config expects is asked for. Of two trees every table and network of the environment's config is
    compared, one after the other. Dates bound days and hours, numbers bound chunks; a table that is not cut by what is
    given is compared whole. Only footers are read without --deep. Exit codes, the worst of all tables: 0 the same, 1
    failed, 2 cannot be, 3 differences.
    """
    settings = load()
    with one_line():
        asked = understand(
            settings,
            left,
            right,
            environment,
            tables=table or (),
            networks=network or (),
            first=first,
            last=last,
            deep=deep,
        )
    compared = run(_compare(settings, asked, quiet=json))
    if json:
        say_json(asdict(compared))
    elif len(asked) > 1:
        say(compared.message)
    raise typer.Exit(CODES[compared.status])


async def _compare(settings: Settings, asked: list[Comparison], *, quiet: bool) -> Compared:
    with Progress(console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("tables", total=len(asked))
        within = progress.add_task("partitions", total=None)

        def show(name: str, done: int, total: int) -> None:
            progress.update(within, description=name, completed=done, total=total)

        def ended(report: CompareReport) -> None:
            progress.advance(task)
            if not quiet:
                _print(report)

        return await compare_all(settings, asked, show, ended)


def _print(report: CompareReport) -> None:
    say(report.message)
    for difference in report.differences:
        say(f"  {difference.kind} {difference.partition}: {difference.message}")
    if report.found > len(report.differences):
        say(f"  and {report.found - len(report.differences)} more")
