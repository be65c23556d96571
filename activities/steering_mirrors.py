"""What is said to a mirror's loop, and what it says to the world."""

from collections.abc import Mapping

from temporalio import activity
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy

from activities.contracts.export import ENVIRONMENT_ATTRIBUTE
from activities.contracts.findings import MERGE, UPKEEP
from activities.contracts.inputs import write_input
from activities.contracts.mirrors import (
    MERGE_WORKFLOW,
    ORDERS,
    MergeOnceRequest,
    MirrorOrder,
    MirrorTrouble,
    mirror_id,
)
from activities.core.faults import BadRequest
from activities.errors import temporal_named
from activities.findings import finding, finding_subject, publish_changed
from activities.mirror_context import MirrorContext
from icefleet.v1.events_pb2 import Finding, FoundPartition


async def signal_mirror(context: MirrorContext, asked: MergeOnceRequest) -> str:
    """Send an order of the workflow that this activity belongs to; answers the id of the mirror's loop.

    Raises:
        BadRequest: no such mirror or order.
        TemporalUnavailable: Temporal does not take the signal.
    """
    context.mirror(asked.environment, asked.mirror)
    if asked.order not in ORDERS:
        raise BadRequest(f"field 'order' must be one of {', '.join(ORDERS)}; it is {asked.order!r}")
    info = activity.info()
    workflow = info.workflow_id or ""
    order = MirrorOrder(f"{workflow}/{info.workflow_run_id}", workflow, asked.dry_run)
    with temporal_named():
        return await start_mirror(
            context.temporal, asked.environment, asked.mirror, info.task_queue, asked.order, write_input(order)
        )


async def start_mirror(
    temporal: Client, environment: str, mirror: str, task_queue: str, signal: str = "", *payload: dict[str, str]
) -> str:
    """Have a mirror's loop run, with a signal if one is named; answers its id.

    Raises:
        RPCError: Temporal does not take it.
    """
    identity = mirror_id(environment, mirror)
    await temporal.start_workflow(
        MERGE_WORKFLOW,
        {"environment": environment, "mirror": mirror},
        id=identity,
        task_queue=task_queue,
        static_summary=f"mirror {mirror}",
        start_signal=signal or None,
        start_signal_args=list(payload),
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        search_attributes=TypedSearchAttributes([SearchAttributePair(ENVIRONMENT_ATTRIBUTE, environment)]),
    )
    return identity


async def tell_trouble(context: MirrorContext, trouble: MirrorTrouble) -> bool:
    """Publish what is wrong with a mirror, or that nothing is any more; whether that was news to the stream.

    Raises:
        BusUnavailable: NATS is away, or somebody else published meanwhile: try again.
        BusRefused: the last message on the subject is none of ours, or no stream may take the subject.
    """
    news = [await _tell(context, trouble, MERGE, trouble.merge)]
    if trouble.upkeep or await context.bus.last(_subject(trouble, UPKEEP)) is not None:
        # Else nothing ever was: most mirrors have no series of it.
        news.append(await _tell(context, trouble, UPKEEP, trouble.upkeep))
    return any(news)


async def _tell(context: MirrorContext, trouble: MirrorTrouble, kind: str, found: Mapping[str, str]) -> bool:
    namespace, _, table = trouble.mirror.rpartition(".")
    partitions = [FoundPartition(partition=name, detail=detail) for name, detail in found.items()]

    def event(_: Finding) -> Finding:
        return finding(trouble.environment, namespace, table, kind, partitions)

    return (await publish_changed(context.bus, _subject(trouble, kind), event)).published


def _subject(trouble: MirrorTrouble, kind: str) -> str:
    namespace, _, table = trouble.mirror.rpartition(".")
    return finding_subject(trouble.environment, namespace, table, kind)
