"""What commands share that send work to the fleet: a client, a door that is started, and its report."""

import asyncio
import shlex
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import typer
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError, CancelledError

from activities.contracts.export import ENVIRONMENT_ATTRIBUTE, AnyRequest, loop_id, table_identifier
from activities.contracts.inputs import write_input
from activities.contracts.verify import VerifyRequest
from activities.unserved import has_worker
from starter.common import FAILED, INTERRUPTED, PARTIAL, USAGE, errors, fail, say, say_json
from worker.config import Environment, Temporal
from worker.temporal import connect_temporal

AnyReport = TypeVar("AnyReport")

CODES: Mapping[str, int] = {
    "complete": 0,
    "nothing_to_do": 0,
    "dry_run": 0,
    "partial": PARTIAL,
    "cancelled": INTERRUPTED,
}
"""How a report ended → the command's exit code; it is `FAILED` for any other."""
DEFAULT_ADDRESSES = ("localhost:7233", "127.0.0.1:7233")
"""Where Temporal's own command looks unless it is told."""
POLL_SECONDS = 0.5
"""Between two looks at the progress of what is waited for."""
QUERY_SECONDS = 5
WITHDRAW_SECONDS = 120


async def connect(environment: Environment) -> Client:
    """A client of the environment's Temporal, or one line that says where it was looked for."""
    try:
        return await connect_temporal(environment)
    except RuntimeError as away:
        fail(f"Temporal {away}")


def stamped(name: str) -> str:
    """The id of a door: what is asked, and when."""
    return f"{name}/{time.time_ns() // 1_000_000}"


def of_environment(name: str) -> TypedSearchAttributes:
    """By which the Temporal UI finds what concerns an environment."""
    return TypedSearchAttributes([SearchAttributePair(ENVIRONMENT_ATTRIBUTE, name)])


async def start_door(
    client: Client,
    queue: str,
    request: AnyRequest | VerifyRequest,
    workflow: str,
    word: str,
    shape: type[AnyReport],
) -> WorkflowHandle[Any, AnyReport]:
    """Start the door for something that is asked of one table; `word` says what in its id."""
    identifier = table_identifier(request.network, request.table)
    return await client.start_workflow(
        workflow,
        write_input(request),
        id=stamped(f"{word}/{request.environment}/{identifier}"),
        task_queue=queue,
        result_type=shape,
    )


def say_requested(
    handle: WorkflowHandle[Any, Any], request: AnyRequest, environment: Environment, *, json: bool
) -> None:
    """Say how a request is followed that nobody here waits for."""
    if json:
        say_json({"workflow_id": handle.id, "loop": loop_id(request.environment, request.network, request.table)})
    else:
        typed = f"temporal workflow show -w '{handle.id}' --follow{reached_by(environment.temporal)}"
        say(f"requested as {handle.id}; follow it with: {typed}")


def reached_by(temporal: Temporal) -> str:
    """What Temporal's own command must be told to find it; nothing where its defaults do."""
    options = {
        "address": "" if temporal.address in DEFAULT_ADDRESSES else temporal.address,
        "namespace": "" if temporal.namespace == "default" else temporal.namespace,
    }
    if temporal.tls is not None:
        files = temporal.tls.files()
        options |= {
            "tls-ca-path": files.ca_file,
            "tls-cert-path": files.cert_file,
            "tls-key-path": files.key_file,
            "tls-server-name": files.server_name,
        }
    words = [f" --{name} {shlex.quote(value)}" for name, value in options.items() if value]
    words += [" --tls"] if temporal.tls is not None else []
    # The key itself is nobody's to read off a screen.
    words += [' --api-key "$TEMPORAL_API_KEY"'] if temporal.api_key is not None else []
    return "".join(words)


async def report_of(client: Client, handle: WorkflowHandle[Any, AnyReport]) -> AnyReport:
    """A door's report, as `waited_for` waits."""
    async with waited_for(client, handle):
        return await handle.result()


@asynccontextmanager
async def waited_for(client: Client, handle: WorkflowHandle[Any, Any]) -> AsyncIterator[None]:
    """Wait for a door within this: its failure is said, and ends the command; who gives up waiting withdraws it."""
    try:
        yield
    except asyncio.CancelledError:
        await withdraw(client, handle)
        raise typer.Exit(INTERRUPTED) from None
    except WorkflowFailureError as failed:
        raise typer.Exit(explain(failed)) from failed


@contextmanager
def left_alone(what: str) -> Iterator[None]:
    """Wait within this for what goes on by itself: who gives up waiting is told that it does, and how."""
    try:
        yield
    except asyncio.CancelledError:
        errors.print(f"not waited for any longer; {what}", markup=False)
        raise typer.Exit(INTERRUPTED) from None


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
