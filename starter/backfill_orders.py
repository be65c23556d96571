"""The orders that a running backfill takes."""

from typing import Annotated, Any

import typer
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from activities.contracts.backfill import (
    BACKFILL_WORKFLOW,
    MOST_PARALLEL,
    PARALLELISM_SIGNAL,
    PAUSE_SIGNAL,
    RESUME_SIGNAL,
    SKIP_SIGNAL,
    BackfillReport,
)
from starter.asking import connect, withdraw
from starter.common import USAGE, EnvironmentOption, fail, load_environment, run, say
from worker.config import Environment

Handle = WorkflowHandle[Any, BackfillReport]
IdArgument = Annotated[str, typer.Argument(help="The id that `start` and `list` print.")]


async def find_backfill(client: Client, identity: str) -> tuple[Handle, WorkflowExecutionDescription]:
    """A backfill by its id; anything else is refused."""
    handle = client.get_workflow_handle(identity, result_type=BackfillReport)
    try:
        described = await handle.describe()
    except RPCError as gone:
        if gone.status != RPCStatusCode.NOT_FOUND:
            raise
        fail(f"there is no backfill {identity!r}; `icefleet backfill list --all` names them", USAGE)
    if described.workflow_type != BACKFILL_WORKFLOW:
        fail(f"{identity!r} is no backfill: it is a {described.workflow_type}", USAGE)
    return handle, described


def pause(identity: IdArgument, environment: EnvironmentOption = "local") -> None:
    """Pause: begin nothing more, and end the queries that run. What was uploaded is used again on `resume`.

    \b
    icefleet backfill pause backfill/local/canonical-1732212000000
    """
    _signal(environment, identity, PAUSE_SIGNAL)
    say(f"paused; go on with: icefleet backfill resume {identity}")


def resume(identity: IdArgument, environment: EnvironmentOption = "local") -> None:
    """Go on after a pause.

    \b
    icefleet backfill resume backfill/local/canonical-1732212000000
    """
    _signal(environment, identity, RESUME_SIGNAL)
    say("goes on")


def parallelism(
    identity: IdArgument,
    number: Annotated[int, typer.Argument(min=1, max=MOST_PARALLEL, help="Tables worked on at once.")],
    environment: EnvironmentOption = "local",
) -> None:
    """Change how many tables and networks are worked on at once; what is in flight is finished.

    \b
    icefleet backfill parallelism backfill/local/canonical-1732212000000 8
    """
    _signal(environment, identity, PARALLELISM_SIGNAL, number)
    say(f"{number} at once from now on")


def skip(
    identity: IdArgument,
    table: Annotated[str, typer.Argument(help="A table, <network>.<table>, or a pattern of either.")],
    environment: EnvironmentOption = "local",
) -> None:
    """Leave a table out of a running backfill; what of it is in flight is withdrawn.

    \b
    icefleet backfill skip backfill/local/canonical-1732212000000 canonical_execution_traces
    icefleet backfill skip backfill/local/canonical-1732212000000 'holesky.*'
    """
    _signal(environment, identity, SKIP_SIGNAL, table)
    say(f"asked to leave out {table}; `icefleet backfill show {identity}` says which tables are skipped")


def cancel(identity: IdArgument, environment: EnvironmentOption = "local") -> None:
    """End a backfill: queries end, nothing half-done is committed. Started again, it does what is missing.

    \b
    icefleet backfill cancel backfill/local/canonical-1732212000000
    """
    run(_cancel(load_environment(environment, "temporal"), identity))


async def _cancel(environment: Environment, identity: str) -> None:
    client = await connect(environment)
    handle, described = await find_backfill(client, identity)
    _demand_running(described)
    await withdraw(client, handle)


def _demand_running(described: WorkflowExecutionDescription) -> None:
    if described.status != WorkflowExecutionStatus.RUNNING:
        state = described.status.name.lower().replace("_", " ") if described.status else "gone"
        fail(f"the backfill {described.id} has ended already: {state}", USAGE)


def _signal(environment: str, identity: str, signal: str, *values: Any) -> None:
    async def send() -> None:
        client = await connect(load_environment(environment, "temporal"))
        handle, described = await find_backfill(client, identity)
        _demand_running(described)
        await handle.signal(signal, args=values)

    run(send())
