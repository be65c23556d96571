"""What the commands of `icefleet cdc` share: which pipeline, its loops, and doors that are waited for."""

from typing import Any

import typer
from temporalio.client import Client, WorkflowFailureError
from temporalio.service import RPCError, RPCStatusCode

from activities.contracts.cdc import (
    CAPTURE,
    INGEST,
    LETTERS_WORKFLOW,
    LOOPS,
    PAUSE_SIGNAL,
    RESUME_SIGNAL,
    LettersRequest,
)
from activities.contracts.inputs import write_input
from activities.core.names import near
from starter.asking import connect, explain, left_alone, of_environment, stamped
from starter.common import USAGE, fail, load_environment, run, say, say_json
from starter.unserved import say_unserved
from worker.config import Environment


def choose(environment: str, name: str) -> tuple[Environment, str]:
    """The environment, for a command that only sends work, and the pipeline that is meant."""
    resolved = load_environment(environment, "temporal")
    return resolved, chosen_of(resolved, name)


def chosen_of(environment: Environment, name: str) -> str:
    """The pipeline that is meant; one that is none, or may be several, ends the command."""
    known = list(environment.cdc)
    if not known:
        fail(f"environment {environment.name!r} has no pipeline; docs/guides/cdc.md says how to write `cdc`", USAGE)
    if not name and len(known) > 1:
        fail(f"environment {environment.name!r} has several pipelines: say --pipeline {' or '.join(known)}", USAGE)
    if name and name not in known:
        fail(f"no pipeline {name!r} under `cdc` of environment {environment.name!r}{near(name, known)}", USAGE)
    return name or known[0]


def loops_of(environment: Environment, name: str, only: str) -> list[str]:
    """The loops of a pipeline, or the one that is meant."""
    there = [CAPTURE, INGEST] if environment.cdc[name].source is not None else [INGEST]
    if only and only not in LOOPS:
        fail(f"--only is {CAPTURE} or {INGEST}, not {only!r}", USAGE)
    if only and only not in there:
        fail(f"pipeline {name!r} has no `source` in config: others fill its buffer, and nothing is captured", USAGE)
    return [only] if only else there


def settle(environment: str, pipeline: str, asked: LettersRequest, *, json: bool) -> None:
    """Have a decision carried out, and say what became of it."""
    resolved, name = choose(environment, pipeline)
    request = {**write_input(asked), "pipeline": name, "environment": environment}
    report = run(ask(resolved, name, LETTERS_WORKFLOW, request))
    if json:
        say_json(report)
    else:
        say(report["message"])


async def ask(environment: Environment, pipeline: str, workflow: str, request: dict[str, Any]) -> dict[str, Any]:
    """Start a door and wait for its report; its failure is said, and ends the command."""
    client = await connect(environment)
    queue = environment.temporal.cdc_task_queue
    await say_unserved(client, "this", queue)
    handle = await client.start_workflow(
        workflow,
        request,
        id=stamped(f"cdc/request/{environment.name}/{pipeline}"),
        task_queue=queue,
        search_attributes=of_environment(environment.name),
    )
    try:
        with left_alone(f"{handle.id} goes on, and `icefleet cdc status` shows what comes of it"):
            report: dict[str, Any] = await handle.result()
    except WorkflowFailureError as failed:
        raise typer.Exit(explain(failed)) from failed
    return report


async def pause_loops(environment: Environment, pipeline: str, loops: list[str]) -> bool:
    """Pause loops; answers whether any of them ran."""
    client = await connect(environment)
    ran = False
    for loop in loops:
        try:
            await client.get_workflow_handle(LOOPS[loop][1](environment.name, pipeline)).signal(PAUSE_SIGNAL)
        except RPCError as gone:
            if gone.status != RPCStatusCode.NOT_FOUND:
                raise
            say(f"{loop} of {pipeline} does not run")
        else:
            ran = True
            say(f"{loop} of {pipeline} pauses; go on with: icefleet cdc resume --pipeline {pipeline}")
    return ran


async def resume_loops(environment: Environment, pipeline: str, loops: list[str]) -> None:
    """Have loops go on; those that do not run are started."""
    client = await connect(environment)
    for loop in loops:
        await _start(client, environment, pipeline, loop)
        say(f"{loop} of {pipeline} goes on")
    await say_unserved(client, "all of it", environment.temporal.cdc_task_queue)


async def _start(client: Client, environment: Environment, pipeline: str, loop: str) -> None:
    workflow, identity = LOOPS[loop]
    await client.start_workflow(
        workflow,
        {"environment": environment.name, "pipeline": pipeline},
        id=identity(environment.name, pipeline),
        task_queue=environment.temporal.cdc_task_queue,
        static_summary=f"{loop} of {pipeline}",
        start_signal=RESUME_SIGNAL,
        search_attributes=of_environment(environment.name),
    )
