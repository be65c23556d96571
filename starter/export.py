"""`icefleet export`: ask for a table's partitions, and watch them come."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Self

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.service import RPCError

from activities.contracts.export import (
    PROGRESS_QUERY,
    REQUEST_WORKFLOW,
    ExportReport,
    ExportRequest,
    loop_id,
    table_identifier,
)
from activities.contracts.inputs import write_input
from starter.common import (
    FAILED,
    PARTIAL,
    USAGE,
    EnvironmentOption,
    JsonOption,
    console,
    errors,
    fail,
    load,
    run,
    say,
    say_json,
)
from worker.wiring import connect_temporal

INTERRUPTED = 130
POLL_SECONDS = 0.5
Handle = WorkflowHandle[Any, ExportReport]
Show = Callable[[dict[str, Any]], None]


def export(
    table: Annotated[str, typer.Argument(help="A table of config/tables.yaml.")],
    network: Annotated[str, typer.Option("--network", "-n", help="The network, such as mainnet.")],
    environment: EnvironmentOption = "local",
    date: Annotated[str, typer.Option(help="One day, hour (2024-03-20T05) or integer value.")] = "",
    first: Annotated[str, typer.Option("--from", help="First partition, inclusive.")] = "",
    last: Annotated[str, typer.Option("--to", help="Last partition, inclusive.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Export again what is there already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done; writes nothing.")] = False,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="The default is newest first.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the report, with progress.")] = False,
    json: JsonOption = False,
) -> None:
    """Ask for partitions of a table: a date, a range, or (without either) whatever is due.

    \b
    icefleet export beacon_api_eth_v1_events_block -n mainnet --wait
    icefleet export canonical_execution_block -n mainnet --from 1000 --to 3999 --wait
    icefleet export beacon_api_eth_v1_events_block -n mainnet --date 2024-03-20 --force

    Ctrl-C withdraws the request: queries end, nothing half-done is committed. Exit codes: 0 all is there, 1 failed,
    2 cannot be, 3 some partitions failed, 130 withdrawn.
    """
    if date and (first or last):
        fail("say either --date, or --from and --to", USAGE)
    request = ExportRequest(
        table=table,
        network=network,
        environment=environment,
        from_=date or first,
        to=date or last,
        force=force,
        dry_run=dry_run,
        oldest_first=oldest_first,
    )
    resolved = load().environment(environment)
    code = run(_export(resolved, request, wait=wait or dry_run, json=json))
    raise typer.Exit(code)


async def _export(environment: Any, request: ExportRequest, *, wait: bool, json: bool) -> int:
    client = await connect_temporal(environment)
    queue = environment.temporal.task_queue
    handle = await start_request(client, queue, request)
    if not wait:
        if json:
            say_json({"workflow_id": handle.id, "loop": loop_id(request.environment, request.network, request.table)})
        else:
            say(f"requested as {handle.id}; follow it with: temporal workflow show -w '{handle.id}' --follow")
        return 0
    await _warn_without_worker(client, queue)
    with Shown(quiet=json) as shown:
        report = await follow(client, handle, request, shown)
    if report is None:
        return INTERRUPTED
    if json:
        say_json(report)
    else:
        print_report(report)
    return PARTIAL if report.status == "partial" else 0


async def start_request(client: Client, queue: str, request: ExportRequest) -> Handle:
    """Start the door under an id that says what was asked, and when."""
    identity = f"request/{request.environment}/{request.network}.{request.table}/{time.time_ns() // 1_000_000}"
    return await client.start_workflow(
        REQUEST_WORKFLOW, write_input(request), id=identity, task_queue=queue, result_type=ExportReport
    )


async def follow(client: Client, handle: Handle, request: ExportRequest, shown: "Shown") -> ExportReport | None:
    """Wait for the report and show progress meanwhile; None when the request was withdrawn."""
    loop = client.get_workflow_handle(loop_id(request.environment, request.network, request.table))
    waiting = asyncio.create_task(handle.result())
    try:
        show = shown.add(request)
        while not waiting.done():
            await asyncio.wait([waiting], timeout=POLL_SECONDS)
            with contextlib.suppress(RPCError):  # no loop yet, or none any more: the report will say
                show(await _progress(loop, handle))
        report = await waiting
        show({"in_flight": [], **asdict(report)})
    except asyncio.CancelledError:
        await _withdraw(handle)
        return None
    except WorkflowFailureError as failed:
        _explain(failed)
        return None
    else:
        return report


async def _progress(loop: WorkflowHandle[Any, Any], handle: Handle) -> dict[str, Any]:
    progress: dict[str, Any] = await loop.query(PROGRESS_QUERY, rpc_timeout=None)
    mine = [request for request in progress["requests"] if request["id"].startswith(handle.id)]
    return {**(mine[0] if mine else {}), "in_flight": progress["in_flight"]}


async def _withdraw(handle: Handle) -> None:
    errors.print("withdrawing the request …")
    await handle.cancel()
    with contextlib.suppress(WorkflowFailureError):
        await handle.result()
    errors.print("withdrawn: nothing of it is running any more")


def _explain(failed: WorkflowFailureError) -> None:
    if isinstance(failed.cause, CancelledError):
        errors.print("the request was cancelled")
        return
    cause: BaseException | None = failed.cause
    while cause is not None and not isinstance(cause, ApplicationError) and cause.__cause__ is not None:
        cause = cause.__cause__  # an activity's failure wraps what it says
    if isinstance(cause, ApplicationError):
        fail(f"{cause.type}: {cause.message}", USAGE if cause.type == "BadRequest" else FAILED)
    fail(str(failed.cause))


async def _warn_without_worker(client: Client, queue: str) -> None:
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    if not answer.pollers:
        errors.print(f"no worker listens on task queue {queue}: the request waits for one (icefleet worker)")


class Shown(contextlib.AbstractContextManager["Shown"]):
    """Progress of requests for people: a bar each on a terminal, a line for every change elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[words]}"),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=console) if console.is_terminal and not quiet else None

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def add(self, request: ExportRequest) -> Show:
        """One more request; what is answered takes its progress."""
        name = table_identifier(request.network, request.table)
        if self._bars is not None:
            task = self._bars.add_task(name, total=None, words="planning")
            return functools.partial(_bar, self._bars, task)
        return functools.partial(_line, [""], "" if self._quiet else name)


