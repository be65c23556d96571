"""What the commands of `icefleet mirrors` share: which mirrors, their loops, and doors that are waited for."""

import asyncio
from collections.abc import Sequence
from typing import Any

import typer
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.contracts.inputs import write_input
from activities.contracts.mirrors import (
    MERGE_ONCE_WORKFLOW,
    MERGE_WORKFLOW,
    PAUSE_SIGNAL,
    VERIFY_MIRROR_WORKFLOW,
    MergeOnceRequest,
    VerifyMirrorInput,
    mirror_id,
)
from activities.core.names import near
from starter.asking import connect, explain, of_environment, stamped
from starter.common import FAILED, PARTIAL, USAGE, errors, fail, load_environment, say
from starter.unserved import mirrors_queue, say_unserved
from worker.config import Environment

ASKED_AT_ONCE = 20


def choose(environment: str, name: str, *, every: bool = False) -> tuple[Environment, list[str]]:
    """The environment, for a command that only sends work, and the mirrors that are meant."""
    resolved = load_environment(environment, "temporal", "mirrors")
    return resolved, chosen_of(resolved, name, every=every)


def chosen_of(environment: Environment, name: str, *, every: bool = False) -> list[str]:
    """The mirrors that are meant; one that is none, or may be several, ends the command."""
    known = list(environment.mirrors)
    if not known:
        fail(f"environment {environment.name!r} has no mirror; docs/guides/mirrors.md says how to write one", USAGE)
    if every and name:
        fail("name a mirror, or say --all", USAGE)
    if every:
        return known
    if not name and len(known) > 1:
        fail(f"environment {environment.name!r} has {len(known)} mirrors: name one, or say --all", USAGE)
    if name and name not in known:
        fail(f"no mirror {name!r} of environment {environment.name!r} in mirrors.yaml{near(name, known)}", USAGE)
    return [name or known[0]]


async def order(environment: Environment, names: Sequence[str], what: str) -> tuple[dict[str, dict[str, Any]], int]:
    """Have something done to mirrors and wait; their reports, and the command's exit code.

    One that fails is said, and keeps none of the others from being waited for.
    """
    client = await _connected(environment)
    turns, codes = asyncio.Semaphore(ASKED_AT_ONCE), dict[str, int]()

    async def ask(name: str) -> dict[str, Any]:
        async with turns:
            request = write_input(MergeOnceRequest(name, environment.name, what))
            report, codes[name] = await _answer(client, environment, MERGE_ONCE_WORKFLOW, name, request)
            return report

    reports = dict(zip(names, await asyncio.gather(*(ask(name) for name in names)), strict=True))
    failed = [code for code in codes.values() if code]
    if failed and len(failed) < len(names):
        return reports, PARTIAL
    return reports, failed[0] if len(set(failed)) == 1 else FAILED if failed else 0


async def compare(environment: Environment, name: str, asked: VerifyMirrorInput) -> dict[str, Any]:
    """Hold a mirror against its changelog; a failure is said, and ends the command."""
    client = await _connected(environment)
    report, code = await _answer(client, environment, VERIFY_MIRROR_WORKFLOW, name, write_input(asked))
    if code:
        raise typer.Exit(code)
    return report


async def _answer(
    client: Client, environment: Environment, workflow: str, name: str, request: dict[str, Any]
) -> tuple[dict[str, Any], int]:
    handle = await client.start_workflow(
        workflow,
        request,
        id=stamped(f"merge/request/{environment.name}/{name}"),
        task_queue=environment.temporal.merge_task_queue,
        search_attributes=of_environment(environment.name),
    )
    try:
        return await handle.result(), 0
    except WorkflowFailureError as failed:
        errors.print(f"{name}:", markup=False)
        return {"status": "failed", "message": str(failed.cause)}, explain(failed)


async def send(environment: Environment, names: Sequence[str], signal: str) -> None:
    """Send a signal to the loops of mirrors, which are started if they do not run."""
    client = await _connected(environment)
    turns = asyncio.Semaphore(ASKED_AT_ONCE)

    async def one(name: str) -> None:
        async with turns:
            await client.start_workflow(
                MERGE_WORKFLOW,
                {"environment": environment.name, "mirror": name},
                id=mirror_id(environment.name, name),
                task_queue=environment.temporal.merge_task_queue,
                static_summary=f"mirror {name}",
                start_signal=signal,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                search_attributes=of_environment(environment.name),
            )

    await asyncio.gather(*(one(name) for name in names))


async def pause_loops(environment: Environment, names: Sequence[str]) -> bool:
    """Pause loops; answers whether any of them ran."""
    client = await connect(environment)
    ran = False
    for name in names:
        try:
            await client.get_workflow_handle(mirror_id(environment.name, name)).signal(PAUSE_SIGNAL)
        except RPCError as gone:
            if gone.status != RPCStatusCode.NOT_FOUND:
                raise
            say(f"the loop of {name} does not run")
        else:
            ran = True
            say(f"{name} pauses; go on with: icefleet mirrors resume {name}")
    return ran


async def _connected(environment: Environment) -> Client:
    client = await connect(environment)
    await say_unserved(client, "the work", environment.temporal.merge_task_queue, mirrors_queue(environment))
    return client
