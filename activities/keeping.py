"""Keeping a changelog in order, one step at a time, between two batches of its pipeline.

Small files of a day become larger ones, in the order of their sequence numbers, by a snapshot that calls itself a
rewrite: merges pass over it. What was rewritten stays until no snapshot names it, and for the grace period after that.
"""

import asyncio
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from activities import failpoints, upkeep_metrics
from activities.announcing import snapshot_subject
from activities.cdc_context import CdcContext, PipelineConfig
from activities.committing import origin, to_its_end
from activities.contracts.cdc import KEEP_STEPS, KeepInput, KeepPage
from activities.contracts.maintain import CHANGELOG
from activities.core.changelogkeys import compacted_key
from activities.core.faults import BadRequest, BusRefused, BusUnavailable, ChangelogForeign
from activities.expiring import chooser
from activities.lake.changelog import PIPELINE
from activities.lake.changelogupkeep import delta_of, mirrors_behind, needed, rewrite, small_files
from activities.lake.expiry import expire
from activities.lake.fewermanifests import merge_manifests
from activities.lake.rowdelta import HeadMoved, TableGone, commit
from activities.mirror_objects import store_objects
from activities.storing import undisturbed
from activities.sweeping import changelog_sweep


async def keep_changelog(context: CdcContext, asked: KeepInput) -> KeepPage:
    """Do one step, or a turn of it.

    Raises:
        BadRequest: no such pipeline or step.
        ChangelogForeign: it is filled by another pipeline, or was made anew meanwhile.
        Fault: catalog or store do not answer, or others won every race.
    """
    pipeline = context.pipeline(asked.environment, asked.pipeline)
    if asked.step not in KEEP_STEPS:
        raise BadRequest(f"field 'step' must be one of {', '.join(KEEP_STEPS)}; it is {asked.step!r}")
    table: Any = await asyncio.to_thread(context.lake.load, asked.changelog)
    if table is None or table.current_snapshot() is None:
        return KeepPage()
    if table.properties.get(PIPELINE) != asked.pipeline:
        raise ChangelogForeign(
            f"table {asked.changelog} is no changelog of pipeline {asked.pipeline} (it says "
            f"{table.properties.get(PIPELINE)!r}); nothing of it is touched"
        )
    keeping = _Keeping(context, pipeline, asked, table)
    steps: Mapping[str, Callable[[], Awaitable[KeepPage]]] = {
        "delete": keeping.delete,
        "compact": keeping.compact,
        "manifests": keeping.manifests,
        "expire": keeping.expire,
        "note": keeping.note,
    }
    page = await steps[asked.step]()
    if not asked.dry_run:
        upkeep_metrics.count(
            CHANGELOG,
            expired=page.expired,
            deleted=page.deleted,
            freed=page.freed,
            manifests=page.manifests,
            compacted=page.compacted,
            problems=bool(page.problem),
        )
    return page


class _Keeping:
    """One step for one changelog, as it was loaded."""

    def __init__(self, context: CdcContext, pipeline: PipelineConfig, asked: KeepInput, table: Any) -> None:
        self._context = context
        self._pipeline = pipeline
        self._asked = asked
        self._table = table
        self._sweep = changelog_sweep(context, pipeline, asked.changelog)

    async def delete(self) -> KeepPage:
        """What was noted long enough ago, and that nothing names still."""
        swept = await self._sweep.delete(dry_run=self._asked.dry_run)
        return KeepPage(deleted=swept.objects, freed=swept.bytes)

    async def note(self) -> KeepPage:
        """What nothing names any more, to be deleted when nobody can be reading it."""
        if self._asked.dry_run:
            return KeepPage()
        await failpoints.reach("keep-before-note")
        return KeepPage(noted=await self._sweep.write_down())

    async def expire(self) -> KeepPage:
        """Snapshots that were announced, that are old enough, and that no mirror needs."""
        context, asked = self._context, self._asked
        subject = snapshot_subject(context.environment, asked.changelog)
        keep, age = self._pipeline.keep_snapshots, self._pipeline.snapshot_age_seconds
        retained = len(self._table.snapshots())
        try:
            choose = await chooser(context.bus, subject, self._table, keep=keep, age_seconds=age, needed=needed)
        except (BusUnavailable, BusRefused) as away:
            # What was not announced must stay, and nobody knows what was.
            return KeepPage(retained=retained, problem=f"no snapshot expires: {away}")
        if asked.dry_run:
            going = len(await asyncio.to_thread(choose, self._table))
        else:
            going = await to_its_end(expire, context.lake, asked.changelog, choose)
            await failpoints.reach("keep-after-expire")
        return KeepPage(expired=going, retained=retained - going)

    async def manifests(self) -> KeepPage:
        """Small ones become few."""
        dry = self._asked.dry_run
        done = await to_its_end(merge_manifests, self._context.lake, self._asked.changelog, origin(), dry_run=dry)
        fewer = done.before - done.after
        return KeepPage(manifests=fewer, more=done.more, snapshot=bool(fewer) and not dry)

    async def compact(self) -> KeepPage:
        """Small files of a day become larger ones, as many as one turn takes."""
        context, table = self._context, self._table
        if behind := await asyncio.to_thread(mirrors_behind, table):
            return KeepPage(problem=behind)
        chosen, live = await asyncio.to_thread(small_files, table)
        if not chosen.files or self._asked.dry_run:
            return KeepPage(compacted=len(chosen.files))
        gone = [live[one.path] for one in chosen.files]
        with tempfile.TemporaryDirectory(prefix="icefleet-keep-") as directory:
            sequence = self._pipeline.rules.system.sequence
            made = await undisturbed(rewrite, table, context.lake.files(), gone, sequence, Path(directory))
            keys = {one.ordinal: context.key(compacted_key(self._asked.changelog, str(uuid.uuid4()))) for one in made}
            bodies = {keys[one.ordinal]: one.path for one in made}
            stored = await store_objects(context.store, context.lake.files(), bodies)
        await failpoints.reach("keep-after-rewrite")
        summary = {"icefleet.cdc.compacted-files": str(len(gone)), **origin()}
        paths = {ordinal: stored[key] for ordinal, key in keys.items()}
        delta = delta_of(table, made, paths, [one.data for one in gone], summary)
        await failpoints.reach("keep-before-commit")
        try:
            await to_its_end(commit, context.lake, table, delta)
        except TableGone as anew:
            raise ChangelogForeign(f"changelog {self._asked.changelog} was dropped or made anew meanwhile") from anew
        except HeadMoved:
            return KeepPage(more=True)  # a copy, or another writer: the next turn looks again
        await failpoints.reach("keep-after-commit")
        return KeepPage(compacted=len(gone), more=chosen.more, snapshot=True)