def _words(seen: dict[str, Any]) -> tuple[int, int, str]:
    planned = seen["missing"] + seen["stale"] + seen["forced"]
    done = seen["exported"] + seen["already_there"] + seen["failed"]
    text = f"{done}/{planned} partitions, {seen['rows']:,} rows, {seen['bytes'] / 1e6:,.1f} MB"
    if seen["failed"]:
        text += f", {seen['failed']} failed"
    return done, planned, text


def _bar(progress: Progress, task: TaskID, seen: dict[str, Any]) -> None:
    if "missing" not in seen:
        return
    done, planned, words = _words(seen)
    flight = ", ".join(seen["in_flight"][:4])
    progress.update(task, completed=done if planned else 1, total=planned or 1, words=f"{words}  [dim]{flight}[/dim]")


def _line(last: list[str], name: str, seen: dict[str, Any]) -> None:
    if not name or "missing" not in seen:
        return
    _, _, words = _words(seen)
    if words != last[0]:
        last[0] = words
        say(f"{name}: {words}")


def print_report(report: ExportReport) -> None:
    """The report for people."""
    say(report.message)
    for snapshot in report.snapshots[-3:]:
        say(f"  snapshot {snapshot}")
    for failure in report.failures:
        say(f"  failed {failure.partition}: {failure.cause}: {failure.message}")
    if report.failed > len(report.failures):
        say(f"  and {report.failed - len(report.failures)} more")
    for partition in report.shrunk:
        say(f"  the source holds less than the table for {partition}; nothing was replaced")
