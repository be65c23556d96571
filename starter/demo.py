"""`icefleet demo`: the main job on this machine, from nothing to a query, with every step shown."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from activities.contracts.export import ExportRequest
from activities.core.faults import Fault
from activities.core.publication import place_of
from starter.common import FAILED, console, errors, load, load_environment, run, say
from starter.counts import count_both
from starter.duck import Duck
from starter.export import Ended, Shown, connect, follow, start_request
from starter.sql import table_of
from starter.watch import line_of
from worker.config import Environment, Settings
from worker.wiring import open_bus

TABLES = ("beacon_api_eth_v1_events_block", "beacon_api_eth_v1_events_attestation", "canonical_execution_block")
NETWORKS = ("mainnet", "holesky")
EXAMPLE = "mainnet.canonical_execution_block"
EVENT_SECONDS = 10
"""How long after the last report the demo waits for events that are still on their way."""

QUESTION = """SELECT meta_consensus_implementation AS client, count(*) AS blocks,
       round(median(propagation_slot_start_diff)) AS median_ms, count(DISTINCT meta_client_name) AS nodes
FROM lake.mainnet.beacon_api_eth_v1_events_block
WHERE slot_start_date_time >= '2024-03-20' AND slot_start_date_time < '2024-03-21'
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5"""


def demo() -> None:
    """Start the stack, make sample data, export three tables of two networks, and query them.

    Example: make demo
    """
    _title("1", "The stack: Temporal, NATS, SeaweedFS with an Iceberg catalog, ClickHouse, and a worker")
    _command("local", "up", "--worker")
    _title("2", "Sample data: real Xatu schemas, two networks, made here")
    _command("seed")
    settings = load()
    environment = load_environment("local")
    _title("3", "The exports: one durable loop a table; events as they arrive")
    ended = run(_export_all(environment))
    _command("schedules", "apply", "--yes")
    _title("4", "The result: DuckDB through the catalog, beside ClickHouse's own counts")
    agreed = run(_compare(settings))
    with Duck(environment) as duck:
        say(f"\n{QUESTION}")
        console.print(table_of(*duck.query(QUESTION)))
    _closing(ended, environment, settings)
    if not agreed or any(one.code for one in ended):
        raise typer.Exit(FAILED)


def _title(number: str, text: str) -> None:
    console.print(f"\n[bold cyan]{number}[/]  [bold]{text}[/]\n")


def _command(*words: str) -> None:
    """Run a command of ours as a person would; its output is part of the demo."""
    console.print(f"[dim]$ icefleet {' '.join(words)}[/]")
    sys.stdout.flush()
    ended = subprocess.run([str(Path(sys.executable).with_name("icefleet")), *words], check=False)
    if ended.returncode:
        errors.print(f"`icefleet {' '.join(words)}` failed; what it says above is the reason", style="bold red")
        raise typer.Exit(ended.returncode)


async def _export_all(environment: Environment) -> list[Ended]:
    client = await connect(environment)
    heard: set[str] = set()
    listening = asyncio.create_task(_print_events(environment, heard))
    requests = [ExportRequest(table=table, network=network) for table in TABLES for network in NETWORKS]
    for request in requests:
        console.print(f"[dim]$ icefleet export {request.table} --network {request.network} --wait[/]")
    started = time.monotonic()
    handles = [await start_request(client, environment.temporal.task_queue, request) for request in requests]
    with Shown() as shown:
        ended = await asyncio.gather(
            *(follow(client, handle, request, shown) for handle, request in zip(handles, requests, strict=True))
        )
        seconds = time.monotonic() - started
        reports = [one.report for one in ended if one.report is not None]
        await _hear(heard, {snapshot for report in reports for snapshot in report.snapshots}, listening)
    for report in reports:
        say(report.message)
    say(f"{seconds:.1f} s")
    return ended


async def _hear(heard: set[str], committed: set[str], listening: "asyncio.Task[None]") -> None:
    """Wait for the events of what was committed: they follow the commit, and need not come before the report."""
    deadline = time.monotonic() + EVENT_SECONDS
    while not committed <= heard and not listening.done() and time.monotonic() < deadline:
        await asyncio.wait([listening], timeout=0.1)
    listening.cancel()
    (failure,) = await asyncio.gather(listening, return_exceptions=True)
    if missing := len(committed - heard):
        why = f" ({failure})" if isinstance(failure, Fault) else ""
        errors.print(f"{missing} events have not come yet{why}: they follow by themselves", style="yellow")


async def _print_events(environment: Environment, heard: set[str]) -> None:
    bus = open_bus(environment)
    async with contextlib.aclosing(bus.events("icefleet.local.snapshot.>", from_start=False)) as events:
        async for body in events:
            event = json.loads(body)
            console.print(f"[green]event[/] {line_of(event)}")
            heard.add(event["snapshotId"])


async def _compare(settings: Settings) -> bool:
    environment = settings.environment("local")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, side in (("table", "left"), ("files", "right"), ("newest", "left"), ("DuckDB", "right")):
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("ClickHouse", justify="right")
    table.add_column("")
    agreed = True
    with Duck(environment) as duck:
        for name in TABLES:
            for network in NETWORKS:
                count = await count_both(settings, "local", name, network, duck)
                agreed = agreed and count.lake == count.source
                table.add_row(
                    f"{network}.{name}",
                    str(count.files),
                    count.newest,
                    f"{count.lake:,}",
                    f"{count.source:,}",
                    "[green]equal[/]" if count.lake == count.source else "[bold red]different[/]",
                )
    console.print(table)
    return agreed


def _closing(ended: list[Ended], environment: Environment, settings: Settings) -> None:
    status = json.loads(
        subprocess.run(
            [str(Path(sys.executable).with_name("icefleet")), "local", "status", "--json"],
            check=False,
            capture_output=True,
        ).stdout
    )
    addresses: dict[str, Any] = {}
    for part in status["parts"].values():
        addresses |= part["addresses"]
    _title("5", "Yours now")
    if all(one.report is not None and one.report.status == "nothing_to_do" for one in ended):
        say("Nothing was left to do: every closed partition had been exported before.\n")
    else:
        say("Run it again: it will find nothing left to do.\n")
    network, _, table = EXAMPLE.partition(".")
    storage = environment.storage
    place = place_of(
        settings.table("local", table, network), network, storage.bucket, storage.public_url, storage.prefix
    )
    query = f"SELECT count(*) FROM iceberg_scan('{place.url}')"  # noqa: S608 - for people to copy
    say(f"In any DuckDB    {query}  (no credentials: that URL is all)")
    say(f"Temporal UI      {addresses.get('temporal-ui', '')}")
    say(f"Iceberg catalog  {addresses.get('catalog', '')}  (credentials in .local/env)")
    say(f'Ask              icefleet sql "FROM {EXAMPLE} LIMIT 3"')
    say("Watch            icefleet watch --all")
    say("By the clock     icefleet schedules list")
    say("Stop             make down          (icefleet local down; the data stay in .local)")
    say("Forget           .venv/bin/icefleet local reset")
