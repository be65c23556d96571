"""`icefleet upkeep`: old snapshots go, and public keys get the newest rows."""

import asyncio
import time
from dataclasses import asdict
from typing import Annotated

import typer
from temporalio.client import WorkflowFailureError

from activities.contracts.export import UPKEEP_WORKFLOW, table_identifier
from activities.contracts.inputs import write_input
from activities.contracts.upkeep import UpkeepReport, UpkeepRequest
from starter.common import (
    FAILED,
    INTERRUPTED,
    EnvironmentOption,
    JsonOption,
    load_environment,
    run,
    say,
    say_json,
)
from starter.export import CODES, connect, explain, withdraw
from starter.unserved import say_unserved, upkeep_queue
from worker.config import Environment


def upkeep(
    table: Annotated[str, typer.Argument(help="A table of config/tables.yaml.")],
    network: Annotated[str, typer.Option("--network", "-n", help="The network, such as mainnet.")],
    environment: EnvironmentOption = "local",
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Also overwrite public objects that icefleet did not make.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done; writes nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Let old snapshots of a table expire, and bring its public objects up to date.

    \b
    icefleet upkeep canonical_execution_block -n mainnet --dry-run
    icefleet upkeep canonical_execution_block -n mainnet

    The table's own loop does it, between two pages of its exports; workers must run. Exit codes: 0 done, 1 failed, 2
    cannot be, 3 something could not be done, 130 withdrawn.
    """
    request = UpkeepRequest(table, network, environment, take_over, dry_run)
    raise typer.Exit(run(_upkeep(load_environment(environment, "temporal"), request, json=json)))


async def _upkeep(environment: Environment, request: UpkeepRequest, *, json: bool) -> int:
    client, queue = await connect(environment), environment.temporal.task_queue
    identifier = table_identifier(request.network, request.table)
    await say_unserved(client, "the request", queue, upkeep_queue(environment))
    handle = await client.start_workflow(
        UPKEEP_WORKFLOW,
        write_input(request),
        id=f"upkeep/{request.environment}/{identifier}/{time.time_ns() // 1_000_000}",
        task_queue=queue,
        result_type=UpkeepReport,
    )
    try:
        report = await handle.result()
    except asyncio.CancelledError:
        await withdraw(client, handle)
        return INTERRUPTED
    except WorkflowFailureError as failed:
        return explain(failed)
    if json:
        say_json({"table": identifier, **asdict(report)})
    else:
        say(report.message)
    return CODES.get(report.status, FAILED)
