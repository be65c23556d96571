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
import subprocess
import sys
import tempfile
import tomllib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from temporalio.client import WorkflowFailureError, WorkflowHandle  # noqa: E402

from activities.contracts.backfill import BACKFILL_WORKFLOW  # noqa: E402
from activities.contracts.cdc import (  # noqa: E402
    CAPTURE,
    CAPTURE_WORKFLOW,
    COPY_WORKFLOW,
    INGEST,
    INGEST_WORKFLOW,
    INSTALL_WORKFLOW,
    KEEP_WORKFLOW,
    LETTERS_WORKFLOW,
    PAUSE_SIGNAL,
    RESUME_SIGNAL,
    STOP_SIGNAL,
    UNINSTALL_WORKFLOW,
    CopyReport,
)
from activities.contracts.due import DUE_WORKFLOW  # noqa: E402
from activities.contracts.export import LOOP_WORKFLOW  # noqa: E402
from activities.contracts.maintain import MAINTAIN_WORKFLOW  # noqa: E402
from activities.contracts.mirrors import (  # noqa: E402
    BOOTSTRAP_SIGNAL,
    COMPACT_SIGNAL,
    MERGE_ONCE_WORKFLOW,
    MERGE_WORKFLOW,
    REBUILD_SIGNAL,
    CompactReport,
    MergeInput,
)
from activities.contracts.verify import VERIFY_WORKFLOW  # noqa: E402
from activities.core.faults import (  # noqa: E402
    CatalogRefused,
    CatalogUnavailable,
    StoreUnavailable,
    UnsupportedType,
    WatermarkLost,
)
from deploy.local.stack import Stack  # noqa: E402
from support.backfills import progress_when, start_backfill  # noqa: E402
from support.cdcloops import batch, captured, ingested, loops, progress_of  # noqa: E402
from support.fleet import Fleet, eventually  # noqa: E402 - found by the line above
from support.gate import failing_at, gate_at  # noqa: E402
from support.leftovers import NOON, next_second, start_deletion  # noqa: E402
from support.mirrorloops import MIRROR, merged, mirror_loops  # noqa: E402
from support.published import day_table, parquet, publish, start_adoption  # noqa: E402
from support.upkeep import start_upkeep  # noqa: E402

ROOT = HERE.parents[1]
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
HISTORIES = HERE / "histories" / VERSION
Case = Callable[[Fleet], Awaitable[WorkflowHandle[Any, Any]]]
"""A typical life: answers the handle of its request. Every run of the request and of its loop is recorded."""


