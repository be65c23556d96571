"""The `icefleet` command: every group of commands under one name."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import typer

from worker.command_spans import of_command

COMMANDS = {
    "demo": "demo",
    "local": "app",
    "seed": "seed",
    "worker": "worker",
    "export": "export",
    "adopt": "adopt",
    "backfill": "app",
    "tables": "tables",
    "coverage": "coverage",
    "verify": "verify",
    "compare": "compare",
    "orphans": "orphans",
    "upkeep": "upkeep",
    "maintain": "maintain",
    "cdc": "app",
    "mirrors": "app",
    "schedules": "app",
    "watch": "watch",
    "sql": "sql",
    "config": "app",
    "temporal": "app",
}
"""Command, which is also its module in this folder → what the module calls it: a function, or an app of several."""


def build(arguments: Sequence[str]) -> typer.Typer:
    """The command line for these arguments: with one command if they name it, else with all of them for the help.

    Some commands load drivers and a lake library, which takes a second and 200 MB that the others need not spend.
    """
    app = typer.Typer(
        name="icefleet",
        help="ClickHouse tables and change streams become Apache Iceberg tables.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def icefleet() -> None:
        """ClickHouse tables and change streams become Apache Iceberg tables."""

    named = arguments[0] if arguments else ""
    for name in [named] if named in COMMANDS else COMMANDS:
        found = getattr(import_module(f"starter.{name}"), COMMANDS[name])
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app


def main() -> None:
    """Run the command line and leave at once when it is done.

    A process that used a Temporal client can abort while the interpreter shuts down, so a finished command flushes
    what it printed and leaves without that shutdown.
    """
    code = 1
    try:
        with of_command(sys.argv[1:]):
            build(sys.argv[1:])()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
