"""`icefleet export`: ask for a table's partitions, and watch them come."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Annotated, Any, Self

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowQueryFailedError
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
from activities.unserved import has_worker
from starter.common import (
    FAILED,
    INTERRUPTED,
    PARTIAL,
    USAGE,
    EnvironmentOption,
    JsonOption,
    console,
    errors,
    fail,
    load,
    one_line,
    run,
    say,
    say_json,
)
from starter.unserved import export_queues, say_unserved
from worker.config import Environment
from worker.temporal import connect_temporal

CODES = {"complete": 0, "nothing_to_do": 0, "dry_run": 0, "partial": PARTIAL, "cancelled": INTERRUPTED}
POLL_SECONDS = 0.5
QUERY_SECONDS = 5
WITHDRAW_SECONDS = 120
SHRINK_UNFORCED = "--allow-shrink lets a forced export take from the table what the source has lost: say --force too"
Handle = WorkflowHandle[Any, ExportReport]
Show = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Ended:
    """How a request ended: the command's exit code, and the report if there is one."""

    code: int
    report: ExportReport | None = None


def export(
    table: Annotated[str, typer.Argument(help="A table of config/tables.yaml.")],
    network: Annotated[str, typer.Option("--network", "-n", help="The network, such as mainnet.")],
    environment: EnvironmentOption = "local",
    date: Annotated[str, typer.Option(help="One day, hour (2024-03-20T05) or integer value.")] = "",
    first: Annotated[str, typer.Option("--from", help="First partition, inclusive.")] = "",
    last: Annotated[str, typer.Option("--to", help="Last partition, inclusive.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Export again what is there already.")] = False,
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="With --force: also where the source holds less than the table.")
    ] = False,
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
        if json:
            say_json({"workflow_id": handle.id, "loop": loop_id(request.environment, request.network, request.table)})
        else:
            say(f"requested as {handle.id}; follow it with: temporal workflow show -w '{handle.id}' --follow")
        return 0
    with Shown(quiet=json) as shown:
        ended = await follow(client, handle, request, shown)
    if ended.report is not None:
        if json:
            say_json(asdict(ended.report))
        else:
            print_report(ended.report, may_shrink=request.allow_shrink)
    return ended.code


async def connect(environment: Environment) -> Client:
    """A client of the environment's Temporal, or one line that says where it was looked for."""
    try:
        return await connect_temporal(environment)
    except RuntimeError as away:
        fail(f"Temporal {away}")


async def start_request(client: Client, queue: str, request: ExportRequest) -> Handle:
    """Start the door under an id that says what was asked, and when."""
    identity = f"request/{request.environment}/{request.network}.{request.table}/{time.time_ns() // 1_000_000}"
    return await client.start_workflow(
        REQUEST_WORKFLOW, write_input(request), id=identity, task_queue=queue, result_type=ExportReport
    )


async def follow(client: Client, handle: Handle, request: ExportRequest, shown: "Shown") -> Ended:
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


async def withdraw(client: Client, handle: WorkflowHandle[Any, Any]) -> None:
    """Cancel a request at its door, and say what became of it."""
    errors.print("withdrawing the request …")
    await handle.cancel()
    worked_on = await has_worker(client, (await handle.describe()).task_queue)
    try:
        await asyncio.wait_for(handle.result(), WITHDRAW_SECONDS if worked_on else POLL_SECONDS)
    except WorkflowFailureError:
        errors.print("withdrawn: nothing of it is running any more")
    except TimeoutError:
        errors.print("withdrawn: no worker has confirmed it yet; the next one to take the request ends it")
    else:
        errors.print("the request had ended before it could be withdrawn")


def explain(failed: WorkflowFailureError) -> int:
    """Say why a request failed, and answer the exit code."""
    if isinstance(failed.cause, CancelledError):
        errors.print("the request was cancelled")
        return INTERRUPTED
    cause: BaseException | None = failed.cause
    while cause is not None and not isinstance(cause, ApplicationError) and cause.__cause__ is not None:
        cause = cause.__cause__  # an activity's failure wraps what it says
    if isinstance(cause, ApplicationError):
        errors.print(f"error: {cause.type}: {cause.message}", markup=False)
        return USAGE if cause.type == "BadRequest" else FAILED
    errors.print(f"error: {failed.cause}", markup=False)
    return FAILED


class Shown(contextlib.AbstractContextManager["Shown"]):
    """Progress of requests for people: a bar each on a terminal, a line for every change elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[words]}", table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
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
    """Partitions done, partitions planned, and both in words; none are planned while the loop still plans."""
    planned = seen["missing"] + seen["stale"] + seen["forced"]
    done = seen["exported"] + seen["already_there"] + seen["failed"] + seen.get("removed", 0) + seen.get("uploaded", 0)
    if seen["message"] and seen["status"] == "dry_run":
        return 0, planned, f"{planned} partitions to do"
    if not planned:
        return 0, 0, "nothing to do" if seen["message"] else "planning"
    committed = done - seen.get("uploaded", 0)
    text = f"{committed}/{planned} partitions, {seen['rows']:,} rows, {seen['bytes'] / 1e6:,.1f} MB"
    if seen.get("uploaded"):
        text += f", {seen['uploaded']} more uploaded"
    if seen["failed"]:
        text += f", {seen['failed']} failed"
    return done, planned, text


def _bar(progress: Progress, task: TaskID, seen: dict[str, Any]) -> None:
    if "missing" not in seen:
        return
    done, planned, words = _words(seen)
    first, *others = seen["in_flight"] or [""]
    flight = f"{first} and {len(others)} more" if others else first
    ended = bool(seen["message"])
    progress.update(
        task,
        completed=1 if ended and not planned else done,
        total=planned or (1 if ended else None),
        words=f"{words}  [dim]{flight}[/dim]",
    )


def _line(last: list[str], name: str, seen: dict[str, Any]) -> None:
    if not name or "missing" not in seen:
        return
    _, _, words = _words(seen)
    if words != last[0]:
        last[0] = words
        say(f"{name}: {words}")


def print_report(report: ExportReport, *, may_shrink: bool = False) -> None:
    """The report for people."""
    say(report.message)
    for snapshot in report.snapshots[-3:]:
        say(f"  snapshot {snapshot}")
    for failure in report.failures:
        say(f"  failed {failure.partition}: {failure.cause}: {failure.message} (who must act: {failure.who})")
    if report.failed > len(report.failures):
        say(f"  and {report.failed - len(report.failures)} more")
    for one in report.suspensions:
        say(f"  suspended {one.partition}: failed {one.failures} times, last with {one.cause}; due again {one.until}")
    for partition in report.shrunk:
        rest = "" if may_shrink else "; nothing was replaced"
        say(f"  the source holds less than the table for {partition}{rest}")
    if report.shrunk and not may_shrink:
        say("  if that is right, `--force --allow-shrink` makes the table follow the source")
