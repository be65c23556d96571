"""`icefleet backfill`: ask for long ranges of many tables, watch them come, and steer."""

import asyncio
import contextlib
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.table import Table
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowQueryFailedError,
)
from temporalio.service import RPCError

from activities.contracts.backfill import (
    BACKFILL_WORKFLOW,
    MOST_PARALLEL,
    BackfillReport,
    BackfillRequest,
)
from activities.contracts.export import PROGRESS_QUERY
from activities.contracts.inputs import write_input
from starter.asking import CODES, QUERY_SECONDS, connect, explain, of_environment
from starter.backfill_orders import Handle, IdArgument, cancel, find_backfill, parallelism, pause, resume, skip
from starter.backfill_shown import LISTED, Bar, print_progress, print_report
from starter.common import (
    FAILED,
    INTERRUPTED,
    USAGE,
    EnvironmentOption,
    JsonOption,
    errors,
    fail,
    load,
    load_environment,
    one_line,
    run,
    say,
    say_json,
    show_table,
)
from starter.export import SHRINK_UNFORCED
from starter.options import (
    AllowShrinkOption,
    ForceOption,
    FromOption,
    OldestFirstOption,
    ToOption,
    WaitWithProgressOption,
)
from starter.unserved import export_queues, say_unserved
from worker.config import Environment

POLL_SECONDS = 1

app = typer.Typer(help="Fill long ranges of many tables, in the background.", no_args_is_help=True)
for order in (pause, resume, parallelism, skip, cancel):
    app.command()(order)


@app.command()
def start(
    tables: Annotated[list[str], typer.Argument(help="Tables, patterns such as 'canonical_*', or groups.")],
    environment: EnvironmentOption = "local",
    network: Annotated[list[str] | None, typer.Option("--network", "-n", help="Only these; may be repeated.")] = None,
    first: FromOption = "",
    last: ToOption = "",
    oldest_first: OldestFirstOption = False,
    force: ForceOption = False,
    allow_shrink: AllowShrinkOption = False,
    max_parallel: Annotated[int, typer.Option(min=1, max=MOST_PARALLEL, help="Tables worked on at once.")] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be done; writes nothing.")] = False,
    wait: WaitWithProgressOption = False,
    json: JsonOption = False,
) -> None:
    """Start a backfill of tables: a range of each, or (without one) whatever is due.

    \b
    icefleet backfill start 'canonical_execution_*' -n mainnet --from 20000000 --to 20999999 --wait
    icefleet backfill start group:daily --from 2024-01-01 --to 2024-06-30 --max-parallel 8
    icefleet backfill start beacon_api_eth_v1_events_block --dry-run

    Ctrl-C ends the waiting, not the backfill: `icefleet backfill cancel ID` does that. Exit codes: 0 all is there, 1
    failed, 2 cannot be, 3 some partitions or tables failed, 130 cancelled, or no longer waited for.
    """
    if allow_shrink and not force:
        fail(SHRINK_UNFORCED, USAGE)
    request = BackfillRequest(
        tables=tables,
        environment=environment,
        networks=network or [],
        from_=first,
        to=last,
        oldest_first=oldest_first,
        force=force,
        allow_shrink=allow_shrink,
        dry_run=dry_run,
        max_parallel=max_parallel,
    )
    with one_line():
        settings = load()
        resolved = settings.environment(environment, "temporal")
    queues = export_queues(resolved, settings.sources(environment))
    raise typer.Exit(run(_start(resolved, request, queues, wait=wait or dry_run, json=json)))


async def _start(
    environment: Environment, request: BackfillRequest, queues: Sequence[tuple[str, str]], *, wait: bool, json: bool
) -> int:
    client = await connect(environment)
    queue = environment.temporal.task_queue
    handle = await start_backfill(client, queue, request)
    await say_unserved(client, "the backfill", queue, queues)
    if not wait:
        if json:
            say_json({"workflow_id": handle.id})
        else:
            say(f"started as {handle.id}; look at it with: icefleet backfill show {handle.id}")
        return 0
    return await follow(client, handle, json=json)


