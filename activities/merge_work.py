"""What a merge does with one piece after the other, for a mirror and a changelog as they were loaded."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from activities.abreast import beside, both, heed_cancellation
from activities.core.mirrors import MirrorConfig, Watermark
from activities.core.mirrorschema import Following
from activities.lake.changepieces import Taken, has_next, take
from activities.lake.changes import Pending
from activities.lake.indexhead import IndexUnusable
from activities.lake.mergebatch import Batch, batch_of, wanted_columns
from activities.lake.mirror import Mirror
from activities.lake.unfinished import room
from activities.merge_metrics import MergeTimings
from activities.merge_piece import PieceMerge, Prepared
from activities.mirror_context import MirrorContext
from activities.mirror_head import Head, head_of
from activities.mirror_index import rebuilt_head


@dataclass(frozen=True)
class MergeWork:
    """A mirror, and what it lacks."""

    context: MirrorContext
    config: MirrorConfig
    mirror: Mirror
    pending: Pending
    following: Following
    """What the mirror's schema becomes."""

    @property
    def watermark(self) -> Watermark:
        """How far the mirror is."""
        return self.mirror.watermark or self.pending.before

    async def take(self, watermark: Watermark) -> Taken | None:
        """The piece that comes after a watermark, read; None: there is none."""
        return await asyncio.to_thread(self._take, watermark)

    async def first(self, timings: MergeTimings) -> tuple[Prepared, Head] | None:
        """Prepare the next piece for the mirror's head; None when there is none.

        An index that cannot be used is made anew.

        Raises:
            ChangeInvalid: a change cannot be understood, or lacks a value that nothing older has.
        """
        if not has_next(self.pending, self.watermark):
            return None
        batch: Batch | None = None
        try:
            async with self._beginning() as begin:
                with timings.phase("read"):
                    batch, (head, piece) = await both(
                        asyncio.to_thread(self._next_batch, self.watermark), self._on_head(begin)
                    )
                return (await piece.prepare(batch, timings), head) if batch else None
        except IndexUnusable as wrong:
            await heed_cancellation()
            head = await self._rebuilt(str(wrong))
        batch = batch or await asyncio.to_thread(self._next_batch, self.watermark)
        async with self._beginning() as begin:
            return (await begin(head).prepare(batch, timings), head) if batch else None

    async def next(self, taken: Taken, head: Head, timings: MergeTimings) -> Prepared:
        """Prepare a piece for a head that is gathered."""
        async with self._beginning() as begin:
            piece = begin(head)
            with timings.phase("read"):
                batch = await asyncio.to_thread(batch_of, self.config, taken, head.watermark.truncated)
            return await piece.prepare(batch, timings, gathered=True)

    @asynccontextmanager
    async def _beginning(self) -> AsyncIterator[Callable[[Head], PieceMerge]]:
        """Begin pieces; what they have begun ends with the context."""
        with room(self.context.cache_directory) as directory:
            async with beside() as group:
                yield lambda head: PieceMerge(self.context, self.config, head, self.following, group, directory)

    async def _on_head(self, begin: Callable[[Head], PieceMerge]) -> tuple[Head, PieceMerge]:
        head = await self._head()
        return head, begin(head)

    def _take(self, watermark: Watermark) -> Taken | None:
        columns = wanted_columns(self.config, self.pending.table)
        return take(self.pending, watermark, self.context.lake.files(), columns)

    def _next_batch(self, before: Watermark) -> Batch | None:
        taken = self._take(before)
        return batch_of(self.config, taken, before.truncated) if taken else None

    async def _head(self) -> Head:
        try:
            return await head_of(self.context, self.mirror, self.watermark)
        except IndexUnusable as wrong:
            return await self._rebuilt(str(wrong))

    async def _rebuilt(self, why: str) -> Head:
        changelog, following = self.pending.table, self.following
        return await rebuilt_head(self.context, self.config, self.mirror, self.watermark, changelog, why, following)
