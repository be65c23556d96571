"""Typical lives of pipelines and mirrors."""

from typing import Any

from lives_of_tables import Case, ended
from temporalio.client import WorkflowHandle

from activities.contracts.cdc import (
    CAPTURE,
    INGEST,
    INSTALL_WORKFLOW,
    PAUSE_SIGNAL,
    RESUME_SIGNAL,
    STOP_SIGNAL,
    UNINSTALL_WORKFLOW,
    CopyReport,
)
from activities.contracts.mirrors import (
    BOOTSTRAP_SIGNAL,
    COMPACT_SIGNAL,
    REBUILD_SIGNAL,
    CompactReport,
    MergeInput,
)
from activities.core.faults import (
    CatalogRefused,
    UnsupportedType,
    WatermarkLost,
)
from support.cdcloops import batch, captured, ingested, loops, progress_of
from support.fleet import Fleet, eventually
from support.mirrorloops import MIRROR, merged, mirror_loops, told


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
        await progress_of(loop, state="waiting", told=told("WatermarkLost: expired"))
        await (await own.order(5, BOOTSTRAP_SIGNAL)).result()
        await progress_of(loop, state="running", told=told(), woken=False, doing="")
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


STREAMS: tuple[Case, ...] = (
    pipeline,
    pipeline_continued,
    mirror,
    mirror_continued,
)
