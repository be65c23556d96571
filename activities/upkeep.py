"""Upkeep of one table: old snapshots expire, and small manifests are put together."""

import asyncio

from activities import failpoints, upkeep_metrics
from activities.announcing import subject_of
from activities.committing import origin, to_its_end
from activities.context import ExportContext
from activities.contracts.export import TableInput, table_identifier
from activities.contracts.maintain import EXPORT
from activities.contracts.upkeep import (
    ExpireInput,
    ExpirePage,
    ManifestsInput,
    ManifestsPage,
)
from activities.core.faults import BusRefused, BusUnavailable
from activities.core.upkeep import EXPIRED_PROPERTY
from activities.expiring import chooser
from activities.lake.expiry import expire
from activities.lake.fewermanifests import merge_manifests
from activities.shown import what_is_shown


async def expire_page(context: ExportContext, task: ExpireInput) -> ExpirePage:
    """Let snapshots go that were announced, that no public reader may be with, and that were long replaced.

    Raises:
        StoreUnavailable: nobody knows what public readers may be with.
    """
    asked = TableInput(task.environment, task.table, task.network)
    config = context.table(asked)
    identifier = table_identifier(task.network, task.table)
    table = await asyncio.to_thread(context.lake.load, identifier)
    if table is None:
        return ExpirePage(0, 0)
    shown = await what_is_shown(context, config, task.network)
    subject = subject_of(context.environment, asked)
    retained = len(table.snapshots())
    try:
        keep, age = context.keep_snapshots, context.snapshot_age_seconds
        choose = await chooser(context.bus, subject, table, keep=keep, age_seconds=age, shown=shown)
    except (BusUnavailable, BusRefused) as away:
        # What was not announced must stay, and nobody knows what was.
        return ExpirePage(0, retained, f"no snapshot expires: {away}")
    if task.dry_run:
        going = len(await asyncio.to_thread(choose, table))
    else:
        await failpoints.reach("before-expire")
        at = {EXPIRED_PROPERTY: str(await context.store.now())}
        going = await asyncio.to_thread(expire, context.lake, identifier, choose, at)
        await failpoints.reach("after-expire")
        upkeep_metrics.count(EXPORT, expired=going)
    return ExpirePage(going, retained - going)


async def merge_manifests_page(context: ExportContext, task: ManifestsInput) -> ManifestsPage:
    """Put small manifests of the head together, in one snapshot that holds what the one before it held.

    Raises:
        SchemaConflict, CommitConflict: the table was made anew, or others won every race.
    """
    context.table(TableInput(task.environment, task.table, task.network))
    identifier = table_identifier(task.network, task.table)
    await failpoints.reach("before-manifests")
    done = await to_its_end(merge_manifests, context.lake, identifier, origin(), dry_run=task.dry_run)
    await failpoints.reach("after-manifests")
    if not task.dry_run:
        upkeep_metrics.count(EXPORT, manifests=done.before - done.after)
    return ManifestsPage(done.before, done.after, done.more)
