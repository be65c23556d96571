"""What the commands of `icefleet mirrors` share: which mirrors, their loops, and doors that are waited for."""

import asyncio
from collections.abc import Sequence
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.contracts.inputs import write_input
from activities.contracts.mirrors import (
    MERGE_ONCE_WORKFLOW,
    MERGE_SIGNAL,
    MERGE_WORKFLOW,
    PAUSE_SIGNAL,
    VERIFY_MIRROR_WORKFLOW,
    MergeOnceRequest,
    MirrorOrder,
    VerifyMirrorInput,
    mirror_id,
)
from activities.core.names import near
from activities.unserved import has_worker
from starter.asking import connect, explain, left_alone, of_environment, stamped, waited_for
from starter.common import FAILED, PARTIAL, USAGE, errors, fail, load_environment, say
from starter.unserved import mirrors_queue, say_unserved
from worker.config import Environment
from worker.loop_status import look_at_loop

ASKED_AT_ONCE = 20


def choose(environment: str, name: str, *, every: bool | None = None) -> tuple[Environment, list[str]]:
    """The environment, for a command that only sends work, and the mirrors that are meant."""
    resolved = load_environment(environment, "temporal", "mirrors")
    return resolved, chosen_of(resolved, name, every=every)


def chosen_of(environment: Environment, name: str, *, every: bool | None = None) -> list[str]:
    """The mirrors that are meant; one that is none, or may be several, ends the command.

    `every` says whether all are; None: what is asked for is for one.
    """
    known = list(environment.mirrors)
    if not known:
        fail(f"environment {environment.name!r} has no mirror; docs/guides/mirrors.md says how to write one", USAGE)
    if every and name:
        fail("name a mirror, or say --all", USAGE)
    if every:
        return known
    if not name and len(known) > 1:
        words = "name one" if every is None else "name one, or say --all"
        fail(f"environment {environment.name!r} has {len(known)} mirrors: {words}", USAGE)
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
            report, codes[name] = await _answer(client, environment, name, request)
            return report

    one = names[0] if len(names) == 1 else "NAME"
    shows, ends = f"`icefleet mirrors show {one}`", f"`icefleet mirrors pause {one}`"
    with left_alone(f"what was asked goes on: {shows} shows it, and {ends} ends it"):
        reports = dict(zip(names, await asyncio.gather(*(ask(name) for name in names)), strict=True))
    failed = [code for code in codes.values() if code]
    if failed and len(failed) < len(names):
        return reports, PARTIAL
    return reports, failed[0] if len(set(failed)) == 1 else FAILED if failed else 0


async def compare(environment: Environment, name: str, asked: VerifyMirrorInput) -> dict[str, Any]:
    """Hold a mirror against its changelog; a failure is said, and ends the command. Who gives up waiting ends it."""
    client = await _connected(environment)
    handle = await _start(client, environment, VERIFY_MIRROR_WORKFLOW, name, write_input(asked))
    async with waited_for(client, handle):
        return await handle.result()


async def _answer(
    client: Client, environment: Environment, name: str, request: dict[str, Any]
) -> tuple[dict[str, Any], int]:
    handle = await _start(client, environment, MERGE_ONCE_WORKFLOW, name, request)
    try:
        return await handle.result(), 0
    except WorkflowFailureError as failed:
        errors.print(f"{name}:", markup=False)
        return {"status": "failed", "message": str(failed.cause)}, explain(failed)


async def _start(
    client: Client, environment: Environment, workflow: str, name: str, request: dict[str, Any]
) -> WorkflowHandle[Any, dict[str, Any]]:
    return await client.start_workflow(
        workflow,
        request,
        id=stamped(f"merge/request/{environment.name}/{name}"),
        task_queue=environment.temporal.merge_task_queue,
        search_attributes=of_environment(environment.name),
    )


async def merge_soon(environment: Environment, names: Sequence[str]) -> dict[str, str]:
    """Have mirrors merge; answers why some will not, by name, as far as their loops say so."""
    client = await send(environment, names, MERGE_SIGNAL, write_input(MirrorOrder()))
    if not await has_worker(client, environment.temporal.merge_task_queue):
        return {}
    turns = asyncio.Semaphore(ASKED_AT_ONCE)

    async def why(name: str) -> str:
        async with turns:
            loop = await look_at_loop(client, mirror_id(environment.name, name), "", "")
        if loop.state == "paused":
            return f"it is paused; have it go on with: icefleet mirrors resume {name}"
        trouble = loop.progress.get("trouble") or {}
        mended = f"once that is mended, have it go on with: icefleet mirrors resume {name}"
        return f"it waits: {loop.cause}; {mended}" if trouble.get("for_good") else ""

    reasons = dict(zip(names, await asyncio.gather(*(why(name) for name in names)), strict=True))
    return {name: reason for name, reason in reasons.items() if reason}


async def send(environment: Environment, names: Sequence[str], signal: str, *payload: dict[str, Any]) -> Client:
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
                start_signal_args=list(payload),
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                search_attributes=of_environment(environment.name),
            )

    await asyncio.gather(*(one(name) for name in names))
    return client


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
