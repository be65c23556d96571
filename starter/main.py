"""The `icefleet` command: every group of commands under one name."""

import os
import sys

import typer

from starter import config, local, temporal
from starter.seed import seed
from starter.worker import worker

app = typer.Typer(
    name="icefleet",
    help="ClickHouse tables and change streams become Apache Iceberg tables.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(local.app, name="local")
app.add_typer(config.app, name="config")
app.add_typer(temporal.app, name="temporal")
app.command()(worker)
app.command()(seed)


def main() -> None:
    """Run the command line and leave at once when it is done.

    A process that used a Temporal client can abort while the interpreter shuts down, so a finished command flushes
    what it printed and leaves without that shutdown.
    """
    code = 1
    try:
        app()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
