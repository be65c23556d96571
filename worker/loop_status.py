"""One durable loop as Temporal and the loop itself tell of it, as far as they can be asked."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from activities.contracts.export import PROGRESS_QUERY

QUERY_SECONDS = 5
UNKNOWN = "unknown"
"""The state of a loop that could not be asked."""


@dataclass(frozen=True)
class LoopStatus:
    """A loop."""

    workflow_id: str
    state: str
    """`running`, `paused`, `waiting` for a fault to be mended, `retrying`, `stopping`, `absent`, or `unknown`."""
    cause: str = ""
    """Why it does not run, or what it waits for."""
    progress: dict[str, Any] = field(default_factory=dict)


async def look_at_loop(client: Client, identity: str, starts: str, resumes: str) -> LoopStatus:
    """A loop as it is; `starts` and `resumes` say what starts one that was never there, and one that has ended."""
    handle = client.get_workflow_handle(identity)
    try:
        described = await handle.describe()
    except RPCError as gone:
        if gone.status == RPCStatusCode.NOT_FOUND:
            return LoopStatus(identity, "absent", starts)
        return LoopStatus(identity, UNKNOWN, gone.message)
    if described.status != WorkflowExecutionStatus.RUNNING:
        ended = described.status.name.lower() if described.status else "ended"
        return LoopStatus(identity, "absent", f"its last run is {ended}; {resumes}")
    failing = _failing(described.raw_description.pending_activities)
    try:
        progress: dict[str, Any] = await handle.query(PROGRESS_QUERY, rpc_timeout=timedelta(seconds=QUERY_SECONDS))
    except (RPCError, WorkflowQueryFailedError) as away:
        return LoopStatus(identity, UNKNOWN, failing or f"no worker answers for it: {away}")
    trouble = progress["trouble"]
    if trouble is not None:
        cause = f"{trouble['cause']}: {trouble['message']} (who must act: {trouble['who']})"
        return LoopStatus(identity, progress["state"], cause, progress)
    state = "retrying" if failing and progress["state"] == "running" else progress["state"]
    return LoopStatus(identity, state, failing or await _waits(client, described.raw_description), progress)


async def why_it_fails(client: Client, identity: str) -> str:
    """Why the activity that a workflow waits for has failed and is tried again; empty: it has not, or nothing runs."""
    try:
        described = await client.get_workflow_handle(identity).describe()
    except RPCError as gone:
        return "" if gone.status == RPCStatusCode.NOT_FOUND else gone.message
    return _failing(described.raw_description.pending_activities)


async def _waits(client: Client, described: Any) -> str:
    """What the activities of a loop wait for just now, as their heartbeats say it."""
    told = [
        said
        for one in described.pending_activities
        for said in (await client.data_converter.decode(one.heartbeat_details.payloads))[1:]
    ]
    return "; ".join(str(said) for said in told)


def _failing(pending: Any) -> str:
    """Why the activity that a loop waits for has failed, if it is tried again."""
    for one in pending:
        if one.attempt > 1 and one.HasField("last_failure"):
            info = one.last_failure.application_failure_info
            kind = f"{info.type}: " if info.type else ""
            return f"{one.activity_type.name}, attempt {one.attempt}: {kind}{one.last_failure.message}"
    return ""
