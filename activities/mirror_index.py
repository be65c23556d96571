"""Making the index of a mirror anew: in the middle of a merge that cannot use it, or because somebody asks."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import structlog

from activities import failpoints
from activities.abreast import both
from activities.committing import to_its_end
from activities.contracts.mirrors import MergeReport, MirrorInput
from activities.core.faults import CommitConflict, MirrorForeign, WatermarkLost
from activities.core.mirrors import MirrorConfig, Watermark
from activities.core.mirrorschema import Following
from activities.lake import mirror as mirrors
from activities.lake.changedeletes import Deletes
from activities.lake.indexrebuild import Rebuilt, rebuild
from activities.lake.indexsources import delete_entries, row_entries
from activities.lake.live import LiveFile, live_files
from activities.lake.mergewrite import schema_after
from activities.lake.mirror import WAY_OUT, Mirror
from activities.lake.mirrormade import check_made, check_named
from activities.lake.rowdelta import HeadMoved, RowDelta, commit
from activities.lake.sending import TRIES
from activities.merge_metrics import failure_told, rebuild_told
from activities.mirror_context import MirrorContext
from activities.mirror_head import Head, live_row_count, opened_index
from activities.mirror_lag import at_work, tell_lag
from activities.mirror_objects import store_object
from activities.mirror_summary import mirror_summary
from activities.storing import undisturbed

log = structlog.get_logger("icefleet.merge")


async def rebuild_index(context: MirrorContext, asked: MirrorInput) -> MergeReport:
    """Make a mirror's index anew, in a commit that changes nothing else.

    Raises:
        MirrorForeign: the mirror is not as merges left it, or holds several rows of a key.
        WatermarkLost: its changelog is gone, or another one.
        BadConfig: config says other keys or sequence numbers than it was made with, or other names than it has yet.
        CommitConflict: other writers won every try.
    """
    config = context.mirror(asked.environment, asked.mirror)
    with failure_told(config.mirror):
        async with at_work(context, config, "index"):
            return await _commit_rebuilt(context, config)


async def _commit_rebuilt(context: MirrorContext, config: MirrorConfig) -> MergeReport:
    for _ in range(TRIES):
        mirror, changelog = await both(
            asyncio.to_thread(mirrors.read, context.lake, config),
            asyncio.to_thread(context.lake.load, config.changelog),
        )
        if mirror is None or mirror.watermark is None:
            return MergeReport()
        head = await rebuilt_head(context, config, mirror, mirror.watermark, changelog, "somebody asked for it")
        delta = RowDelta(mirror_summary(head.watermark, head.pointer), is_rewrite=True)
        await failpoints.reach("rebuild-before-commit")
        try:
            done = await to_its_end(commit, context.lake, mirror.table, delta)
        except HeadMoved:
            continue
        await failpoints.reach("rebuild-after-commit")
        return MergeReport(snapshot_id=str(done.snapshot_id), commits=1, index_rebuilt=head.rebuilt)
    raise CommitConflict(
        f"mirror {config.mirror}: {TRIES} commits in a row lost against other writers; look for who else writes to it"
    )


async def rebuilt_head(
    context: MirrorContext,
    config: MirrorConfig,
    mirror: Mirror,
    watermark: Watermark,
    changelog: Any,
    why: str,
    following: Following | None = None,
) -> Head:
    """A mirror's head with an index that is made anew and stored, from its rows and its changelog's deletes.

    `following` is what its columns become in the commit that names the index. Its watermark says up to where deletes
    may be forgotten now.
    """
    if changelog is None or str(changelog.metadata.table_uuid) != watermark.changelog_uuid:
        raise WatermarkLost(
            f"mirror {config.mirror}: its changelog {config.changelog} is gone or another one, and with it the deletes "
            f"that its index has to know; {WAY_OUT}"
        )
    check_made(config, mirror.table, changelog.schema())
    schema = (schema_after(mirror.table, following) if following else None) or mirror.table.schema()
    check_named(config, schema)
    log.warning("index is made anew", mirror=config.mirror, why=why)
    await asyncio.to_thread(tell_lag, context, config)
    live = await asyncio.to_thread(live_files, mirror.table)
    deletes = Deletes(changelog, config, watermark, context.lake.files())
    made = await undisturbed(_rebuild, context, config, mirror, schema, watermark, live, deletes)
    with made.staged as staged:
        if made.doubled:
            raise MirrorForeign(
                f"mirror {config.mirror}: {made.doubled} rows have the key of another row, so somebody else wrote to "
                f"it; delete them with an Iceberg client, or {WAY_OUT}"
            )
        await failpoints.reach("rebuild-before-store")
        key = context.new_key(config, "index", "puffin")
        pointer = staged.pointer(await store_object(context.store, context.lake.files(), key, staged.path))
    await failpoints.reach("rebuild-after-store")
    rebuild_told(config.mirror)
    known = replace(watermark, horizon=max(watermark.horizon, deletes.horizon, staged.horizon))
    index = await asyncio.to_thread(opened_index, context, mirror, pointer, live)
    return Head(mirror, known, live, index, pointer, why)


def _rebuild(
    context: MirrorContext,
    config: MirrorConfig,
    mirror: Mirror,
    schema: Any,
    watermark: Watermark,
    live: dict[str, LiveFile],
    deletes: Deletes,
) -> Rebuilt:
    numbered, now = dict(enumerate(sorted(live), 1)), int(time.time())
    truncated = watermark.truncated

    def entries() -> Any:
        files = {number: live[path] for number, path in numbered.items()}
        yield from row_entries(config, context.lake.files(), schema, files, truncated)
        yield from delete_entries(config, deletes, now)

    return rebuild(
        context.index_cache,
        str(mirror.table.metadata.table_uuid),
        numbered,
        entries(),
        tombstone_cut=now - int(config.late_event_horizon_seconds),
        truncated=truncated,
        live_rows=live_row_count(live),
    )
