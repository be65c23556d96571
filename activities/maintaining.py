"""Which tables a request for upkeep means: exported ones, changelogs that are there, and mirrors of config."""

import asyncio
from collections.abc import Iterator
from fnmatch import fnmatchcase

from activities.context import ExportContext
from activities.contracts.cdc import CDC_TASK_QUEUE
from activities.contracts.export import table_identifier
from activities.contracts.maintain import (
    CHANGELOG,
    EXPORT,
    KINDS,
    MIRROR,
    MOST_PARALLEL,
    MaintainedTable,
    MaintainRequest,
    ResolvedMaintenance,
)
from activities.contracts.mirrors import MERGE_TASK_QUEUE
from activities.core.faults import BadRequest
from activities.core.names import near
from activities.lake.catalog import Lake
from activities.lake.changelog import PIPELINE
from activities.unserved import unserved_marked


async def resolve_tables(context: ExportContext, request: MaintainRequest) -> ResolvedMaintenance:
    """Every table that a request means, each once: exports, changelogs, mirrors.

    Raises:
        BadRequest: another environment, or fields that cannot be; all of them are named.
        CatalogUnavailable, CatalogRefused: nobody knows which changelogs there are.
        RPCError: Temporal does not say which task queues are served.
    """
    context.check_environment(request.environment)
    wrong = [
        f"field 'kinds' may hold {', '.join(KINDS)}; it holds {kind!r}" for kind in request.kinds if kind not in KINDS
    ]
    if not 1 <= request.max_parallel <= MOST_PARALLEL:
        wrong.append(f"field 'max_parallel' is a number from 1 to {MOST_PARALLEL}; it is {request.max_parallel}")
    kinds = [kind for kind in KINDS if kind in request.kinds] or list(KINDS)
    every = [one for one in await asyncio.to_thread(_every, context, kinds) if one.kind in kinds]
    names = {name for one in every for name in (one.table, one.table.partition(".")[2])}
    wrong += [
        f"no table of environment {request.environment} fits {pattern!r}{near(pattern, names)}"
        for pattern in request.tables
        if not any(_means(pattern, one) for one in every)
    ]
    if wrong:
        raise BadRequest("; ".join(wrong))
    chosen = [one for one in every if not request.tables or any(_means(pattern, one) for pattern in request.tables)]
    return ResolvedMaintenance(await unserved_marked(context.temporal, chosen, context.queues.upkeep))


def _means(pattern: str, table: MaintainedTable) -> bool:
    return any(fnmatchcase(name, pattern) for name in (table.table, table.table.partition(".")[2]))


def _every(context: ExportContext, kinds: list[str]) -> list[MaintainedTable]:
    others = context.others
    found = [MaintainedTable(table_identifier(network, config.name), EXPORT) for config, network in context.exports()]
    if CHANGELOG in kinds:
        found += _changelogs(context)
    found += [
        MaintainedTable(name, MIRROR, task_queue=others.merge_queue or MERGE_TASK_QUEUE) for name in others.mirrors
    ]
    return found


def _changelogs(context: ExportContext) -> Iterator[MaintainedTable]:
    others = context.others
    for namespace in sorted(set(others.pipelines.values())):
        for name in context.lake.tables_in((namespace,)):
            pipeline = _pipeline_of(context.lake, name)
            if others.pipelines.get(pipeline) == namespace:
                yield MaintainedTable(name, CHANGELOG, pipeline, others.cdc_queue or CDC_TASK_QUEUE)


def _pipeline_of(lake: Lake, name: str) -> str:
    table = lake.load(name)
    return "" if table is None else str(table.properties.get(PIPELINE, ""))
