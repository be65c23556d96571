"""`icefleet demo`: the main job on this machine, from nothing to a query, with every step shown."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from activities.contracts.export import ExportRequest
from activities.core.publication import place_of
from starter.asking import connect
from starter.common import FAILED, console, load, load_environment, run, say, show_table
from starter.counts import count_both
from starter.demo_changes import create_and_install, show_changes
from starter.demo_mirror import show_mirror
from starter.demo_parts import command, hear, print_events, title
from starter.duck import Duck
from starter.export import Ended, follow, start_request
from starter.export_shown import Shown
from starter.sql import table_of
from worker.config import Environment, Settings

TABLES = ("beacon_api_eth_v1_events_block", "beacon_api_eth_v1_events_attestation", "canonical_execution_block")
NETWORKS = ("mainnet", "holesky")
EXAMPLE = "mainnet.canonical_execution_block"

QUESTION = """SELECT meta_consensus_implementation AS client, count(*) AS blocks,
       round(median(propagation_slot_start_diff)) AS median_ms, count(DISTINCT meta_client_name) AS nodes
FROM lake.mainnet.beacon_api_eth_v1_events_block
WHERE slot_start_date_time >= '2024-03-20' AND slot_start_date_time < '2024-03-21'
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5"""


def demo() -> None:
    """Start the stack, make sample data, export three tables of two networks, and follow and mirror a fourth.

    Example: make demo
    """
    title("1", "The stack: Temporal, NATS, SeaweedFS with an Iceberg catalog, ClickHouse, PostgreSQL, and a worker")
    command("local", "up", "--worker")
    title("2", "Sample data: real Xatu schemas, two networks, made here")
    command("seed")
    settings = load()
    environment = load_environment("local")
    title("3", "The exports: one durable loop a table; events as they arrive")
    ended = run(_export_all(environment))
    command("schedules", "apply", "--yes")
    title("4", "The result: DuckDB through the catalog, beside ClickHouse's own counts")
    agreed = run(_compare(settings))
    with Duck(environment) as duck:
        say(f"\n{QUESTION}")
        show_table(table_of(*duck.query(QUESTION)))
    title("5", "The changes: what SQL does to a table of PostgreSQL, in its changelog")
    create_and_install(environment)
    arrived = run(show_changes(environment))
    title("6", "The mirror: the latest row of every key, as PostgreSQL has it now")
    followed = run(show_mirror(environment))
    _closing(ended, environment, settings)
    if not agreed or not arrived or not followed or any(one.code for one in ended):
        raise typer.Exit(FAILED)


async def _export_all(environment: Environment) -> list[Ended]:
    client = await connect(environment)
    heard: set[str] = set()
    listening = asyncio.create_task(print_events(environment, "icefleet.local.snapshot.>", heard))
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
        await hear(heard, {snapshot for report in reports for snapshot in report.snapshots}, listening)
    for report in reports:
        say(report.message)
    say(f"{seconds:.1f} s")
    return ended


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
    title("7", "Yours now")
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
    say("Mirrors          icefleet mirrors verify shop.orders")
    say("Stop             make down          (icefleet local down; the data stay in .local)")
    say("Forget           .venv/bin/icefleet local reset")
