"""The partitions of one activity: what they share is asked once, and one that fails costs the others nothing."""

import asyncio
from collections import deque
from contextlib import AsyncExitStack
from typing import Any

from structlog.contextvars import bound_contextvars
from temporalio import activity

from activities.beats import Beats
from activities.context import ExportContext
from activities.contracts.export import ExportedPartition, PartitionsInput, table_identifier
from activities.core.columns import export_columns
from activities.core.evolution import check_planned
from activities.core.faults import (
    Fault,
    SourceBusy,
    SourceRefused,
    SourceUnavailable,
    StoreRefused,
    StoreUnavailable,
)
from activities.core.orphans import line_of
from activities.core.partitions import Ranges, index_of
from activities.core.query import PINNED_SETTINGS, counts_query, export_query, versions_query
from activities.core.recipes import recipe_of
from activities.export_metrics import step
from activities.lake.schema import shape_of
from activities.partition import Counted, PartitionExport, StagedObject, Subject
from activities.source import read_facts
from activities.together import Together

SHARED = (SourceBusy, SourceRefused, SourceUnavailable, StoreRefused, StoreUnavailable)
"""What the next partition would meet as well: the others are left out untried."""


async def export_all(context: ExportContext, task: PartitionsInput) -> list[ExportedPartition]:
    """Carry partitions into objects, one each, or adopt the objects that earlier attempts left.

    Of several, those that failed are left out, for the caller to try alone; when all failed in the same way, their
    fault is raised.
    """
    names = [planned.partition for planned in task.planned]
    done: dict[str, ExportedPartition] = {}
    faults: list[Fault] = []
    async with Beats(", ".join(names)) as beats:
        waiting, together = deque(await _prepare(context, task)), Together(beats)
        while waiting:
            async with AsyncExitStack() as uploads:
                staged = await _stage(waiting, uploads, beats, together, faults)
                for created in await _create(staged, waiting, faults):
                    done[created.partition] = created
    if faults and not done and len({type(fault) for fault in faults}) == 1:
        raise faults[0]
    for fault in faults:
        activity.logger.warning("left to be exported alone: %s", fault)
    return [done[name] for name in names if name in done]


async def _prepare(context: ExportContext, task: PartitionsInput) -> list[PartitionExport]:
    config = context.table(task)
    clickhouse = context.find_source(config.source)
    facts = await read_facts(clickhouse, config)
    table = await asyncio.to_thread(context.lake.load, table_identifier(task.network, task.table))
    shape = shape_of(table)
    columns = export_columns(config, facts.columns, shape)
    if table is not None:
        check_planned(config.name, shape.types, {column.name: column.iceberg for column in columns})
    line = line_of(table.properties) if table is not None else 0
    subject = Subject(context, task, config, facts, clickhouse, columns, line)
    indices = [index_of(config.partition, planned.partition) for planned in task.planned]
    query = versions_query(config, facts, task.network, Ranges.from_indices(indices))
    answer = await clickhouse.rows(query, comment=f"icefleet versions of {table_identifier(task.network, task.table)}")
    versions = {int(row["partition"]): _integer(row["version"]) for row in answer}
    exports = []
    for planned, index in zip(task.planned, indices, strict=True):
        query = export_query(config, facts, columns, task.network, index)
        version = versions.get(index, None if facts.version_column else 0)
        nonce = task.request_id if planned.reason == "forced" else ""
        recipe = recipe_of(query, PINNED_SETTINGS, version, nonce)
        exports.append(PartitionExport(subject, planned, index, query, version, recipe))
    return exports


async def _stage(
    waiting: deque[PartitionExport], uploads: AsyncExitStack, beats: Beats, together: Together, faults: list[Fault]
) -> list[StagedObject]:
    """As many of those that wait as may be held in memory at once: small objects wait there for their creation."""
    staged: list[StagedObject] = []
    while waiting and sum(one.held for one in staged) < waiting[0].subject.context.part_size_bytes:
        export = waiting.popleft()
        try:
            file = await together.file_of(export, tuple(waiting))
            with bound_contextvars(partition=export.planned.partition):
                staged.append(await export.stage(uploads, beats, file))
        except Fault as fault:
            faults.append(fault)
            if isinstance(fault, SHARED):
                waiting.clear()
    return staged


async def _create(
    staged: list[StagedObject], waiting: deque[PartitionExport], faults: list[Fault]
) -> list[ExportedPartition]:
    """Hold what is staged against the source, in one question, and let it be there; some may have to wait again."""
    created: list[ExportedPartition] = []
    try:
        with step("verify"):
            counted = await _count([one.export for one in staged])
    except Fault as fault:
        faults += [fault for _ in staged]
        return created
    for one in staged:
        try:
            with bound_contextvars(partition=one.export.planned.partition):
                exported = await one.create(counted[one.export.index])
        except Fault as fault:
            faults.append(fault)
            if isinstance(fault, SHARED):
                waiting.clear()
                break
        else:
            if exported is None:
                waiting.append(one.export)
            else:
                created.append(exported)
    return created


async def _count(exports: list[PartitionExport]) -> dict[int, Counted]:
    if not exports:
        return {}
    subject, indices = exports[0].subject, [export.index for export in exports]
    task = subject.task
    query = counts_query(subject.config, subject.facts, task.network, Ranges.from_indices(indices))
    comment = f"icefleet verify {table_identifier(task.network, task.table)}"
    has_version = bool(subject.facts.version_column)
    counted = dict.fromkeys(indices, Counted(0, None if has_version else 0))
    for row in await subject.clickhouse.rows(query, comment=comment):
        rows = int(row["rows"])
        counted[int(row["partition"])] = Counted(rows, _integer(row["version"]) if has_version else rows)
    return counted


def _integer(value: Any) -> int | None:
    return None if value is None else int(value)
