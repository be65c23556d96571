"""`icefleet config`: what the config says, and everything that is wrong with it."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from activities.core.faults import BadConfig, BadRequest
from starter.common import say, show_table
from worker.config import ConfigError, Problem, Settings, load_settings

if TYPE_CHECKING:
    from worker.destination_check import DestinationReport
    from worker.source_check import SourceReport

USAGE = 2
"""Exit code of a command line that cannot be: here, an environment that does not exist."""

app = typer.Typer(help="Check what the config files say.", no_args_is_help=True)

Directory = Annotated[
    Path | None,
    typer.Option(
        "--config-dir",
        help="Holds environments.yaml, tables.yaml, schedules.yaml and mirrors.yaml.",
        show_default="./config",
    ),
]
Chosen = Annotated[
    str | None, typer.Option("--environment", "-e", help="Also demand that this environment's secrets are set.")
]
Source = Annotated[
    bool, typer.Option("--source", help="Also ask the sources of the environment (else of the default one).")
]
Destination = Annotated[
    bool, typer.Option("--destination", help="Also try the object store of the environment, by objects it removes.")
]
Default = Annotated[str, typer.Option(envvar="ICEFLEET_ENVIRONMENT", hidden=True)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback()
def config() -> None:
    """Check what the config files say."""


@app.command()
def check(
    config_dir: Directory = None,
    environment: Chosen = None,
    source: Source = False,
    destination: Destination = False,
    as_json: AsJson = False,
    default_environment: Default = "local",
) -> None:
    """Print every problem of the config and exit with 1, or say what is configured.

    Without an environment, secrets that are not set are only mentioned. With --source, every table is held against the
    live source as well: that it and its columns exist, can be told apart and cut, and carried into Iceberg, and that
    every column that looks sensitive has a decision. So are the load and the limits that config asks of the source.
    With --destination, the bucket is tried as well: objects that are created once, uploads in parts, copies, listings.
    About 25 MiB are written below its prefix, and removed.

    Examples:
      icefleet config check

      icefleet config check -e production

      icefleet config check -e production --source

      icefleet config check -e production --destination

      icefleet config check --config-dir /etc/icefleet --json
    """
    asked = _Asked()
    try:
        settings = load_settings(config_dir)
        problems = settings.unset(environment) if environment else []
        if not problems:
            asked = _ask(settings, environment or default_environment, source=source, destination=destination)
    except ConfigError as error:
        settings, problems = None, error.problems
    except (BadRequest, BadConfig) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(USAGE if isinstance(error, BadRequest) else 1) from None
    if as_json:
        typer.echo(json.dumps(_report(settings, problems, asked), indent=2))
    elif problems:
        for problem in problems:
            typer.echo(str(problem), err=True)
        typer.echo(_count(len(problems)), err=True)
    elif source or destination:
        _say_sources(asked.sources or ())
        _say_destination(asked.destination)
    elif settings is not None:
        _show(settings)
    if problems or not asked.ok:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Asked:
    """What sources and destination said; None where they were not asked."""

    sources: "Sequence[SourceReport] | None" = None
    destination: "DestinationReport | None" = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with them."""
        return all(report.ok for report in self.sources or ()) and (self.destination is None or self.destination.ok)


def _ask(settings: Settings, environment: str, *, source: bool, destination: bool) -> _Asked:
    sources = _ask_sources(settings, environment) if source else None
    return _Asked(sources, _try_destination(settings, environment) if destination else None)


def _ask_sources(settings: Settings, environment: str) -> "list[SourceReport]":
    # The driver takes a second to load, which a look at the files alone need not spend.
    from worker.source_check import check_sources  # noqa: PLC0415

    return asyncio.run(check_sources(settings, environment))


def _try_destination(settings: Settings, environment: str) -> "DestinationReport":
    from worker.destination_check import check_destination  # noqa: PLC0415 - as above

    return asyncio.run(check_destination(settings.environment(environment, "storage")))


def _say_destination(report: "DestinationReport | None") -> None:
    if report is None:
        return
    for lacking in report.lacks:
        typer.echo(f"{report.where} lacks {lacking}", err=True)
    if report.unreachable:
        typer.echo(report.unreachable, err=True)
    elif report.ok:
        typer.echo(f"{report.where}: it can hold a lake")


def _say_sources(reports: "Sequence[SourceReport]") -> None:
    for report in reports:
        for finding in report.findings:
            typer.echo(str(finding), err=True)
        if report.unreachable:
            typer.echo(report.unreachable, err=True)
        elif report.findings:
            tables = len({finding.table for finding in report.findings if finding.table})
            said = f"{report.source}: {_count(len(report.findings))} in {tables} of {_count(report.tables, 'table')}"
            typer.echo(said, err=True)
        else:
            typer.echo(f"{report.source}: {_count(report.tables, 'table')}, nothing wrong")


def _count(number: int, what: str = "problem") -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _report(settings: Settings | None, problems: Sequence[Problem], asked: _Asked) -> dict[str, Any]:
    report: dict[str, Any] = {
        "ok": not problems and asked.ok,
        "problems": [
            {"file": found.file, "line": found.line, "key": found.key, "message": found.message} for found in problems
        ],
    }
    if asked.sources is not None:
        report["sources"] = {
            one.source: {
                "tables": one.tables,
                "unreachable": one.unreachable,
                "problems": [asdict(finding) for finding in one.findings],
            }
            for one in asked.sources
        }
    if asked.destination is not None:
        report["destination"] = asdict(asked.destination)
    if settings is not None:
        report["environments"] = {name: {"unset": len(settings.unset(name))} for name in settings.names()}
        report["mirrors"] = {
            name: {mirror: entry.changelog for mirror, entry in environment.mirrors.items()}
            for name, environment in settings.environments.items()
        }
        report["export_mappings"] = [mapping.model_dump() for mapping in settings.export_mappings]
        report["tables"] = {
            name: {
                "partition": table.partition.type,
                "enabled": table.enabled,
                "networks": [network.name for network in table.networks],
            }
            for name, table in settings.tables.items()
        }
    return report


def _show(settings: Settings) -> None:
    environments = Table("environment", "clusters feeding it", "tables", "mirrors", "secrets", box=None, pad_edge=False)
    for name in settings.names():
        feeding = [mapping.source for mapping in settings.export_mappings if mapping.destination == name]
        unset = len(settings.unset(name))
        state = f"{unset} not set" if unset else "set"
        mirrors = len(settings.environments[name].mirrors) if name in settings.environments else 0
        environments.add_row(name, ", ".join(feeding) or "none", str(len(settings.exports(name))), str(mirrors), state)
    tables = Table(Column("table", no_wrap=True), Column("files", no_wrap=True), "networks", box=None, pad_edge=False)
    for name, table in settings.tables.items():
        chunk = f" by {table.partition.chunk_size}" if table.partition.chunk_size else ""
        networks = ", ".join(network.name for network in table.networks) if table.enabled else "disabled"
        tables.add_row(name, f"{table.partition.type}{chunk}", networks)
    show_table(environments)
    say("")
    show_table(tables)
