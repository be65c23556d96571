"""A mirror begins again from its changelog as it is now; readers see old rows until all of the new ones are there."""

import asyncio
import contextlib
import math
import time
from dataclasses import replace
from typing import Any

from activities import failpoints, sweeping
from activities.abreast import both
from activities.committing import to_its_end
from activities.contracts.mirrors import MergeReport, MirrorInput
from activities.core.faults import BadConfig, CatalogRefused, CommitConflict
from activities.core.mirrors import MirrorConfig
from activities.lake import mirror as mirrors
from activities.lake.changelogtag import advance_tag
from activities.lake.changes import Pending
from activities.lake.changescan import pending
from activities.lake.indexstore import MirrorIndex
from activities.lake.mergebatch import following_anew
from activities.lake.mirror import Mirror
from activities.lake.mirrormade import identity
from activities.lake.rowdelta import Committed, HeadMoved, commit
from activities.lake.sending import TRIES
from activities.merge_gathering import Gathering
from activities.merge_metrics import MergeTimings, failure_told
from activities.merge_work import MergeWork
from activities.mirror_context import MirrorContext
from activities.mirror_head import Head
from activities.mirror_lag import at_work

PIECE_ROWS = 1_000_000
"""Changes of a piece, at least, as long as they keep to the bytes of a batch: no commit follows each of them."""


async def bootstrap_mirror(context: MirrorContext, asked: MirrorInput) -> MergeReport:
    """Fold the whole changelog into new files, and put them in the place of the mirror's in one commit.

    Whoever comes after a worker that died begins at the beginning.

    Raises:
        BadConfig: there is no such changelog, or it lacks columns that config names.
        MirrorForeign: the table of that name is no mirror of ours.
        SchemaConflict: its columns cannot become those of the changelog.
        ChangeInvalid: a change cannot be understood.
        CommitConflict: other writers won every try, or one so long ago that a sweep may have deleted what was stored.
    """
    config = context.mirror(asked.environment, asked.mirror)
    with failure_told(config.mirror):
        async with at_work(context, config, "bootstrap"):
            work = await _begin(context, config)
            gathered = await _gather(work)
            done = await _commit(work, gathered)
    gathered.counts.told(config.mirror)
    at = gathered.head.watermark
    return replace(
        MergeReport(snapshot_id=str(done.snapshot_id), commits=1, **vars(gathered.counts)),
        watermark="" if at.snapshot_id is None else str(at.snapshot_id),
        watermark_sequence=at.newest,
        watermark_time_ms=at.committed_ms,
    )


async def _begin(context: MirrorContext, config: MirrorConfig) -> MergeWork:
    mirror, changelog = await both(
        asyncio.to_thread(mirrors.read_anew, context.lake, config),
        asyncio.to_thread(context.lake.load, config.changelog),
    )
    if changelog is None:
        raise BadConfig(
            f"mirror {config.mirror}: there is no changelog {config.changelog} in the catalog; mend `changelog_table` "
            "in mirrors.yaml, or make the changelog first"
        )
    if mirror is None:
        await asyncio.to_thread(mirrors.create, context.lake, config, changelog)
        mirror = await asyncio.to_thread(mirrors.read_anew, context.lake, config)
    if mirror is None:
        raise CommitConflict(f"mirror {config.mirror} was dropped just after it was made; ask again")
    larger = replace(config, batch_rows=max(config.batch_rows, PIECE_ROWS))
    left = await asyncio.to_thread(pending, changelog, None, larger)
    await asyncio.to_thread(_hold, context, config, left)
    return MergeWork(context, config, mirror, left, following_anew(config, changelog, mirror))


def _hold(context: MirrorContext, config: MirrorConfig, left: Pending) -> None:
    """Keep what is to be merged from expiring meanwhile: from then on nobody could tell what came since."""
    if left.snapshots:
        with contextlib.suppress(CatalogRefused):  # somebody else's changelog, which tidying says
            advance_tag(context.lake, config, replace(left.before, partial_snapshot=left.snapshots[-1].id))


async def _gather(work: MergeWork) -> Gathering:
    """Everything that the changelog has, prepared for a mirror that has nothing."""
    uuid = str(work.mirror.table.metadata.table_uuid)
    index = MirrorIndex.empty(work.context.index_cache, uuid)
    gathered = Gathering(work.context, work.config, Head(work.mirror, work.watermark, {}, index, None))
    while taken := await work.take(gathered.head.watermark):
        timings = MergeTimings()
        await asyncio.to_thread(gathered.add, await work.next(taken, gathered.head, timings))
        timings.told(work.config.mirror)
    return gathered


async def _commit(work: MergeWork, gathered: Gathering) -> Committed:
    properties = identity(work.config, work.pending.table.schema())
    table = work.mirror.table
    for _ in range(TRIES):
        delta = await asyncio.to_thread(gathered.delta, table, properties)
        await failpoints.reach("merge-before-commit")
        try:
            done = await to_its_end(commit, work.context.lake, table, delta)
        except HeadMoved:
            table = _same(work, await asyncio.to_thread(mirrors.read_anew, work.context.lake, work.config))
            continue
        await failpoints.reach("merge-after-commit")
        return done
    raise CommitConflict(
        f"mirror {work.config.mirror}: {TRIES} commits in a row lost against other writers; look for who else commits"
    )


def _same(work: MergeWork, now: Mirror | None) -> Any:
    """The table as it is now, to which the same files can be added.

    They were stored for an older head, so a sweep takes them for orphans, and may delete them once the first snapshot
    after that head is older than the grace period.
    """
    before = work.mirror.table.metadata
    if now is not None:
        after = now.table.metadata
        known = (before.table_uuid, before.current_schema_id, before.last_column_id, before.default_spec_id)
        if known == (after.table_uuid, after.current_schema_id, after.last_column_id, after.default_spec_id):
            if time.time() < _safe_until(work, now):
                return now.table
            raise CommitConflict(
                f"mirror {work.config.mirror}: somebody else committed to it while it began again, longer ago than "
                "what no snapshot names is kept (`expiry.grace`), so what was stored may be gone; it begins again once "
                "more"
            )
    raise CommitConflict(
        f"mirror {work.config.mirror}: somebody dropped it, or changed its schema, meanwhile; it begins again once more"
    )


def _safe_until(work: MergeWork, now: Mirror) -> float:
    """Until when no sweep deletes what was stored for the head that was read; seconds since the epoch."""
    read = work.mirror.head
    if now.head == read:
        return math.inf
    return now.moved_ms(read) / 1000 + work.config.expiry.grace_seconds - sweeping.SKEW_SECONDS
