"""Record the histories that `test_replay.py` replays.

Run it by hand, before a version is released, with the code that will be:

    make histories

It starts the embedded stack in a temporary directory, lets requests and loops live through their typical lives, and
writes each of their histories to `tests/replay/histories/<version>/<workflow>-<case>.json` (this version's files there
before are removed). Histories of versions that have been released stay as they are: they are what loops of users may
hold. It takes about a minute. A history that holds a credential is not written: the run ends with an error.
"""

import asyncio
import base64
import json
import os
import re
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from lives_of_streams import STREAMS  # noqa: E402 - what stands here is found by the line above
from lives_of_tables import TABLES  # noqa: E402
from temporalio.client import WorkflowHandle  # noqa: E402

from activities.contracts.backfill import BACKFILL_WORKFLOW  # noqa: E402
from activities.contracts.cdc import (  # noqa: E402
    CAPTURE_WORKFLOW,
    COPY_WORKFLOW,
    INGEST_WORKFLOW,
    KEEP_WORKFLOW,
    LETTERS_WORKFLOW,
)
from activities.contracts.due import DUE_WORKFLOW  # noqa: E402
from activities.contracts.export import LOOP_WORKFLOW  # noqa: E402
from activities.contracts.mirrors import (  # noqa: E402
    MERGE_ONCE_WORKFLOW,
    MERGE_WORKFLOW,
)
from activities.contracts.verify import VERIFY_WORKFLOW  # noqa: E402
from deploy.local.stack import Stack  # noqa: E402
from support.fleet import Fleet, eventually  # noqa: E402
from support.releases import released  # noqa: E402

ROOT = HERE.parents[1]
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
HISTORIES = HERE / "histories" / VERSION
NUMBERED = {
    *(LOOP_WORKFLOW, BACKFILL_WORKFLOW, CAPTURE_WORKFLOW, INGEST_WORKFLOW, COPY_WORKFLOW, LETTERS_WORKFLOW),
    *(MERGE_WORKFLOW, MERGE_ONCE_WORKFLOW, KEEP_WORKFLOW),
}
"""What has several runs in one case."""


async def histories_of(fleet: Fleet, request: WorkflowHandle[Any, Any]) -> list[tuple[str, str]]:
    """Name and JSON of every run: the request's, and all of its loop's in order."""
    door = (await request.describe()).workflow_type
    found = []
    for run_id in await runs_of(fleet, request):
        handle = fleet.temporal.get_workflow_handle(request.id, run_id=run_id)
        found.append((door, (await handle.fetch_history()).to_json()))
    query = f"TaskQueue = '{fleet.queue}' AND WorkflowType = '{LOOP_WORKFLOW}'"

    async def closed() -> list[Any]:
        runs = [run async for run in fleet.temporal.list_workflows(query)]
        return [] if any(run.close_time is None for run in runs) else sorted(runs, key=lambda run: run.start_time)

    runs = await eventually(closed) if await started(fleet, request) else []
    for run in runs:
        handle = fleet.temporal.get_workflow_handle(run.id, run_id=run.run_id)
        found.append((LOOP_WORKFLOW, (await handle.fetch_history()).to_json()))
    return found + await pipeline_histories(fleet, request)


async def pipeline_histories(fleet: Fleet, request: WorkflowHandle[Any, Any]) -> list[tuple[str, str]]:
    """The same of whatever else ran for the fleet's pipelines and mirrors."""
    query = f"TaskQueue IN ('{fleet.cdc_queue}', '{fleet.merge_queue}')"

    async def closed() -> tuple[list[Any]] | None:
        runs = [run async for run in fleet.temporal.list_workflows(query) if run.id != request.id]
        return None if any(run.close_time is None for run in runs) else (sorted(runs, key=lambda run: run.start_time),)

    found = []
    (runs,) = await eventually(closed)
    for run in runs:
        handle = fleet.temporal.get_workflow_handle(run.id, run_id=run.run_id)
        found.append((run.workflow_type, (await handle.fetch_history()).to_json()))
    return found


