"""Compaction: the same rows in fewer files and without deleted ones, in one commit that carries the watermark on.

The index learns in the same commit where the rows are now. When the mirror's index is not to be used just now, none is
named, and the next merge makes it anew, as it would have to anyway.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from activities import failpoints
from activities.committing import to_its_end
from activities.contracts.mirrors import CompactReport, MirrorInput
from activities.core.compactplan import Chosen
from activities.core.faults import CommitConflict
from activities.core.index import nothing
from activities.core.mirrors import IndexPointer, MirrorConfig, Watermark
from activities.lake import mirror as mirrors
from activities.lake.compaction import Rewritten, Stored, chosen_files, delta_of, fits_moves, rewrite
from activities.lake.indexhead import IndexUnusable
from activities.lake.indexstaging import StagedIndex, stage
from activities.lake.indexstore import MirrorIndex
from activities.lake.live import LiveFile, dangling_deletes, live_files
from activities.lake.mirror import Mirror
from activities.lake.positiondeletes import Deleted, delete, described
from activities.lake.rowdelta import HeadMoved, commit
from activities.lake.sending import TRIES
from activities.lake.unfinished import room
from activities.mirror_context import MirrorContext
from activities.mirror_head import head_of, live_row_count
from activities.mirror_lag import at_work, tell_lag
from activities.mirror_objects import store_object, store_objects
from activities.mirror_summary import mirror_summary
from activities.storing import undisturbed


async def compact_mirror(context: MirrorContext, asked: MirrorInput) -> CompactReport:
    """Rewrite what is due, or with `thorough` whatever can be better, as much as one turn takes.

    Raises:
        MirrorForeign: the mirror is not as merges left it.
        CommitConflict: other writers won every try.
    """
    config = context.mirror(asked.environment, asked.mirror)
    async with at_work(context, config, "compaction"):
        for _ in range(TRIES):
            found = await asyncio.to_thread(_look, context, config, thorough=asked.thorough)
            if found is None:
                return CompactReport()
            await asyncio.to_thread(tell_lag, context, config)
            try:
                return await _Compaction(context, config, found).run()
            except HeadMoved:
                continue
    raise CommitConflict(
        f"mirror {config.mirror}: {TRIES} compactions in a row lost against other writers; look for who else writes to "
        "it, and have only its loop do so"
    )


@dataclass(frozen=True)
class _Found:
    """A mirror of which something is to be rewritten."""

    mirror: Mirror
    watermark: Watermark
    live: Mapping[str, LiveFile]
    chosen: Chosen

    @property
    def files(self) -> list[LiveFile]:
        """Those that are rewritten."""
        return [self.live[one.path] for one in self.chosen.files]


def _look(context: MirrorContext, config: MirrorConfig, *, thorough: bool) -> _Found | None:
    mirror = mirrors.read(context.lake, config)
    if mirror is None or mirror.watermark is None:
        return None
    live = live_files(mirror.table)
    chosen = chosen_files(context.lake.files(), live, config, thorough=thorough)
    return _Found(mirror, mirror.watermark, live, chosen) if chosen.files else None


class _Compaction:
    """One compaction, for one head."""

    def __init__(self, context: MirrorContext, config: MirrorConfig, found: _Found) -> None:
        self._context = context
        self._config = config
        self._found = found

    async def run(self) -> CompactReport:
        found, files = self._found, self._context.lake.files()
        index = await self._index()
        # Without an index nobody wants to know where rows went.
        spec = found.mirror.table.spec().spec_id
        keyed = index is not None and not fits_moves(index, found.chosen.files, found.live, spec)
        with room(self._context.cache_directory) as directory:
            work = (self._config, found.mirror, files, found.files, directory)
            rewritten = await undisturbed(partial(rewrite, keyed=keyed), *work)
            deleted = await asyncio.to_thread(delete, files, found.live, {}, {one.path for one in found.files})
            stored = await self._stored(rewritten, deleted)
            await failpoints.reach("compact-after-write")
            pointer = await self._staged(index, rewritten, deleted, stored, keyed=keyed)
        dangling = await asyncio.to_thread(dangling_deletes, found.mirror.table, found.live)
        summary = self._summary(rewritten, pointer)
        delta = delta_of(found.mirror, rewritten, deleted, stored, dangling, summary)
        await failpoints.reach("compact-before-commit")
        done = await to_its_end(commit, self._context.lake, found.mirror.table, delta)
        await failpoints.reach("compact-after-commit")
        return CompactReport(
            snapshot_id=str(done.snapshot_id),
            files_before=len(found.files),
            files_after=len(rewritten.files),
            rows=rewritten.rows,
            bytes=sum(one.size for one in found.chosen.files),
            more=found.chosen.more,
        )

    async def _index(self) -> MirrorIndex | None:
        """The mirror's index; None when the next merge has to make it anew anyway."""
        try:
            return (await head_of(self._context, self._found.mirror, self._found.watermark)).index
        except IndexUnusable:
            return None

    async def _stored(self, rewritten: Rewritten, deleted: Deleted) -> Stored:
        data = {self._key("data"): one for one in rewritten.files}
        deletes = {self._key("deletes"): one for one in deleted.made}
        bodies: dict[str, Path | bytes] = {key: one.path for key, one in data.items()}
        bodies |= {key: one.body for key, one in deletes.items()}
        paths = await store_objects(self._context.store, self._context.lake.files(), bodies)
        return Stored(
            {one.ordinal: paths[key] for key, one in data.items()},
            [described(one, paths[key]) for key, one in deletes.items()],
        )

    async def _staged(
        self, index: MirrorIndex | None, rewritten: Rewritten, deleted: Deleted, stored: Stored, *, keyed: bool
    ) -> IndexPointer | None:
        if index is None:
            return None
        work = (index, rewritten, deleted, stored)
        with await undisturbed(partial(self._stage, keyed=keyed), *work) as staged:
            key = self._key("index", "puffin")
            path = await store_object(self._context.store, self._context.lake.files(), key, staged.path)
            return staged.pointer(path)

    def _stage(
        self, index: MirrorIndex, rewritten: Rewritten, deleted: Deleted, stored: Stored, *, keyed: bool
    ) -> StagedIndex:
        numbers = {path: number for number, path in index.files.items()}
        return stage(
            index,
            rewritten.entries(index.next_file) if keyed else nothing(),
            new_files={index.next_file + ordinal: path for ordinal, path in stored.data.items()},
            gone_files={numbers[one.path] for one in deleted.gone},
            live_rows=live_row_count(self._found.live) + rewritten.rows - deleted.rows,
            moves=None if keyed else rewritten.moves(numbers, index.next_file),
        )

    def _summary(self, rewritten: Rewritten, pointer: IndexPointer | None) -> dict[str, str]:
        counts = {"compacted-files": len(self._found.files), "compacted-rows": rewritten.rows}
        return mirror_summary(self._found.watermark, pointer, counts)

    def _key(self, kind: str, ending: str = "parquet") -> str:
        return self._context.new_key(self._config, kind, ending)
