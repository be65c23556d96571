"""`icefleet export`: ask for a table's partitions, and watch them come."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Annotated, Any

import typer
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError

from activities.contracts.export import (
    PROGRESS_QUERY,
    REQUEST_WORKFLOW,
    ExportReport,
    ExportRequest,
    loop_id,
)
from starter.asking import CODES, POLL_SECONDS, QUERY_SECONDS, connect, explain, say_requested, start_door, withdraw
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
    say_json,
)
from starter.export_shown import Shown, print_report
from starter.meant import check_meant
from starter.options import (
    AllowShrinkOption,
    DryRunOption,
    ForceOption,
    FromOption,
    NetworkOption,
    OldestFirstOption,
    TableArgument,
    ToOption,
    WaitWithProgressOption,
)
from starter.unserved import export_queues, say_unserved
from worker.config import Environment

SHRINK_UNFORCED = "--allow-shrink lets a forced export take from the table what the source has lost: say --force too"
Handle = WorkflowHandle[Any, ExportReport]


@dataclass(frozen=True)
class Ended:
    """How a request ended: the command's exit code, and the report if there is one."""

    code: int
    report: ExportReport | None = None


def export(
    table: TableArgument,
    network: NetworkOption,
    environment: EnvironmentOption = "local",
    date: Annotated[str, typer.Option(help="One day, hour (2024-03-20T05) or integer value.")] = "",
    first: FromOption = "",
    last: ToOption = "",
    force: ForceOption = False,
    allow_shrink: AllowShrinkOption = False,
    dry_run: DryRunOption = False,
    oldest_first: OldestFirstOption = False,
    wait: WaitWithProgressOption = False,
    json: JsonOption = False,
) -> None:
    """Ask for partitions of a table: a date, a range, or (without either) whatever is due.

    \b
    icefleet export beacon_api_eth_v1_events_block -n mainnet --wait
    icefleet export canonical_execution_block -n mainnet --from 1000 --to 3999 --wait
    icefleet export beacon_api_eth_v1_events_block -n mainnet --date 2024-03-20 --force

    Ctrl-C withdraws the request: queries end, nothing half-done is committed. Exit codes: 0 all is there, 1 failed,
    2 cannot be, 3 some partitions failed, or got rows meanwhile, 130 withdrawn.
    """
    if date and (first or last):
        fail("say either --date, or --from and --to", USAGE)
    if allow_shrink and not force:
        fail(SHRINK_UNFORCED, USAGE)
    request = ExportRequest(
        table=table,
        network=network,
        environment=environment,
        from_=date or first,
        to=date or last,
        force=force,
        allow_shrink=allow_shrink,
        dry_run=dry_run,
        oldest_first=oldest_first,
    )
    with one_line():
        settings = load()
        resolved = settings.environment(environment, "temporal")
        check_meant(settings, environment, table, network, date or first, date or last)
    queues = export_queues(resolved, settings.sources_of(environment, table))
    code = run(_export(resolved, request, queues, wait=wait or dry_run, json=json))
    raise typer.Exit(code)


async def _export(
    environment: Environment, request: ExportRequest, queues: Sequence[tuple[str, str]], *, wait: bool, json: bool
) -> int:
    client = await connect(environment)
    queue = environment.temporal.task_queue
    handle = await start_request(client, queue, request)
    await say_unserved(client, "the request", queue, queues)
    if not wait:
        say_requested(handle, request, environment, json=json)
        return 0
    with Shown(quiet=json) as shown:
        ended = await follow(client, handle, request, shown)
    if ended.report is not None:
        if json:
            say_json(asdict(ended.report))
        else:
            print_report(ended.report, may_shrink=request.allow_shrink)
    return ended.code


async def start_request(client: Client, queue: str, request: ExportRequest) -> Handle:
    """Start the door for exports."""
    return await start_door(client, queue, request, REQUEST_WORKFLOW, "request", ExportReport)


async def follow(client: Client, handle: Handle, request: ExportRequest, shown: Shown) -> Ended:
    """Wait for the report and show progress meanwhile. Cancelling this withdraws the request."""
    loop = client.get_workflow_handle(loop_id(request.environment, request.network, request.table))
    waiting = asyncio.create_task(handle.result())
    try:
        show = shown.add(request)
        while not waiting.done():
            await asyncio.wait([waiting], timeout=POLL_SECONDS)
            # No loop yet, or none any more, or no worker that could answer: the report will say.
            with contextlib.suppress(RPCError, WorkflowQueryFailedError):
                show(await _progress(loop, handle))
        report = await waiting
    except asyncio.CancelledError:
        await withdraw(client, handle)
        return Ended(INTERRUPTED)
    except WorkflowFailureError as failed:
        return Ended(explain(failed))
    show({"in_flight": [], **asdict(report)})
    return Ended(CODES.get(report.status, FAILED), report)


async def _progress(loop: WorkflowHandle[Any, Any], handle: Handle) -> dict[str, Any]:
    progress: dict[str, Any] = await loop.query(PROGRESS_QUERY, rpc_timeout=timedelta(seconds=QUERY_SECONDS))
    mine = [request for request in progress["requests"] if request["id"].startswith(handle.id)]
    return {**(mine[0] if mine else {}), "in_flight": progress["in_flight"]}
