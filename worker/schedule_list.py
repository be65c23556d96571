"""What our schedules do: when they run next, what became of the last run, who paused them and why."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from temporalio.client import (
    Client,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.service import RPCError, RPCStatusCode

from worker.schedule_diff import describe_all
from worker.schedules import cron_of


@dataclass(frozen=True)
class SeenSchedule:
    """One schedule of ours."""

    id: str
    workflow: str
    cron: str
    time_zone: str
    paused: bool
    note: str
    next_run: datetime | None = None
    """None while it is paused."""
    last_run: datetime | None = None
    last_workflow_id: str = ""
    outcome: str = ""
    """`running`, `completed`, `failed` …; `forgotten` when Temporal has let go of the run; empty before the first."""
    message: str = ""
    """What a run that ended says of itself."""


async def look(client: Client, ids: list[str]) -> list[SeenSchedule]:
    """What is to be seen of schedules, those that are there."""
    found = await describe_all(client, ids)
    return list(await asyncio.gather(*(_seen(client, found[name]) for name in ids if name in found)))


async def _seen(client: Client, description: ScheduleDescription) -> SeenSchedule:
    schedule, info = description.schedule, description.info
    action = schedule.action
    last = info.recent_actions[-1] if info.recent_actions else None
    outcome = message = identity = ""
    if last is not None and isinstance(last.action, ScheduleActionExecutionStartWorkflow):
        identity = last.action.workflow_id
        handle = client.get_workflow_handle(identity, run_id=last.action.first_execution_run_id)
        outcome, message = await _outcome(handle)
    return SeenSchedule(
        id=description.id,
        workflow=action.workflow if isinstance(action, ScheduleActionStartWorkflow) else "",
        cron=cron_of(schedule.spec),
        time_zone=schedule.spec.time_zone_name or "UTC",
        paused=schedule.state.paused,
        note=schedule.state.note or "",
        next_run=info.next_action_times[0] if info.next_action_times and not schedule.state.paused else None,
        last_run=last.started_at if last else None,
        last_workflow_id=identity,
        outcome=outcome,
        message=message,
    )


async def _outcome(handle: WorkflowHandle[object, object]) -> tuple[str, str]:
    try:
        status = (await handle.describe()).status
        if status is None or status == WorkflowExecutionStatus.RUNNING:
            return "running", ""
        result = await handle.result()
    except WorkflowFailureError as failed:
        return (status.name if status else "failed").lower(), str(failed.cause)
    except RPCError as gone:
        if gone.status != RPCStatusCode.NOT_FOUND:
            raise
        return "forgotten", ""
    message = result.get("message", "") if isinstance(result, dict) else ""
    return status.name.lower(), str(message)
