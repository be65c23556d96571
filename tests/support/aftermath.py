"""What every long run looks at when it is over: why activities were tried again, and which processes are left."""

from pathlib import Path

import psutil
from temporalio.api.failure.v1 import Failure
from temporalio.client import Client

from support.evidence import said


async def activity_failures(temporal: Client, *queues: str) -> dict[str, list[str]]:
    """Name of a fault → what was said with it, of the last failure of every activity that was tried again."""
    found: dict[str, list[str]] = {}
    names = ", ".join(f"'{queue}'" for queue in queues)
    async for run in temporal.list_workflows(f"TaskQueue IN ({names})"):
        async for event in temporal.get_workflow_handle(run.id, run_id=run.run_id).fetch_history_events():
            started = event.activity_task_started_event_attributes
            if started.HasField("last_failure"):
                found.setdefault(_named(started.last_failure), []).append(said(started.last_failure))
    return found


def _named(failure: Failure) -> str:
    if failure.HasField("timeout_failure_info"):
        return "TimedOut"
    if failure.application_failure_info.type or not failure.HasField("cause"):
        return failure.application_failure_info.type
    return _named(failure.cause)  # the server puts its own before one that is long


def processes_of(directory: Path) -> list[str]:
    """Command lines of the processes that have something in `directory` among their words."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:  # it has ended, or is none of ours
            continue
        if any(str(directory) in word for word in words):
            found.append(" ".join(words))
    return found
