"""What the demo's acts have in common: titles, commands as a person would type them, and events as they arrive."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import typer

from activities.core.faults import Fault
from starter.common import console, errors
from starter.duck import Duck
from starter.watch import line_of
from worker.bus import open_bus
from worker.config import Environment

T = TypeVar("T")
Found = tuple[list[str], list[tuple[Any, ...]]]
"""Column names and rows."""

HEAD = "SELECT CAST(arg_max(snapshot_id, sequence_number) AS VARCHAR) FROM iceberg_snapshots(lake.{table})"
SECONDS = 60
"""How long a first copy, and then changes, may take to arrive."""
EVENT_SECONDS = 10
"""How long the demo waits for events of what was committed: they follow the commit, and are on their way."""


def title(number: str, text: str) -> None:
    """Begin an act."""
    console.print(f"\n[bold cyan]{number}[/]  [bold]{text}[/]\n")


def command(*words: str) -> None:
    """Run a command of ours as a person would; its output is part of the demo."""
    console.print(f"[dim]$ icefleet {' '.join(words)}[/]")
    sys.stdout.flush()
    ended = subprocess.run([str(Path(sys.executable).with_name("icefleet")), *words], check=False)
    if ended.returncode:
        errors.print(f"`icefleet {' '.join(words)}` failed; what it says above is the reason", style="bold red")
        raise typer.Exit(ended.returncode)


async def print_events(environment: Environment, subject: str, heard: set[str]) -> None:
    """Print the events of snapshots as they come, and remember which snapshots they tell of; it never ends."""
    bus = open_bus(environment)
    async with contextlib.aclosing(bus.events(subject, from_start=False)) as events:
        async for heard_one in events:
            event = json.loads(heard_one.body)
            console.print(f"[green]event[/] {line_of(event)}")
            heard.add(event["snapshotId"])


async def hear(heard: set[str], committed: set[str], listening: "asyncio.Task[None]") -> None:
    """Wait for the events of what was committed, and end the listening."""
    deadline = time.monotonic() + EVENT_SECONDS
    while not committed <= heard and not listening.done() and time.monotonic() < deadline:
        await asyncio.wait([listening], timeout=0.1)
    listening.cancel()
    (failure,) = await asyncio.gather(listening, return_exceptions=True)
    if missing := len(committed - heard):
        why = f" ({failure})" if isinstance(failure, Fault) else ""
        errors.print(f"{missing} events have not come yet{why}: they follow by themselves", style="yellow")


async def ask(environment: Environment, query: str) -> Found:
    """What DuckDB finds now; nothing while there is no such table."""
    return await asyncio.to_thread(_ask_anew, environment, query)


def _ask_anew(environment: Environment, query: str) -> Found:
    with Duck(environment) as duck:  # an open one does not see namespaces that are made later
        try:
            return duck.query(query)
        except duckdb.CatalogException:
            return [], []


async def until(ask: Callable[[], Awaitable[T]], enough: Callable[[T], bool]) -> T:
    """The first answer that is enough, or the last one before time is up."""
    deadline = time.monotonic() + SECONDS
    while True:
        answer = await ask()
        if enough(answer) or time.monotonic() > deadline:
            return answer
        await asyncio.sleep(0.1)
