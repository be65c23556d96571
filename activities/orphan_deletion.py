"""Deleting orphans: page by page, and never what a commit that is on its way could still name."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace
from itertools import dropwhile

from temporalio import activity

from activities import failpoints
from activities.abreast import each, seen_through
from activities.clients.objectstore import ListedObject
from activities.context import ExportContext
from activities.contracts.orphans import LISTED_KEYS, WORK_SECONDS, OrphansInput, OrphansPage
from activities.core.faults import BadRequest
from activities.core.orphans import PROPERTY, check_age
from activities.core.tables import PartitionRule
from activities.core.upkeep import readers_left
from activities.lake.catalog import Lake
from activities.lake.orphans import draw_line
from activities.orphans import DATA, UPLOAD, Place, TableOrphans, in_config


async def delete_page(context: ExportContext, task: OrphansInput) -> OrphansPage:
    """Delete what is older than asked for, until everything has been looked at or the attempt's time is up.

    Raises:
        BadRequest: the age is none or too low, or the catalog has no such table.
    """
    config = context.table(task)
    least = context.orphan_age_seconds
    age = least if task.after_expiry and not task.older_than else check_age(task.older_than, least)

    is_ours = in_config(context, task.network)
    orphans = TableOrphans(context.store, context.lake, config, task.network, context.key_prefix, is_ours)
    there = await orphans.open()
    if not there and not task.after_expiry:
        raise BadRequest(f"table {orphans.identifier} is not in the catalog: what it names is not known, nothing goes")
    waiting = await _waiting(context, orphans) if there else ""
    if waiting or not there:
        return replace(_NOTHING, line=task.line or 1, waiting=waiting)
    line = task.line or await context.store.now() - age
    deletion = _Deletion(
        context.lake, orphans, config.partition, line, dry_run=task.dry_run, held_only=task.after_expiry
    )
    kind, _, after = task.cursor.partition(":")
    for place in dropwhile(lambda place: kind not in {"", place.kind}, orphans.places(metadata=task.metadata)):
        async with aclosing(place.pages(after)) as pages:
            async for page in pages:
                if not await deletion.take(place, page):
                    return deletion.page(f"{place.kind}:{after}")
                after = page[-1].key if page else after
        after = ""
    return deletion.page("")


_NOTHING = OrphansPage(line=0, cursor="", deleted=0, bytes=0, young=0, foreign=0, keys=[])


async def _waiting(context: ExportContext, orphans: TableOrphans) -> str:
    """Why nothing is to be deleted just now, whoever asks; empty when nothing is in the way.

    An object's age does not tell: a file that was replaced long ago may have been named until a moment ago.
    """
    left = readers_left(orphans.properties, await context.store.now(), context.grace_seconds)
    return f"nothing is deleted for {left} s more: readers may be with snapshots that have just expired" if left else ""


class _Deletion:
    """One attempt: what it may delete, for how long, and what it has done."""

    def __init__(
        self, lake: Lake, orphans: TableOrphans, rule: PartitionRule, line: int, *, dry_run: bool, held_only: bool
    ) -> None:
        self._lake = lake
        self._orphans = orphans
        self._rule = rule
        self._line = line
        self._dry_run = dry_run
        self._held_only = held_only
        """Objects of partitions that the table does not hold stay: they may be all that is left of them."""
        # By the clock on the wall: it goes on while a machine is held.
        self._ends = time.time() + WORK_SECONDS
        self._drawn = False
        self._gone: list[tuple[Place, ListedObject]] = []
        self._young = self._foreign = self._kept = 0

    def page(self, cursor: str) -> OrphansPage:
        """What has been done."""
        return OrphansPage(
            line=self._line,
            cursor=cursor,
            deleted=len(self._gone),
            bytes=sum(found.size for _, found in self._gone),
            young=self._young,
            foreign=self._foreign,
            keys=[f"{place.kind}: {found.key}" for place, found in self._gone[:LISTED_KEYS]],
            kept=self._kept,
        )

    @property
    def _time_is_up(self) -> bool:
        return time.time() >= self._ends

    async def take(self, place: Place, listed: list[ListedObject]) -> bool:
        """Delete the orphans of a page; False when time was up before the page's end."""
        if self._time_is_up:
            return False
        left = await self._orphans.unnamed(place, listed)
        old = [found for found in left if found.made < self._line]
        origins = await each(place.is_foreign, old)
        made = [found for found, foreign in zip(old, origins, strict=True) if foreign is False]
        ours = [found for found in made if not self._is_kept(place, found)]
        kept = len(made) - len(ours)
        if ours and not self._dry_run:
            await self._draw_line(place)
            # Only now is it certain that nothing older than the line becomes part of the table any more.
            ours = await self._orphans.unnamed(place, ours)
            removed = await each(lambda found: self._remove(place, found), ours)
            if None in removed:
                self._gone += [(place, found) for found, gone in zip(ours, removed, strict=True) if gone]
                return False
            ours = [found for found, gone in zip(ours, removed, strict=True) if gone]
        self._gone += [(place, found) for found in ours]
        self._young += len(left) - len(old)
        self._foreign += origins.count(True)
        self._kept += kept
        return True

    def _is_kept(self, place: Place, found: ListedObject) -> bool:
        return self._held_only and place.kind == DATA and not self._orphans.is_of_held(found.key)

    async def _draw_line(self, place: Place) -> None:
        # An upload that is dropped can never become an object that a commit could name.
        if self._drawn or place.kind == UPLOAD:
            return
        summary = {"icefleet.workflow-id": activity.info().workflow_id or "", PROPERTY: str(self._line)}
        await asyncio.to_thread(draw_line, self._lake, self._orphans.identifier, self._rule, self._line, summary)
        self._drawn = True
        await failpoints.reach("before-delete")

    async def _remove(self, place: Place, found: ListedObject) -> bool | None:
        """Whether it was deleted; None when time was up."""
        foreign = await place.is_foreign(found)
        if self._time_is_up:
            return None
        if foreign is not False:
            return False  # it has gone, or another one has taken its place
        # A request that is on its way is waited for: it must not take effect after this attempt has ended.
        await seen_through(place.remove(found))
        return True
