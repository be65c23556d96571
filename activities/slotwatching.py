"""Looking at a slot that nobody reads from, since its capture is paused or waits: the log grows all the same."""

from dataclasses import replace

import structlog

from activities.cdc_context import CaptureFrom, CdcContext, PipelineConfig
from activities.clients.capture_sink import Progress, open_sink
from activities.clients.slots import open_slots
from activities.contracts.cdc import CaptureInput, CaptureReport
from activities.contracts.findings import RETAINED
from activities.core.changelogs import lsn_text
from activities.core.faults import Fault, PostgresRefused, PostgresUnavailable, SlotLost
from activities.slotfindings import PipelineFindings
from activities.watching import Watch

log = structlog.get_logger("icefleet.capture")


async def watch_slot(context: CdcContext, capture: CaptureInput) -> CaptureReport:
    """Warn when the slot holds back much, and give it up at the limit; what was lost already is told as well.

    Raises:
        BadRequest: no such pipeline, or one without a source.
        PostgresRefused: a database says no, or there is no buffer.
        PostgresUnavailable: a database is away.
        LockTaken: the slot is to be given up, and somebody reads from it.
    """
    pipeline = context.pipeline(capture.environment, capture.pipeline)
    source = pipeline.captured_from()
    findings = PipelineFindings(context, pipeline)
    try:
        return await _watch(pipeline, source, findings)
    except (PostgresRefused, PostgresUnavailable):
        await watch_without_buffer(pipeline, source, findings)
        raise


async def watch_without_buffer(pipeline: PipelineConfig, source: CaptureFrom, findings: PipelineFindings) -> None:
    """Do the same while the buffer is away, which is when the log grows longest; what goes wrong is only logged.

    That the slot is the pipeline's is then told by its publication, and that it was given up by its being gone.
    """
    try:
        async with open_slots(source.database) as slots:
            watch = Watch(pipeline, source, slots, Progress("", None, None, ""), findings)
            await watch.look_aside()
            if watch.danger and await slots.publication_id(source.publication) is not None:
                await slots.drop(source.slot)
                await findings.end(RETAINED, {source.slot: watch.danger})
    except Fault as wrong:
        # What is told is why the buffer was not reached.
        log.warning("a slot could not be looked at", pipeline=pipeline.name, slot=source.slot, cause=str(wrong))


async def _watch(pipeline: PipelineConfig, source: CaptureFrom, findings: PipelineFindings) -> CaptureReport:
    async with open_slots(source.database) as slots, open_sink(pipeline.buffer, pipeline.buffer_schema) as sink:
        progress = await sink.progress()
        captured = lsn_text(progress.captured_lsn or 0)
        if not progress.slot:
            return CaptureReport(0, 0, captured, 0)  # nothing is installed
        # Config may have another name by now: until it is installed again, this one is what holds back the log.
        source = replace(source, slot=progress.slot)
        watch = Watch(pipeline, source, slots, progress, findings)
        try:
            await watch.look_aside()
        except SlotLost as lost:
            why = progress.ended or str(lost)
            await findings.end(RETAINED, {source.slot: why})
            return CaptureReport(0, 0, captured, 0, ended=why)
        if watch.danger:
            await watch.give_up(sink)
        return CaptureReport(0, 0, captured, watch.retained_bytes, ended=watch.danger)
