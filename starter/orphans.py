"""`icefleet orphans`: what lies beside a table's files and belongs to no snapshot, and how it goes."""

import asyncio
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from activities.contracts.export import ORPHANS_WORKFLOW, table_identifier
from activities.contracts.orphans import OrphansReport, OrphansRequest
from activities.core.orphans import check_age, parse_age
from activities.core.tables import TableConfig
from starter.asking import CODES, connect, explain, start_door, withdraw
from starter.common import (
    FAILED,
    INTERRUPTED,
    USAGE,
    EnvironmentOption,
    JsonOption,
    fail,
    load,
    one_line,
    run,
    say,
    say_json,
    show_table,
)
from starter.options import OnlyNetworkOption
from starter.unserved import say_unserved, upkeep_queue
from worker.config import Environment, Settings
from worker.orphans import FoundOrphan, find_orphans
from worker.wiring import orphan_age

Chosen = list[tuple[TableConfig, str]]


def orphans(
    tables: Annotated[list[str] | None, typer.Argument(help="Tables of config/tables.yaml; without: all.")] = None,
    environment: EnvironmentOption = "local",
    network: OnlyNetworkOption = "",
    older_than: Annotated[str, typer.Option(help="Only what is older: 24h, 90m, 7d.")] = "",
    metadata: Annotated[bool, typer.Option("--metadata", help="Also manifests that no snapshot names.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete them; needs --older-than.")] = False,
    json: JsonOption = False,
) -> None:
    """List objects and unfinished uploads that no snapshot of their table names, or delete them.

    \b
    icefleet orphans
    icefleet orphans beacon_api_eth_v1_events_block -n mainnet --json
    icefleet orphans --delete --older-than 24h

    Deleting is the work of each table's own loop, between two pages of its exports; workers must run. Exit codes: 0
    done, 1 failed, 2 cannot be, 3 some waits for readers of snapshots that have just expired, 130 withdrawn.
    """
    settings = load()
    with one_line():
        resolved = settings.environment(environment)
        chosen = _chosen(settings, environment, tables or [], network)
        if delete and not older_than:
            fail("--delete needs --older-than, such as --older-than 24h", USAGE)
        age = check_age(older_than, orphan_age(resolved)) if delete else parse_age(older_than) if older_than else 0
    found, foreign = run(_find(settings, environment, chosen, age, metadata=metadata))
    if not delete:
        _show(found, foreign, json=json)
        return
    wanted = [
        OrphansRequest(config.name, name, older_than, environment, metadata)
        for config, name in chosen
        if any(orphan.table == table_identifier(name, config.name) for orphan in found)
    ]
    raise typer.Exit(run(_delete(resolved, wanted, json=json)))


def _chosen(settings: Settings, environment: str, tables: list[str], network: str) -> Chosen:
    every = settings.exports(environment)
    for table in tables:
        networks = [name for config, name in every if config.name == table]
        if network not in networks and (network or not networks):
            settings.table(environment, table, network)  # says what is wrong with it
    chosen = [
        (config, name) for config, name in every if config.name in (tables or [config.name]) and network in ("", name)
    ]
    if not chosen:
        fail(f"no table of environment {environment} has a network {network!r}", USAGE)
    return chosen


async def _find(
    settings: Settings, environment: str, chosen: Chosen, age: int, *, metadata: bool
) -> tuple[list[FoundOrphan], int]:
    found, foreign = [], 0
    async with aclosing(find_orphans(settings, environment, chosen, older_than=age, metadata=metadata)) as every:
        async for orphan in every:
            if orphan is None:
                foreign += 1
            else:
                found.append(orphan)
    return found, foreign


def _show(found: list[FoundOrphan], foreign: int, *, json: bool) -> None:
    if json:
        say_json([asdict(orphan) for orphan in found])
        return
    if found:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("table", "kind", "last modified", "bytes", "key"):
            table.add_column(name, no_wrap=True, justify="right" if name == "bytes" else "left")
        for orphan in found:
            table.add_row(orphan.table, orphan.kind, orphan.last_modified, f"{orphan.bytes:,}", orphan.key)
        show_table(table)
    say(f"{len(found)} orphans, {sum(orphan.bytes for orphan in found):,} bytes")
    if foreign:
        say(f"{foreign} objects under the tables' prefixes were not made by icefleet; they are left alone")


async def _delete(environment: Environment, wanted: list[OrphansRequest], *, json: bool) -> int:
    client = await connect(environment)
    queue = environment.temporal.task_queue
    if wanted:
        await say_unserved(client, "the request", queue, upkeep_queue(environment))
    handles = [
        await start_door(client, queue, request, ORPHANS_WORKFLOW, "orphans", OrphansReport) for request in wanted
    ]
    ended = await _wait(client, handles)
    codes = [0]
    reports: list[dict[str, Any]] = []
    for request, report in zip(wanted, ended, strict=True):
        identifier = table_identifier(request.network, request.table)
        if isinstance(report, OrphansReport):
            codes.append(CODES.get(report.status, FAILED))
            reports.append({"table": identifier, **asdict(report)})
            if not json:
                say(report.message)
        else:
            codes.append(explain(report))
    if json:
        say_json(reports)
    elif not wanted:
        say("nothing to delete")
    return max(codes)


async def _wait(
    client: Client, handles: list[WorkflowHandle[Any, OrphansReport]]
) -> list[OrphansReport | WorkflowFailureError]:
    """The report of each, or why there is none. Cancelling this withdraws all of them."""
    waiting = [asyncio.create_task(_ended(handle)) for handle in handles]
    try:
        return list(await asyncio.gather(*waiting))
    except asyncio.CancelledError:
        await asyncio.gather(*(withdraw(client, handle) for handle in handles))
        raise typer.Exit(INTERRUPTED) from None


async def _ended(handle: WorkflowHandle[Any, OrphansReport]) -> OrphansReport | WorkflowFailureError:
    try:
        return await handle.result()
    except WorkflowFailureError as failed:
        return failed
