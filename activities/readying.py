"""Changelogs before a batch: made if there is none, and known to be what the buffer has filled."""

import asyncio
from dataclasses import dataclass

from activities.cdc_context import CdcContext, PipelineConfig
from activities.clients.buffer_claims import ClaimedTable, first_schema
from activities.clients.buffer_holder import Holder
from activities.clients.buffer_letters import StoppedTable
from activities.core.drift import first_columns, types_of
from activities.core.faults import ChangelogForeign, SchemaConflict
from activities.lake import changelog
from activities.lake.changelog import ChangelogState

WAY_OUT = (
    "have the table copied anew (`icefleet cdc install --again`), or say that it is to go on as it is (`icefleet cdc "
    "resume`)"
)


@dataclass(frozen=True)
class Work:
    """What the tables of a batch have in common."""

    context: CdcContext
    pipeline: PipelineConfig
    holder: Holder


async def ready_changelog(work: Work, table: ClaimedTable, identifier: str) -> ChangelogState:
    """The changelog of a table as it is, made if the buffer has never filled one.

    Raises:
        ChangelogForeign: it is gone, was rolled back, or belongs to another table, pipeline or buffer.
        SchemaConflict: it is to be made, and no schema event tells of which columns.
        Fault: the columns cannot be those of a changelog, or catalog or buffer do not answer.
    """
    state = await asyncio.to_thread(changelog.read_state, work.context.lake, identifier)
    if state is None:
        await _create(work, table, identifier)
        state = await asyncio.to_thread(changelog.read_state, work.context.lake, identifier)
    if state is None:
        raise ChangelogForeign(f"changelog {identifier} was dropped just after it was made; {WAY_OUT}")
    if misfit := misfit_of(work, table.identifier, state, table):
        raise ChangelogForeign(f"changelog {identifier} {misfit}")
    return state


async def _create(work: Work, table: ClaimedTable, identifier: str) -> None:
    if table.processed_id or table.copied_lsn:
        raise ChangelogForeign(
            f"changelog {identifier} of {table.identifier} is not in the catalog any more, and had events up to "
            f"{table.processed_id}{' behind a copy' if table.copied_lsn else ''}; {WAY_OUT}"
        )
    first = await first_schema(work.holder, table)
    if first is None:
        raise SchemaConflict(
            f"source table {table.identifier} has events, and none that tells its columns; write a schema event "
            "(docs/formats/cdc-buffer.md), then resume the table (`icefleet cdc resume`)"
        )
    rules = work.pipeline.rules
    columns = first_columns(first.table, rules, first.sequence)
    properties = changelog.first_properties(work.pipeline.name, table.identifier, work.holder.buffer_id, columns.dump())
    await asyncio.to_thread(
        changelog.create, work.context.lake, identifier, types_of(columns), rules.system, properties
    )


def misfit_of(work: Work, table: str, state: ChangelogState, known: ClaimedTable | StoppedTable) -> str:
    """Why a changelog is not the one that the buffer has filled with the events of `table`; empty when it is."""
    name = work.pipeline.name
    if state.source_table != table:
        return (
            f"is that of {state.source_table} (pipeline {state.pipeline}), and would be that of {table} as well; "
            f"change `name` or `namespace` of pipeline {name} so that they differ"
        )
    if state.pipeline != name:
        return (
            f"is filled by pipeline {state.pipeline}; change `name` or `namespace` of pipeline {name}; or, if the "
            f"other is gone, {WAY_OUT}"
        )
    if state.buffer_id != work.holder.buffer_id:
        return (
            f"was filled from another buffer ({state.buffer_id}) than the one that pipeline {name} has "
            f"({work.holder.buffer_id}); {WAY_OUT}"
        )
    return _set_back(name, state, known)


def _set_back(pipeline: str, state: ChangelogState, known: ClaimedTable | StoppedTable) -> str:
    """Whether changelog or buffer are as they were earlier, which is told by each of the other."""
    if state.rolled_back:
        return f"was rolled back: its history lacks what pipeline {pipeline} committed last; {WAY_OUT}"
    if state.position > known.sent_id:
        return (
            f"holds events up to {state.position}, and the buffer of pipeline {pipeline} knows of none after "
            f"{known.sent_id} that were sent: the buffer was set back to an earlier state (restored, or failed over "
            f"to a standby that was behind), and gives out ids anew; {WAY_OUT}"
        )
    if state.position < known.landed_id:
        return (
            f"holds events up to {state.position}, and had them up to {known.landed_id}: it or its catalog was set "
            f"back to an earlier state, and events are missing; {WAY_OUT}"
        )
    return ""
