"""One piece of a changelog, from its changes to what is to be committed: files stored, manifests' entries described."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import structlog

from activities import failpoints
from activities.abreast import beside, both
from activities.core.mirrors import IndexPointer, MirrorConfig, Watermark
from activities.core.mirrorschema import Following
from activities.lake.changedeletes import first_horizon
from activities.lake.indexadvance import Advanced, advance
from activities.lake.indexstaging import StagedIndex, stage
from activities.lake.indexstore import MirrorIndex
from activities.lake.mergebatch import Batch
from activities.lake.mergelookup import Lookup, Truncated, look_up, truncate
from activities.lake.mergerows import MirrorFiles, final_rows
from activities.lake.mergewrite import NewRows, delete_rows, delta_begun, run_of, write_rows
from activities.lake.mirrorfiles import all_described
from activities.lake.positiondeletes import Deleted, MadeDeletes, described
from activities.lake.rowdelta import RowDelta, manifest, metadata_after
from activities.lake.sequencebounds import SequenceBounds
from activities.merge_metrics import MergeTimings, index_told, lookup_told, rows_told
from activities.mirror_context import MirrorContext
from activities.mirror_head import Head, live_row_count
from activities.mirror_objects import store_object, store_objects
from activities.mirror_summary import mirror_summary
from activities.storing import undisturbed

NAMED = 5
"""Refused changes that a warning names."""

log = structlog.get_logger("icefleet.merge")


@dataclass(frozen=True)
class Counts:
    """What pieces did, as `MergeReport` counts it."""

    scanned: int = 0
    upserted: int = 0
    deleted: int = 0
    superseded: int = 0
    ties: int = 0
    refused: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    def told(self, mirror: str) -> None:
        """Report them: what they count is committed."""
        rows_told(mirror, self.scanned, self.superseded + self.ties, self.refused)


@dataclass(frozen=True)
class Prepared:
    """A piece whose files are stored, ready to be committed to the head for which it was prepared."""

    delta: RowDelta
    watermark: Watermark
    index: IndexPointer | None
    counts: Counts
    alone: bool
    """Whether it is committed without those that follow it."""


@dataclass(frozen=True)
class _Rows:
    """New rows, on their way to the store."""

    new: NewRows
    paths: Mapping[int, str]
    """Ordinal of a file → its path there."""
    sent: asyncio.Task[None]


@dataclass(frozen=True)
class _Deletes:
    """The same of what is deleted."""

    deleted: Deleted
    keys: Mapping[str, MadeDeletes]
    sent: asyncio.Task[None]


@dataclass(frozen=True)
class _Index:
    """What the summary says of the index, and what was forgotten with it."""

    pointer: IndexPointer | None
    horizon: str = ""


@dataclass(frozen=True)
class Looked:
    """What is known of a batch before anything is written."""

    batch: Batch
    lookup: Lookup
    truncated: Truncated

    @property
    def changes_nothing(self) -> bool:
        """Whether every change loses."""
        decision = self.lookup.decision
        return not (decision.upserts.any() or decision.deletes.any() or self.truncated.rows)

    @property
    def counts(self) -> Counts:
        """What becomes of the batch."""
        folded, decision = self.batch.folded, self.lookup.decision
        return Counts(
            scanned=len(self.batch.changes),
            upserted=int(decision.upserts.sum()),
            deleted=int((decision.deletes & decision.replaces).sum()) + self.truncated.rows,
            superseded=folded.superseded + int(decision.lost.sum()),
            ties=folded.ties,
            refused=int(decision.refused.sum()),
        )


class PieceMerge:
    """Prepares one piece for one head.

    What a merge does to the index's base is begun with it, as a task of `group`; `directory` is where files are made.
    """

    def __init__(
        self,
        context: MirrorContext,
        config: MirrorConfig,
        head: Head,
        following: Following,
        group: asyncio.TaskGroup,
        directory: Path,
    ) -> None:
        self._context = context
        self._config = config
        self._head = head
        self._following = following
        self._directory = directory
        self._files = context.lake.files()
        self._begun = delta_begun(config, head.mirror, following)
        self._metadata = metadata_after(head.mirror.table, self._begun.schema, self._begun.properties)
        self._step_key = self._key("index", "puffin")
        self._step = group.create_task(undisturbed(self._advance))

    async def prepare(self, batch: Batch, timings: MergeTimings, *, gathered: bool = False) -> Prepared:
        """Look keys up, write and store files; with manifests, unless the piece is one of several that are `gathered`.

        Raises:
            IndexUnusable: the index does not fit the mirror.
            ChangeInvalid: a change lacks a value that nothing older has.
        """
        with timings.phase("lookup"):
            looked = await asyncio.to_thread(self._look_up, batch)
        known = looked.lookup.found.known
        lookup_told(self._config.mirror, len(known), int(known.sum()))
        self._warn(looked)
        if looked.changes_nothing:
            return self._prepared(looked, _Index(self._head.pointer), self._begun, alone=self._is_alone(batch))
        return await self._written(looked, timings, alone=not gathered and self._is_alone(batch))

    def _is_alone(self, batch: Batch) -> bool:
        """Whether the piece may be seen before those that follow: a snapshot with a truncate is seen as a whole."""
        return not batch.piece.until or batch.folded.truncated <= self._head.watermark.truncated

    def _warn(self, looked: Looked) -> None:
        """Name some of the changes that are refused: they are lost to the mirror, and somebody may miss them."""
        if not (count := looked.counts.refused):
            return
        rows = looked.batch.folded.rows[np.flatnonzero(looked.lookup.decision.refused)[:NAMED]]
        columns = list(dict.fromkeys([*self._config.primary_keys, self._config.sequence_column]))
        log.warning(
            "changes are refused: of keys that nobody knows, from before the deletes that are remembered",
            mirror=self._config.mirror,
            changes=count,
            horizon=self._head.watermark.horizon,
            such_as=looked.batch.rows.select(columns).take(rows).to_pylist(),
        )

    def _advance(self) -> Advanced:
        return advance(
            self._head.index,
            made=self._directory / self._step_key.rpartition("/")[2],
            place=self._context.store.path(self._step_key),
            tombstone_cut=int(time.time() - self._config.late_event_horizon_seconds),
        )

    def _look_up(self, batch: Batch) -> Looked:
        before, truncated = self._head.watermark, batch.folded.truncated
        lookup = look_up(self._head.index, batch, before)
        if truncated == before.truncated:
            return Looked(batch, lookup, Truncated())
        config, schema = self._config, self._metadata.schema()
        bounds = SequenceBounds(config, batch.piece.table, schema)
        return Looked(batch, lookup, truncate(config, self._files, schema, bounds, self._head.live, truncated))

    async def _written(self, looked: Looked, timings: MergeTimings, *, alone: bool) -> Prepared:
        """What was made is sent while the rest is made."""
        async with beside() as sending:
            stepped = sending.create_task(self._send_step())
            with timings.phase("write"):
                rows, deletes = await both(self._rows(looked, sending), self._deletes(looked, sending))
            delta = replace(
                self._begun,
                add=all_described(self._metadata, rows.new.files, rows.paths),
                remove=[one.data for one in deletes.deleted.gone],
                add_deletes=[described(one, self._context.store.path(key)) for key, one in deletes.keys.items()],
                remove_deletes=deletes.deleted.superseded,
            )
            with timings.phase("store"):
                manifests = sending.create_task(self._manifested(delta)) if alone else None
                stored = sending.create_task(_all_stored(rows.sent, deletes.sent, stepped))
                index = await self._store_index(looked, rows, deletes.deleted)
                await stored
                delta = await manifests if manifests else delta
        return self._prepared(looked, index, delta, alone=alone)

    async def _rows(self, looked: Looked, sending: asyncio.TaskGroup) -> "_Rows":
        new = await undisturbed(self._write_rows, looked)
        keys = {one.ordinal: self._key("data") for one in new.files}
        sent = sending.create_task(self._store({keys[one.ordinal]: one.path for one in new.files}))
        return _Rows(new, {ordinal: self._context.store.path(key) for ordinal, key in keys.items()}, sent)

    async def _deletes(self, looked: Looked, sending: asyncio.TaskGroup) -> "_Deletes":
        deleted = await undisturbed(self._delete_rows, looked)
        keys = {self._key("deletes"): one for one in deleted.made}
        return _Deletes(deleted, keys, sending.create_task(self._store({key: one.body for key, one in keys.items()})))

    async def _send_step(self) -> None:
        await asyncio.wait([self._step])
        if self._step.cancelled() or self._step.exception():
            return  # which ends all of this; were it told here as well, what ends would be cancelled once more
        made = self._step.result().made
        await self._store({self._step_key: made} if made else {})

    async def _manifested(self, delta: RowDelta) -> RowDelta:
        return replace(delta, manifested=await undisturbed(manifest, self._head.mirror.table, delta))

    def _write_rows(self, looked: Looked) -> NewRows:
        mirror = MirrorFiles(self._config, self._head.index, self._files, self._metadata.schema())
        upserts = final_rows(looked.batch, looked.lookup, mirror)
        return write_rows(self._config, self._metadata, upserts, looked.counts.upserted, self._directory)

    def _delete_rows(self, looked: Looked) -> Deleted:
        return delete_rows(self._files, self._head.live, looked.lookup.gone, looked.truncated)

    async def _store(self, bodies: Mapping[str, Path | bytes]) -> None:
        await store_objects(self._context.store, self._files, bodies)

    async def _store_index(self, looked: Looked, rows: "_Rows", deleted: Deleted) -> _Index:
        step = await self._step
        with await undisturbed(self._stage, looked, step.index, rows, deleted) as staged:
            key = self._key("index", "puffin")
            pointer = staged.pointer(await store_object(self._context.store, self._files, key, staged.path))
            index_told(self._config.mirror, staged.whole)
        await failpoints.reach("merge-after-index")
        return _Index(pointer, step.horizon)

    def _stage(self, looked: Looked, index: MirrorIndex, rows: "_Rows", deleted: Deleted) -> StagedIndex:
        numbers = {path: number for number, path in index.files.items()}
        live_rows = live_row_count(self._head.live) + sum(one.rows for one in rows.new.files) - deleted.rows
        return stage(
            index,
            run_of(looked.batch, looked.lookup, rows.new, index.next_file, int(time.time())),
            new_files={index.next_file + ordinal: path for ordinal, path in rows.paths.items()},
            gone_files={numbers[one.path] for one in deleted.gone},
            truncated=looked.batch.folded.truncated,
            live_rows=live_rows,
        )

    def _prepared(self, looked: Looked, index: _Index, delta: RowDelta, *, alone: bool) -> Prepared:
        """The delta with what the snapshot is to say of itself."""
        batch, counts, before = looked.batch, looked.counts, self._head.watermark
        horizon = index.horizon
        if before.snapshot_id is None and not before.partial:
            # Pieces of what a mirror begins with come in the order of their numbers.
            horizon = max(horizon, first_horizon(batch.piece.table, batch.changes.sequences))
        watermark = batch.piece.next_watermark(
            before,
            newest=batch.newest,
            truncated=batch.folded.truncated,
            horizon=horizon,
            columns=self._following.columns,
        )
        summary = mirror_summary(watermark, index.pointer, vars(counts))
        return Prepared(replace(delta, summary=summary), watermark, index.pointer, counts, alone)

    def _key(self, kind: str, ending: str = "parquet") -> str:
        return self._context.new_key(self._config, kind, ending)


async def _all_stored(*sent: asyncio.Task[None]) -> None:
    await asyncio.gather(*sent)
    await failpoints.reach("merge-after-write")
