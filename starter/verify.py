"""`icefleet verify`: hold a table against its source, and watch what is found."""

import asyncio
import contextlib
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from temporalio.client import WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError

from activities.contracts.export import PROGRESS_QUERY, table_identifier
from activities.contracts.verify import VERIFY_WORKFLOW, VerifyReport, VerifyRequest
from starter.asking import POLL_SECONDS, QUERY_SECONDS, connect, start_door, waited_for
from starter.common import (
    PARTIAL,
    EnvironmentOption,
    JsonOption,
    console,
    load_environment,
    run,
    say,
    say_json,
)
from starter.options import FromOption, NetworkOption, TableArgument, ToOption
from starter.unserved import say_unserved, verify_queue
from worker.config import Environment

Handle = WorkflowHandle[Any, VerifyReport]


def verify(
    table: TableArgument,
    network: NetworkOption,
    environment: EnvironmentOption = "local",
    first: FromOption = "",
    last: ToOption = "",
    newest: Annotated[int, typer.Option(min=0, help="Only so many of the newest partitions; 0 for all.")] = 0,
    deep: Annotated[bool, typer.Option("--deep", help="Also read all values, and compare their checksums.")] = False,
    json: JsonOption = False,
) -> None:
    """Prove that a table holds every expected partition once, with the rows and the newest version of its source.

    \b
    icefleet verify beacon_api_eth_v1_events_block -n mainnet
    icefleet verify beacon_api_eth_v1_events_block -n mainnet --from 2024-03-01 --to 2024-03-31 --deep
    icefleet verify canonical_execution_block -n mainnet --newest 100 --json

    Nothing is written. Partitions that changed while they were looked at are counted as open. Ctrl-C cancels. Exit
    codes: 0 proved, 1 failed, 2 cannot be, 3 findings, 130 cancelled.
    """
    request = VerifyRequest(table, network, environment, first, last, newest, deep)
    raise typer.Exit(run(_verify(load_environment(environment, "temporal"), request, json=json)))


async def _verify(environment: Environment, request: VerifyRequest, *, json: bool) -> int:
    client = await connect(environment)
    queue = environment.temporal.task_queue
    handle = await start_door(client, queue, request, VERIFY_WORKFLOW, "verify", VerifyReport)
    await say_unserved(client, "the request", queue, verify_queue(environment))
    async with waited_for(client, handle):
        report = await _follow(handle, table_identifier(request.network, request.table), quiet=json)
    if json:
        say_json(asdict(report))
    else:
        print_report(report)
    return PARTIAL if report.found else 0


async def _follow(handle: Handle, identifier: str, *, quiet: bool) -> VerifyReport:
    waiting = asyncio.create_task(handle.result())
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=16), TextColumn("{task.fields[words]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task(identifier, total=None, words="looking")
        while not waiting.done():
            await asyncio.wait([waiting], timeout=POLL_SECONDS)
            # No worker that could answer, or it has ended: the report will say.
            with contextlib.suppress(RPCError, WorkflowQueryFailedError):
                seen = await handle.query(PROGRESS_QUERY, rpc_timeout=timedelta(seconds=QUERY_SECONDS))
                done, total, words = _words(seen)
                progress.update(task, completed=done, total=total or None, words=words)
    return await waiting


def _words(seen: dict[str, Any]) -> tuple[int, int, str]:
    """Partitions looked at, all of them, and both in words."""
    done, total = seen["expected"], seen["expected"] + seen["left"]
    words = f"{done}/{total} partitions, {seen['rows']:,} rows"
    if seen["reading"] or seen["read"]:
        words += f", values of {seen['read']} compared"
    if seen["found"]:
        words += f", {seen['found']} findings"
    return done, total, words


def print_report(report: VerifyReport) -> None:
    """The report for people."""
    say(report.message)
    for finding in report.findings:
        say(f"  {finding.kind} {finding.partition}: {finding.message}")
    if report.found > len(report.findings):
        say(f"  and {report.found - len(report.findings)} more")
    for column, count in sorted(report.not_compared.items()):
        say(f"  column {column} was not compared in {count} partitions: the file or the source lacks it")
