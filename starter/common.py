"""What every command shares: options, config, output, exit codes."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Coroutine, Iterator
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from temporalio.service import RPCError

from activities.core.faults import BadRequest, Fault
from worker.config import ConfigError, Environment, Settings, load_settings

T = TypeVar("T")

FAILED = 1
"""Something went wrong on the way."""
USAGE = 2
"""The command or the config asks for something that cannot be."""
PARTIAL = 3
"""The work ended, and some partitions failed."""
INTERRUPTED = 130
"""The request was withdrawn or cancelled."""

EnvironmentOption = Annotated[
    str, typer.Option("--environment", "-e", envvar="ICEFLEET_ENVIRONMENT", help="Which environment of config.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")]

LEAST_FOLDED = 20
"""How narrow a column may become that is folded."""

# What a script or a log reads is not folded to some terminal's width.
console = Console(width=None if sys.stdout.isatty() else 250, highlight=False)
errors = Console(stderr=True, soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """Print one line for people."""
    console.print(text, markup=False, soft_wrap=not console.is_terminal)


def show_table(table: Table) -> None:
    """Print a table whose cells are text as it is, whatever brackets it has.

    Columns that are not folded are whole, also where the terminal is too narrow: its lines go on in the next one then.
    """
    needed = sum(_width(column) + 2 for column in table.columns)
    Console(width=max(console.width, needed), highlight=False, markup=False).print(table)


def _width(column: Column) -> int:
    whole = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
    return whole if column.no_wrap else min(whole, LEAST_FOLDED)


def say_json(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Say what is wrong and leave."""
    errors.print(f"error: {message}", markup=False)
    raise typer.Exit(code)


def load() -> Settings:
    """The config, or every problem of it and an end."""
    try:
        return load_settings()
    except ConfigError as wrong:
        fail(str(wrong), USAGE)


def load_environment(name: str, *parts: str) -> Environment:
    """One environment of the config; what is wrong with it, or with its name, is said, and that is the end.

    Commands that only send work to the fleet need nothing but the secrets of the part `temporal`.
    """
    with one_line():
        return load().environment(name, *parts)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; a fault, or a part that is away, becomes one line and an exit code."""
    with one_line():
        return asyncio.run(work)


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Say what went wrong in one line, and leave with the exit code that says who must act."""
    try:
        yield
    except typer.Exit:
        raise  # somebody has said it already; typer derives this from RuntimeError
    except BadRequest as wrong:
        fail(str(wrong), USAGE)
    except Fault as fault:
        fail(str(fault))
    except OSError as away:
        fail(f"storage: {away}")  # PyArrow's word for an object store that cannot be read
    except (RPCError, RuntimeError) as away:
        fail(f"Temporal: {away}")  # the SDK raises a bare RuntimeError when it cannot connect
