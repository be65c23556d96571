"""Taking away what an installation made at a source. Every step may be done again where it was done."""

from activities import failpoints
from activities.cdc_context import CaptureFrom, CdcContext
from activities.clients.buffer import Buffer
from activities.clients.capture_sink import open_sink
from activities.clients.postgres import faults_of
from activities.clients.publications import Source
from activities.clients.slots import Slots, open_slots
from activities.contracts.cdc import UninstallReport, UninstallRequest
from activities.contracts.findings import LET_GO, RETAINED
from activities.core.faults import PostgresUnavailable
from activities.slotfindings import PipelineFindings
from activities.watching import gone_told


async def uninstall_capture(context: CdcContext, request: UninstallRequest) -> UninstallReport:
    """Remove what an installation made at the source, and the buffer if asked; replica identities stay.

    Raises:
        BadRequest: no such pipeline.
        PostgresRefused: a database says no.
        PostgresUnavailable: a database is away.
        LockTaken: the slot is still read.
    """
    pipeline = context.pipeline(request.environment, request.pipeline)
    buffer = Buffer(pipeline.buffer, pipeline.buffer_schema)
    removed: list[str] = []
    left = ""
    if pipeline.source is not None:
        removed += await _from_source(pipeline.name, pipeline.source, buffer)
        findings = PipelineFindings(context, pipeline)
        for kind in (RETAINED, LET_GO):
            await findings.end(kind, {})
    await failpoints.reach("uninstall-before-buffer")
    if request.drop_buffer:
        if pipeline.source is None and (slot := await buffer.slot()):
            left = f"; slot {slot} of the source, which config names no more, holds its log until it is dropped there"
        removed += await buffer.drop()
    elif pipeline.source is not None:
        async with open_sink(pipeline.buffer, pipeline.buffer_schema) as sink:
            await sink.forget()
    return UninstallReport(
        message=f"changelog tables and the replica identities of source tables stay as they are{left}", removed=removed
    )


async def take_away(slots: Slots, slot: str, publication: str, *, with_slot: bool = True) -> list[str]:
    """Drop a slot, and the trigger and publication that were made with it (empty: no publication); what was there.

    Without `with_slot` the slot of that name stays: it is somebody else's.

    Raises:
        PostgresRefused: the database says no.
        PostgresUnavailable: it is away.
        LockTaken: the slot is still read.
    """
    removed = [f"slot {slot}"] if with_slot and await slots.drop(slot) else []
    await failpoints.reach("uninstall-after-slot")
    with faults_of(slots.name):
        removed += await Source(slots.connection, slot, publication).remove()
    await failpoints.reach("uninstall-after-source")
    return removed


async def _from_source(pipeline: str, source: CaptureFrom, buffer: Buffer) -> list[str]:
    try:
        known = await buffer.slot()
    except PostgresUnavailable:
        known = None  # the source is rid of its slot all the same; what is done to the buffer then says that it is away
    removed: list[str] = []
    publications = {known: known} if known else {}
    publications[source.slot] = source.publication
    async with open_slots(source.database) as slots:
        for slot, publication in publications.items():
            # A slot that the buffer does not name is somebody else's, whatever config has come to call ours.
            is_ours = known in {None, slot}
            removed += await take_away(slots, slot, publication, with_slot=is_ours)
            gone_told(pipeline, slot)
    return removed
