"""Looking at a slot that nobody reads from, since its capture is paused or waits: the log grows all the same."""

from activities.cdc_context import CdcContext
from activities.clients.capture_sink import open_sink
from activities.clients.slots import open_slots
from activities.contracts.cdc import CaptureInput, CaptureReport
from activities.contracts.findings import RETAINED
from activities.core.changelogs import lsn_text
from activities.core.faults import SlotLost
from activities.slotfindings import PipelineFindings
from activities.watching import Watch


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
    async with open_slots(source.database) as slots, open_sink(pipeline.buffer, pipeline.buffer_schema) as sink:
        progress = await sink.progress()
        captured = lsn_text(progress.captured_lsn or 0)
        if progress.slot != source.slot:
            return CaptureReport(0, 0, captured, 0)  # nothing was installed, or it is somebody else's
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
