"""What people decide about dead letters, and about tables that are stopped."""

import asyncio

from temporalio import activity

from activities.cdc_context import CdcContext
from activities.clients import buffer_letters
from activities.clients.buffer import Buffer
from activities.clients.buffer_holder import Holder
from activities.clients.buffer_letters import goes_on, resume, stopped_at
from activities.committing import to_its_end
from activities.contracts.cdc import LettersReport, LettersRequest
from activities.core.changelogs import changelog_name
from activities.core.faults import BadRequest, ChangelogForeign
from activities.lake import changelog
from activities.lake.takeover import take_over
from activities.readying import Work, misfit_of

ACTIONS = ("requeue", "drop", "resume-table")


async def settle(context: CdcContext, request: LettersRequest) -> LettersReport:
    """Do what a person decided; what cannot be done is told in the report.

    Raises:
        LockTaken: a batch is under way, or a producer within a large transaction; it is done when that has ended.
        Fault: buffer or catalog do not answer.
    """
    try:
        pipeline = context.pipeline(request.environment, request.pipeline)
        table = _checked(request)
        async with Buffer(pipeline.buffer, pipeline.buffer_schema).locked() as holder:
            if request.action == "resume-table" and table:
                return await _resume(Work(context, pipeline, holder), *table)
            return await _settle(holder, request, table)
    except (BadRequest, ChangelogForeign) as wrong:
        return LettersReport("failed", str(wrong))


def _checked(request: LettersRequest) -> tuple[str, str] | None:
    """The table that is meant; None: whichever the letters belong to."""
    if request.action not in ACTIONS:
        raise BadRequest(f"action {request.action!r}: it is one of {', '.join(ACTIONS)}")
    if request.action == "drop" and not request.reason.strip():
        raise BadRequest("reason: say why the events are dropped, for those who miss them later")
    if not request.table and (request.action == "resume-table" or not request.letters):
        raise BadRequest("table: name it as schema.table (dead letters may be named by their event ids instead)")
    schema, dot, name = request.table.partition(".")
    return (schema, name) if dot else ("public", schema) if schema else None


async def _settle(holder: Holder, request: LettersRequest, table: tuple[str, str] | None) -> LettersReport:
    because = request.reason if request.action == "drop" else None
    done = await buffer_letters.settle(holder, request.letters, table, drop_because=because)
    verb = "dropped" if request.action == "drop" else "sent into the buffer again"
    left = len(set(request.letters)) - done.changed if request.letters else 0
    message = f"{done.changed} dead letters {verb}; {done.released} events that had waited behind them go on"
    if left:
        message += f"; {left} had been settled before"
    return LettersReport("done", message, changed=done.changed, released=done.released)


async def _resume(work: Work, schema: str, name: str) -> LettersReport:
    """Let a stopped table go on; its changelog is taken as it is now."""
    table, identifier = f"{schema}.{name}", changelog_name(work.pipeline.rules, schema, name)
    stopped = await stopped_at(work.holder, schema, name)
    if stopped is None:
        if activity.info().attempt > 1 and await goes_on(work.holder, schema, name):
            # By a try before this one, of which nobody heard.
            return LettersReport("done", f"table {table} goes on", changed=1)
        return LettersReport("failed", f"table {table} is not stopped; `icefleet cdc status` shows what is")
    state = await asyncio.to_thread(changelog.read_state, work.context.lake, identifier)
    processed_id, note = stopped.processed_id, ""
    position = state.position if state is not None else 0
    is_gone = state is None and (processed_id > 0 or stopped.is_copied)
    if is_gone:
        processed_id = 0
        note = f"; changelog {identifier} is gone, and made anew from the events that come now"
    elif state is not None and misfit_of(work, table, state, stopped) and state.source_table == table:
        is_known = state.buffer_id == work.holder.buffer_id and position <= stopped.sent_id
        position = max(processed_id, position if is_known else 0)
        await to_its_end(
            take_over,
            work.context.lake,
            identifier,
            buffer_id=work.holder.buffer_id,
            pipeline=work.pipeline.name,
            position=position,
        )
        note = f"; changelog {identifier} is taken as it is now"
    await resume(work.holder, schema, name, processed_id=processed_id, position=position, is_gone=is_gone)
    does = "is copied anew, and goes on then" if stopped.is_to_copy else "goes on"
    return LettersReport("done", f"table {table} {does}{note}", changed=1)
