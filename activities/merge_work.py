"""What a merge does with one piece after the other, for a mirror and a changelog as they were loaded."""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from activities.abreast import both
from activities.core.mirrors import MirrorConfig, Watermark
from activities.core.mirrorschema import Following
from activities.lake.changepieces import Taken, take
from activities.lake.changes import Pending
from activities.lake.indexhead import IndexUnusable
from activities.lake.mergebatch import Batch, batch_of, wanted_columns
from activities.lake.mirror import Mirror
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
        """The piece that comes after a watermark, read."""
        columns = wanted_columns(self.config, self.pending.table)
        return await asyncio.to_thread(take, self.pending, watermark, self.context.lake.files(), columns)

    async def first(self, taken: Taken, timings: MergeTimings) -> tuple[Prepared, Head]:
        """Prepare a piece for the mirror's head; an index that cannot be used is made anew.

        Raises:
            ChangeInvalid: a change cannot be understood, or lacks a value that nothing older has.
        """
        with timings.phase("read"):
            batch, head = await both(asyncio.to_thread(self._batch, taken, self.watermark), self._head())
        try:
            return await self._prepare(batch, head, timings), head
        except IndexUnusable as wrong:
            head = await self._rebuilt(str(wrong))
            return await self._prepare(batch, head, timings), head

    async def next(self, taken: Taken, head: Head, timings: MergeTimings) -> Prepared:
        """Prepare a piece for a head that is gathered."""
        with timings.phase("read"):
            batch = await asyncio.to_thread(self._batch, taken, head.watermark)
        return await self._prepare(batch, head, timings)

    def _batch(self, taken: Taken, before: Watermark) -> Batch:
        return batch_of(self.config, taken, before.truncated)

    async def _head(self) -> Head:
        try:
            return await head_of(self.context, self.mirror, self.watermark)
        except IndexUnusable as wrong:
            return await self._rebuilt(str(wrong))

    async def _rebuilt(self, why: str) -> Head:
        return await rebuilt_head(self.context, self.config, self.mirror, self.watermark, self.pending.table, why)

    async def _prepare(self, batch: Batch, head: Head, timings: MergeTimings) -> Prepared:
        work = PieceMerge(self.context, self.config, head, self.following, timings)
        with tempfile.TemporaryDirectory(prefix="icefleet-merge-") as directory:
            return await work.prepare(batch, Path(directory))