async def start_backfill(client: Client, queue: str, request: BackfillRequest) -> Handle:
    """Start a backfill under an id that says what was asked, and when."""
    name = re.sub(r"[^a-z0-9]+", "-", request.tables[0].lower()).strip("-") or "tables"
    span = f" from {request.from_}" if request.from_ != "" else ""
    span += f" to {request.to}" if request.to != "" else ""
    return await client.start_workflow(
        BACKFILL_WORKFLOW,
        write_input(request),
        id=f"backfill/{request.environment}/{name}-{time.time_ns() // 1_000_000}",
        task_queue=queue,
        result_type=BackfillReport,
        static_summary=f"backfill of {', '.join(request.tables)}"[:150] + span,
        search_attributes=of_environment(request.environment),
    )


async def follow(client: Client, handle: Handle, *, json: bool) -> int:
    """Wait for the report and show progress meanwhile. Cancelling this leaves the backfill alone."""
    waiting = asyncio.create_task(handle.result())
    try:
        with Bar(client, quiet=json) as bar:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=POLL_SECONDS)
                # No worker that could answer just now: the report will say.
                with contextlib.suppress(RPCError, WorkflowQueryFailedError):
                    await bar.show(await _progress(handle))
        report = await waiting
    except asyncio.CancelledError:
        errors.print(
            f"no longer waiting; the backfill goes on. Look at it with: icefleet backfill show {handle.id}\n"
            f"End it with: icefleet backfill cancel {handle.id}"
        )
        return INTERRUPTED
    except WorkflowFailureError as failed:
        return explain(failed)
    if json:
        say_json(asdict(report))
    else:
        print_report(report)
    return CODES.get(report.status, FAILED)


async def _progress(handle: Handle) -> dict[str, Any]:
    progress: dict[str, Any] = await handle.query(PROGRESS_QUERY, rpc_timeout=timedelta(seconds=QUERY_SECONDS))
    return progress


@app.command(name="list")
def list_(
    environment: EnvironmentOption = "local",
    every: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    json: JsonOption = False,
) -> None:
    """List the backfills that run, newest first.

    \b
    icefleet backfill list
    icefleet backfill list --all --json
    """
    found = run(_list(load_environment(environment, "temporal"), every=every))
    if json:
        say_json(found)
        return
    if not found:
        say("no backfill" if every else "no backfill is running")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "status", "started"):
        table.add_column(name, no_wrap=True)
    for one in found:
        table.add_row(one["id"], one["status"], one["started"])
    show_table(table)


async def _list(environment: Environment, *, every: bool) -> list[dict[str, str]]:
    client = await connect(environment)
    query = f"WorkflowType = '{BACKFILL_WORKFLOW}' AND TaskQueue = '{environment.temporal.task_queue}'"
    query += " AND ExecutionStatus != 'ContinuedAsNew'" if every else " AND ExecutionStatus = 'Running'"
    found = [
        {
            "id": one.id,
            "status": one.status.name.lower() if one.status else "",
            "started": f"{one.start_time:%Y-%m-%d %H:%M:%S}",
        }
        async for one in client.list_workflows(query, limit=LISTED)
    ]
    return sorted(found, key=lambda one: one["started"], reverse=True)


@app.command()
def show(
    identity: IdArgument,
    environment: EnvironmentOption = "local",
    wait: WaitWithProgressOption = False,
    json: JsonOption = False,
) -> None:
    """Show how far a backfill is: each table and network, rate, time left, failures.

    \b
    icefleet backfill show backfill/local/canonical-1732212000000
    icefleet backfill show backfill/local/canonical-1732212000000 --wait
    """
    raise typer.Exit(run(_show(load_environment(environment, "temporal"), identity, wait=wait, json=json)))


async def _show(environment: Environment, identity: str, *, wait: bool, json: bool) -> int:
    client = await connect(environment)
    handle, described = await find_backfill(client, identity)
    if described.status == WorkflowExecutionStatus.RUNNING and not wait:
        try:
            progress = await _progress(handle)
        except (RPCError, WorkflowQueryFailedError) as away:
            fail(f"no worker answers for {identity}: {away}; start one with icefleet worker")
        if json:
            say_json(progress)
        else:
            print_progress(progress)
        return 0
    return await follow(client, handle, json=json)
