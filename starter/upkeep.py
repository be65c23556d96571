"""`icefleet upkeep`: old snapshots go, and public keys get the newest rows."""

from dataclasses import asdict
from typing import Annotated

import typer

from activities.contracts.export import UPKEEP_WORKFLOW, table_identifier
from activities.contracts.upkeep import UpkeepReport, UpkeepRequest
from starter.asking import CODES, connect, report_of, start_door
from starter.common import (
    FAILED,
    EnvironmentOption,
    JsonOption,
    load_environment,
    run,
    say,
    say_json,
)
from starter.options import DryRunOption, NetworkOption, TableArgument
from starter.unserved import say_unserved, upkeep_queue
from worker.config import Environment


def upkeep(
    table: TableArgument,
    network: NetworkOption,
    environment: EnvironmentOption = "local",
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Also overwrite public objects that icefleet did not make.")
    ] = False,
    dry_run: DryRunOption = False,
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
    await say_unserved(client, "the request", queue, upkeep_queue(environment))
    handle = await start_door(client, queue, request, UPKEEP_WORKFLOW, "upkeep", UpkeepReport)
    report = await report_of(client, handle)
    if json:
        say_json({"table": table_identifier(request.network, request.table), **asdict(report)})
    else:
        say(report.message)
    return CODES.get(report.status, FAILED)
