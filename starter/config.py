"""`icefleet config`: what the config says, and everything that is wrong with it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from activities.core.faults import BadRequest
from worker.config import ConfigError, Problem, Settings, load_settings

USAGE = 2
"""Exit code of a command line that cannot be: here, an environment that does not exist."""

app = typer.Typer(help="Check what the config files say.", no_args_is_help=True)

Directory = Annotated[
    Path | None, typer.Option("--config-dir", help="Holds environments.yaml and tables.yaml.", show_default="./config")
]
Chosen = Annotated[
    str | None, typer.Option("--environment", "-e", help="Also demand that this environment's secrets are set.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback()
def config() -> None:
    """Check what the config files say."""


@app.command()
def check(config_dir: Directory = None, environment: Chosen = None, as_json: AsJson = False) -> None:
    """Print every problem of the config and exit with 1, or say what is configured.

    Without an environment, secrets that are not set are only mentioned.

    Examples:
      icefleet config check

      icefleet config check -e production

      icefleet config check --config-dir /etc/icefleet --json
    """
    try:
        settings = load_settings(config_dir)
        problems = settings.unset(environment) if environment else []
    except ConfigError as error:
        settings, problems = None, error.problems
    except BadRequest as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(USAGE) from None
    if as_json:
        typer.echo(json.dumps(_report(settings, problems), indent=2))
    elif problems:
        for problem in problems:
            typer.echo(str(problem), err=True)
        typer.echo(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}", err=True)
    elif settings is not None:
        _show(settings)
    if problems:
        raise typer.Exit(1)


def _report(settings: Settings | None, problems: Sequence[Problem]) -> dict[str, Any]:
    report: dict[str, Any] = {
        "ok": not problems,
        "problems": [
            {"file": found.file, "line": found.line, "key": found.key, "message": found.message} for found in problems
        ],
    }
    if settings is not None:
        report["environments"] = {name: {"unset": len(settings.unset(name))} for name in settings.names()}
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
    environments = Table("environment", "clusters feeding it", "tables", "secrets", box=None, pad_edge=False)
    for name in settings.names():
        feeding = [mapping.source for mapping in settings.export_mappings if mapping.destination == name]
        unset = len(settings.unset(name))
        state = f"{unset} not set" if unset else "set"
        environments.add_row(name, ", ".join(feeding) or "none", str(len(settings.exports(name))), state)
    tables = Table("table", "files", "networks", box=None, pad_edge=False)
    for name, table in settings.tables.items():
        chunk = f" by {table.partition.chunk_size}" if table.partition.chunk_size else ""
        networks = ", ".join(network.name for network in table.networks) if table.enabled else "disabled"
        tables.add_row(name, f"{table.partition.type}{chunk}", networks)
    console = Console()
    console.print(environments)
    console.print()
    console.print(tables)