async def runs_of(fleet: Fleet, request: WorkflowHandle[Any, Any]) -> list[str]:
    """The runs of a request, in order: a backfill continues as new."""

    async def closed() -> list[Any]:
        runs = [run async for run in fleet.temporal.list_workflows(f"WorkflowId = '{request.id}'")]
        return [] if any(run.close_time is None for run in runs) else sorted(runs, key=lambda run: run.start_time)

    return [run.run_id for run in await eventually(closed)]


async def started(fleet: Fleet, request: WorkflowHandle[Any, Any]) -> bool:
    """Whether a loop was started for the request, or before it: something was delivered."""
    if (await request.describe()).workflow_type in {DUE_WORKFLOW, VERIFY_WORKFLOW}:
        return True
    delivering: set[int] = set()
    for run_id in await runs_of(fleet, request):
        handle = fleet.temporal.get_workflow_handle(request.id, run_id=run_id)
        async for event in handle.fetch_history_events():
            if event.activity_task_scheduled_event_attributes.activity_type.name == "deliver_request":
                delivering.add(event.event_id)
            elif event.activity_task_completed_event_attributes.scheduled_event_id in delivering:
                return True
        delivering.clear()
    return False


def secrets_of(stack: Stack) -> list[str]:
    """Every credential of the stack, and the halves of those that are pairs."""
    values = (
        value
        for name, value in stack.environment.items()
        if name.endswith(("PASSWORD", "ACCESS_KEY", "SECRET_KEY", "CREDENTIAL"))
    )
    return [part for value in values for part in {value, *value.split(":")} if part]


def readable(text: str) -> str:
    """A history's JSON with its payloads, which are base64 there, as text at the end."""
    payloads = re.findall(r'"data": "([A-Za-z0-9+/=]+)"', text)
    return "\n".join([text, *(base64.b64decode(payload).decode("utf-8", "replace") for payload in payloads)])


def tidy(value: Any) -> Any:
    """A history without what only this machine has: stack traces with its paths, and the names of its processes."""
    if isinstance(value, list):
        return [tidy(item) for item in value]
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in {"stackTrace", "workerVersion"}}
        return {key: "worker" if key == "identity" else tidy(item) for key, item in kept.items()}
    return value


def refuse_a_released_version() -> None:
    """Histories of a version that has been released, as the changelog says, are made once."""
    if VERSION in released(ROOT):
        raise SystemExit(f"{VERSION} has been released: raise `version` in pyproject.toml, then record its histories")


async def record() -> None:
    """Live through every case, and write down what happened."""
    refuse_a_released_version()
    with tempfile.TemporaryDirectory() as place, Stack(Path(place) / "stack") as stack:
        os.environ["ICEFLEET_LOCAL_DIR"] = str(stack.directory)
        written: dict[str, str] = {}
        for case in (*TABLES, *STREAMS):
            async with Fleet(stack, Path(place) / case.__name__) as fleet:
                request = await case(fleet)
                numbers: dict[str, int] = {}
                for workflow, history in await histories_of(fleet, request):
                    numbers[workflow] = numbers.get(workflow, 0) + 1
                    suffix = f"-{numbers[workflow]}" if workflow in NUMBERED else ""
                    name = f"{workflow}-{case.__name__.replace('_', '-')}{suffix}.json"
                    written[name] = json.dumps(tidy(json.loads(history)), indent=1)
        secrets = secrets_of(stack)
        leaked = [name for name, text in written.items() if any(secret in readable(text) for secret in secrets)]
        if leaked:
            raise SystemExit(f"credentials in {', '.join(leaked)}: nothing was written")
    HISTORIES.mkdir(parents=True, exist_ok=True)
    for old in HISTORIES.glob("*.json"):
        old.unlink()
    for name, text in written.items():
        (HISTORIES / name).write_text(text + "\n")
    sys.stdout.write(f"{len(written)} histories, {sum(map(len, written.values())) // 1024} KiB\n")


if __name__ == "__main__":
    asyncio.run(record())
    sys.stdout.flush()
    os._exit(0)  # a process that used a Temporal client can abort while the interpreter shuts down