async def plain(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """Three days cross, and a dry run looks again."""
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        request = await fleet.start()
        await request.result()
        await fleet.request(dry_run=True)
        await fleet.loop_ended()
    return request


async def stale_and_forced(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """Late rows make a day stale while another is forced."""
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        await fleet.request()
        late = "toDateTime('2024-03-20 12:00:00', 'UTC')"
        await fleet.insert("events", late, 5, updated="2024-04-02 00:00:00", offset=1000)
        async with gate_at("before-commit") as gate:
            request = await fleet.start(from_="2024-03-18", to="2024-03-19", force=True)
            await gate.reached()
            due = await fleet.start()
            gate.open()
            await asyncio.gather(request.result(), due.result())
        await fleet.loop_ended()
    return request


async def failures(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A partition fails for good, and then the commit of the other one."""
    fleet.set_export(partition_attempts=1, commit_attempts=1, parallel_partitions=1)
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        async with (
            failing_at("before-upload", lambda: StoreUnavailable("no answer"), times=1),
            failing_at("before-commit", lambda: CatalogUnavailable("no answer"), times=1),
        ):
            request = await fleet.start()
            await request.result()
        await fleet.loop_ended()
    return request


async def refused(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """The plan fails, and with it the request."""
    fleet.add_table("daily", "absent", "at")
    async with fleet.worker():
        request = await fleet.start("absent")
        await ended(request)
        await fleet.loop_ended("absent")
    return request


async def at_the_door(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """The request cannot be: no loop hears of it."""
    async with fleet.worker():
        request = await fleet.start("nothing")
        await ended(request)
    return request


async def continued(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """Every page is a run of its own, and a second request joins on the way."""
    fleet.set_export(partitions_per_commit=1, pages_per_run=1, partitions_per_plan=2)
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        async with gate_at("before-commit") as gate:
            request = await fleet.start()
            await gate.reached()
            other = await fleet.start(from_="2024-03-18")
            gate.open()
            await asyncio.gather(request.result(), other.result())
        await fleet.loop_ended()
    return request


async def withdrawn(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """The request is cancelled in the middle of an upload, and another one goes on."""
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        async with gate_at("before-upload") as gate:
            request = await fleet.start()
            await gate.reached()
            other = await fleet.start(from_="2024-03-20")
            await request.cancel()
            await ended(request)
            gate.open()
            await other.result()
        await fleet.loop_ended()
    return request


async def loop_cancelled(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """Somebody cancels the loop itself."""
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        async with gate_at("before-upload") as gate:
            request = await fleet.start()
            await gate.reached()
            await fleet.loop().cancel()
            await fleet.loop_ended()
            gate.open()
        await request.result()
    return request


async def orphans(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A commit fails for good, and what it was to name is deleted."""
    fleet.set_export(commit_attempts=1, orphan_age_seconds=1)
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker() as context:
        async with failing_at("before-commit", lambda: CatalogUnavailable("no answer"), times=1):
            await fleet.request(from_="2024-03-20")
        for _ in range(3):
            await next_second(context)
        request = await start_deletion(fleet)
        await request.result()
        await fleet.loop_ended()
    return request


async def adopting(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """Three published files, of which one is refused, a page each; an export is asked for meanwhile."""
    fleet.set_export(partitions_per_plan=1)
    await fleet.make_days(days=3, rows=10, profile="as_published")
    held = {18: 19, 19: 19, 20: 20}
    files = {f"2024/3/{day}.parquet": parquet(day_table(fleet.network, rows)) for day, rows in held.items()}
    publish(fleet, files)
    async with fleet.worker():
        async with gate_at("before-commit") as gate:
            request = await start_adoption(fleet)
            await gate.reached()
            other = await fleet.start()
            gate.open()
            await asyncio.gather(request.result(), other.result())
        await fleet.loop_ended()
    return request


async def verified(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A table is held against its source, values included, and a partition that it lacks is found."""
    fleet.set_export(partitions_per_plan=2)
    await fleet.make_days(days=4, rows=10)
    async with fleet.worker():
        await fleet.request(from_="2024-03-18")
        await fleet.loop_ended()
        payload = {"environment": fleet.name, "network": fleet.network, "table": "events", "deep": True}
        request = await fleet.temporal.start_workflow(
            VERIFY_WORKFLOW, payload, id=f"verify-{fleet.name}", task_queue=fleet.queue
        )
        await request.result()
    return request


async def backfilled(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A backfill of two tables is counted, begun, paused, told to skip one, and continues as new on its way."""
    fleet.set_export(pages_per_run=2)
    for table in ("events", "others"):
        await fleet.make_days(table, days=3, rows=10)
    asked: dict[str, Any] = {"from_": "2024-03-18", "to": "2024-03-20"}
    async with fleet.worker():
        async with gate_at("before-upload") as gate:
            request = await start_backfill(fleet, "*", partitions_per_request=1, max_parallel=1, **asked)
            await gate.reached()
            await request.signal("pause")
            await progress_when(request, tables={"paused": 2}, in_flight={})
            await request.signal("skip", "others")
            await request.signal("resume")
            gate.open()
            await request.result()
        await fleet.loop_ended()
    return request


async def upkeep(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A day was replaced: its old snapshot expires, and its public object is refreshed."""
    fleet.set_export(keep_snapshots=1, snapshot_age_seconds=0)
    fleet.set_storage(public_url="")  # a public reader would have a day
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        await fleet.request()
        await fleet.insert("events", NOON, 5, updated="2024-05-01 00:00:00", offset=1000)
        await fleet.request()
        await fleet.loop_ended()
        request = await start_upkeep(fleet)
        await request.result()
        await fleet.loop_ended()
    return request


async def maintained(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """All tables of an environment are kept in order, each by its loop."""
    fleet.set_export(keep_snapshots=1, snapshot_age_seconds=0)
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        await fleet.request()
        await fleet.loop_ended()
        request = await fleet.temporal.start_workflow(
            MAINTAIN_WORKFLOW, {"environment": fleet.name}, id=f"maintain-{uuid.uuid4()}", task_queue=fleet.queue
        )
        await request.result()
        await fleet.loop_ended()
    return request


async def shrunk(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """The source loses a day altogether and another one in part, and the table follows it."""
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        await fleet.request()
        await fleet.run_sql(
            f"ALTER TABLE {fleet.database}.events DELETE WHERE number >= 14 SETTINGS mutations_sync = 1"
        )
        request = await fleet.start(from_="2024-03-18", force=True, allow_shrink=True)
        await request.result()
        await fleet.loop_ended()
    return request


async def estimated(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A dry run of a backfill, of which one table cannot be counted."""
    await fleet.make_days(days=2, rows=10)
    fleet.add_table("daily", "absent", "at")
    async with fleet.worker():
        request = await start_backfill(fleet, "*", dry_run=True)
        await request.result()
    return request


async def due(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """What a Schedule starts: a partition that fails by itself every time is suspended."""
    await fleet.make_days(days=2, rows=10, types={"number": "long"})
    await fleet.insert("events", "toDateTime('2024-03-20 05:00:00', 'UTC')", 1, offset=2**63)
    async with fleet.worker():
        request = await start_due(fleet)
        await ended(request)
        for _ in range(2):
            await ended(await start_due(fleet))
        await (await start_due(fleet)).result()
        await fleet.loop_ended()
    return request


async def backfill_cancelled(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A backfill is cancelled while its table's loop works for it."""
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        async with gate_at("before-upload") as gate:
            request = await start_backfill(fleet, "events")
            await gate.reached()
            await request.cancel()
            await ended(request)
            gate.open()
        await fleet.loop_ended()
    return request


async def pipeline(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A pipeline from installation to its end: batches, a copy, a table that fails, orders, a pause, a lost slot."""
    failed = batch("public.b", events=0, snapshot_id="", failed="SchemaConflict: date is no long", stopped=True)
    async with loops(fleet, sandboxed=True) as own:
        rooms = own.rooms
        rooms.captures = [captured(5), captured(0, ended="given up at 50 GiB")]
        rooms.ingests = [ingested(batch("public.a"), failed, to_copy=["public.c"]), ingested(batch("public.a"))]
        rooms.copied["public.c"] = CopyReport("public.c", "cdc.public.c", 10, 100, "0/1", "9")
        request = await own.start(INSTALL_WORKFLOW, f"install-{fleet.name}", tables=["public.a"])
        await request.result()
        capture, ingest = own.handle(CAPTURE), own.handle(INGEST)
        await progress_of(ingest, copies={"waiting": [], "under_way": [], "failed": {}}, unannounced=[])
        await progress_of(capture, state="waiting")
        await capture.signal(RESUME_SIGNAL)
        await ingest.signal(PAUSE_SIGNAL)
        await progress_of(ingest, state="paused")
        await (await own.settle(1, action="resume-table", table="public.b")).result()
        await ended(await own.keep("cdc.public_a"))
        rooms.settled = lambda _: UnsupportedType("no such event")
        await ended(await own.settle(2))
        rooms.ingests = [CatalogRefused("no such warehouse")]
        await ingest.signal(RESUME_SIGNAL)
        await progress_of(ingest, state="waiting")
        await (await own.start(UNINSTALL_WORKFLOW, f"uninstall-{fleet.name}", drop_buffer=True)).result()
    return request


async def pipeline_continued(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """Every batch is a run of its own, a copy fails, and orders come meanwhile."""
    async with loops(fleet, sandboxed=True) as own:
        rooms = own.rooms
        rooms.copied["public.b"] = UnsupportedType("point has no form")
        rooms.ingests = [ingested(batch("public.a"), to_copy=["public.b"]), ingested(batch("public.a"))]
        ingest = await own.ingest(turns_per_run=1)
        request = await own.settle(1)
        await request.result()
        await (await own.keep("cdc.public_a")).result()
        await eventually(lambda: rooms.running == ["ingest"])
        await ingest.signal(STOP_SIGNAL)
        await ingest.result()
    return request


async def mirror(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A mirror: merges, a compaction that is due and one that fails, orders, a lost watermark, a pause, and its end."""
    async with mirror_loops(fleet, sandboxed=True) as own:
        rooms = own.rooms
        rooms.merges[MIRROR] = [merged(5, more=True), merged(3, compaction_due="17 small files", index_rebuilt="lost")]
        rooms.compacted = [CompactReport("8", 17, 1), UnsupportedType("no such file")]
        loop = await own.start()
        await eventually(lambda: rooms.done("compact"))
        await (await own.order(1)).result()
        for number, order in enumerate((REBUILD_SIGNAL, COMPACT_SIGNAL), 2):
            door = await own.order(number, order)
            await (ended(door) if order == COMPACT_SIGNAL else door.result())
        rooms.merges[MIRROR] = [WatermarkLost("expired")]
        await ended(await own.order(4))
        await progress_of(loop, state="waiting", told="WatermarkLost: expired")
        await (await own.order(5, BOOTSTRAP_SIGNAL)).result()
        await progress_of(loop, state="running", told="", woken=False, doing="")
        rooms.held.add(MIRROR)
        await loop.signal("merge")
        await eventually(lambda: rooms.running)
        await loop.signal(PAUSE_SIGNAL)
        await progress_of(loop, state="paused", doing="")
        rooms.held.clear()
        await loop.signal(RESUME_SIGNAL)
        await progress_of(loop, state="running", woken=False, doing="")
        request = await own.verify()
        await request.result()
        await loop.signal(STOP_SIGNAL)
        await loop.result()
    return request


async def mirror_continued(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """Every turn of a mirror's loop is a run of its own; orders and events come meanwhile."""
    async with mirror_loops(fleet, sandboxed=True) as own:
        own.rooms.merges[MIRROR] = [merged(5, more=True), merged(3), CatalogRefused("no such warehouse")]
        loop = await own.start(turns_per_run=1)
        request = await own.order(1)
        await request.result()
        await loop.signal("merge")
        await progress_of(loop, state="waiting")
        await loop.signal(RESUME_SIGNAL)
        await progress_of(loop, state="running", woken=False, doing="")
        assert own.rooms.called(MergeInput)
        await loop.signal(STOP_SIGNAL)
        await loop.result()
    return request


async def start_due(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """Start what a Schedule starts."""
    return await fleet.temporal.start_workflow(
        DUE_WORKFLOW,
        {"environment": fleet.name, "table": "events"},
        id=f"scheduled-{uuid.uuid4()}",
        task_queue=fleet.queue,
    )


CASES: tuple[Case, ...] = (
    plain,
    stale_and_forced,
    failures,
    refused,
    at_the_door,
    continued,
    withdrawn,
    loop_cancelled,
    orphans,
    adopting,
    verified,
    due,
    backfilled,
    estimated,
    backfill_cancelled,
    upkeep,
    maintained,
    shrunk,
    pipeline,
    pipeline_continued,
    mirror,
    mirror_continued,
)
NUMBERED = {
    *(LOOP_WORKFLOW, BACKFILL_WORKFLOW, CAPTURE_WORKFLOW, INGEST_WORKFLOW, COPY_WORKFLOW, LETTERS_WORKFLOW),
    *(MERGE_WORKFLOW, MERGE_ONCE_WORKFLOW, KEEP_WORKFLOW),
}
"""What has several runs in one case."""


async def ended(request: WorkflowHandle[Any, Any]) -> None:
    """Wait for a request that fails or is cancelled."""
    try:
        await request.result()
    except WorkflowFailureError:
        return
    raise AssertionError(f"{request.id} was to fail")


@asynccontextmanager
async def one_fleet(stack: Stack, directory: Path) -> AsyncIterator[Fleet]:
    """An environment of its own for each case."""
    async with Fleet(stack, directory) as fleet:
        yield fleet


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
    """Histories of a version that has been released are made once."""
    tags = subprocess.run(
        ["git", "tag", "--list", f"v{VERSION}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    if tags.strip():
        raise SystemExit(f"v{VERSION} has been released: raise `version` in pyproject.toml, then record its histories")


async def record() -> None:
    """Live through every case, and write down what happened."""
    refuse_a_released_version()
    with tempfile.TemporaryDirectory() as place, Stack(Path(place) / "stack") as stack:
        os.environ["ICEFLEET_LOCAL_DIR"] = str(stack.directory)
        written: dict[str, str] = {}
        for case in CASES:
            async with one_fleet(stack, Path(place) / case.__name__) as fleet:
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
