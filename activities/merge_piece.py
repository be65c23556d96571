"""One piece of a changelog, from its changes to what is to be committed: files stored, manifests' entries described."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from activities import failpoints
from activities.abreast import both
from activities.core.mirrors import IndexPointer, MirrorConfig, Watermark
from activities.core.mirrorschema import Following
from activities.lake.indexadvance import Advanced, advance
from activities.lake.indexstaging import StagedIndex, stage
from activities.lake.mergebatch import Batch
from activities.lake.mergelookup import Lookup, Truncated, look_up, truncate
from activities.lake.mergerows import MirrorFiles, final_rows
from activities.lake.mergewrite import NewRows, delete_rows, run_of, schema_after, write_rows
from activities.lake.mirrorfiles import all_described
from activities.lake.positiondeletes import Deleted, described
from activities.lake.rowdelta import RowDelta, metadata_after
from activities.merge_metrics import MergeTimings, index_told, lookup_told
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


@dataclass(frozen=True)
class Prepared:
    """A piece whose files are stored, ready to be committed to the head for which it was prepared."""

    delta: RowDelta
    watermark: Watermark
    index: IndexPointer | None
    counts: Counts


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


@dataclass(frozen=True)
class Ahead:
    """What is done to the index before it is known what changes."""

    key: str
    """Under which the step is stored."""
    step: Advanced


class PieceMerge:
    """Prepares one piece for one head."""

    def __init__(
        self, context: MirrorContext, config: MirrorConfig, head: Head, following: Following, timings: MergeTimings
    ) -> None:
        self._context = context
        self._config = config
        self._head = head
        self._following = following
        self._timings = timings
        self._files = context.lake.files()
        self._schema = schema_after(head.mirror.table, following)
        self._metadata = metadata_after(head.mirror.table, self._schema)

    async def prepare(self, batch: Batch, directory: Path) -> Prepared:
        """Look keys up, write and store files; `directory` is where they are made.

        Raises:
            IndexUnusable: the index does not fit the mirror.
            ChangeInvalid: a change lacks a value that nothing older has.
        """
        with self._timings.phase("lookup"):
            looked, ahead = await both(
                asyncio.to_thread(self._look_up, batch), undisturbed(self._advance, len(batch.folded), directory)
            )
        known = looked.lookup.found.known
        lookup_told(self._config.mirror, len(known), int(known.sum()))
        self._warn(looked)
        if looked.changes_nothing:
            return self._prepared(looked, _Index(self._head.pointer))
        return await self._written(looked, ahead, directory)

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

    def _advance(self, changes: int, directory: Path) -> Ahead:
        key = self._key("index", "puffin")
        made = directory / key.rpartition("/")[2]
        return Ahead(
            key,
            advance(
                self._head.index,
                changes,
                made=made,
                place=self._context.store.path(key),
                tombstone_cut=int(time.time() - self._config.late_event_horizon_seconds),
            ),
        )

    def _look_up(self, batch: Batch) -> Looked:
        before, truncated = self._head.watermark, batch.folded.truncated
        lookup = look_up(self._head.index, batch, before)
        if truncated == before.truncated:
            return Looked(batch, lookup, Truncated())
        schema = self._metadata.schema()
        return Looked(batch, lookup, truncate(self._config, self._files, schema, self._head.live, truncated))

    async def _written(self, looked: Looked, ahead: Ahead, directory: Path) -> Prepared:
        with self._timings.phase("write"):
            (new, deleted), _ = await both(
                both(undisturbed(self._write_rows, looked, directory), undisturbed(self._delete_rows, looked)),
                self._store({ahead.key: ahead.step.made} if ahead.step.made else {}),
            )
        data = {one.ordinal: self._key("data") for one in new.files}
        deletes = {self._key("deletes"): one for one in deleted.made}
        bodies: dict[str, Path | bytes] = {data[one.ordinal]: one.path for one in new.files}
        bodies |= {key: one.body for key, one in deletes.items()}
        paths = {ordinal: self._context.store.path(key) for ordinal, key in data.items()}
        with self._timings.phase("store"):
            _, index = await both(self._store_files(bodies), self._store_index(looked, ahead, new, deleted, paths))
        return self._prepared(
            looked,
            index,
            add=all_described(self._metadata, new.files, paths),
            remove=[one.data for one in deleted.gone],
            add_deletes=[described(one, self._context.store.path(key)) for key, one in deletes.items()],
            remove_deletes=deleted.superseded,
        )

    def _write_rows(self, looked: Looked, directory: Path) -> NewRows:
        mirror = MirrorFiles(self._config, self._head.index, self._files, self._metadata.schema())
        upserts = final_rows(looked.batch, looked.lookup, mirror)
        return write_rows(self._config, self._metadata, upserts, looked.counts.upserted, directory)

    def _delete_rows(self, looked: Looked) -> Deleted:
        return delete_rows(self._files, self._head.live, looked.lookup.gone, looked.truncated)

    async def _store(self, bodies: Mapping[str, Path | bytes]) -> None:
        await store_objects(self._context.store, self._files, bodies)

    async def _store_files(self, bodies: Mapping[str, Path | bytes]) -> None:
        await self._store(bodies)
        await failpoints.reach("merge-after-write")

    async def _store_index(
        self, looked: Looked, ahead: Ahead, new: NewRows, deleted: Deleted, paths: Mapping[int, str]
    ) -> _Index:
        with await undisturbed(self._stage, looked, ahead, new, deleted, paths) as staged:
            key = self._key("index", "puffin")
            pointer = staged.pointer(await store_object(self._context.store, self._files, key, staged.path))
            index_told(self._config.mirror, staged.whole)
        await failpoints.reach("merge-after-index")
        return _Index(pointer, ahead.step.horizon)

    def _stage(
        self, looked: Looked, ahead: Ahead, new: NewRows, deleted: Deleted, paths: Mapping[int, str]
    ) -> StagedIndex:
        index, now = ahead.step.index, int(time.time())
        numbers = {path: number for number, path in index.files.items()}
        rows = live_row_count(self._head.live) + sum(one.rows for one in new.files) - deleted.rows
        return stage(
            index,
            run_of(looked.batch, looked.lookup, new, index.next_file, now),
            new_files={index.next_file + ordinal: path for ordinal, path in paths.items()},
            gone_files={numbers[one.path] for one in deleted.gone},
            truncated=looked.batch.folded.truncated,
            live_rows=rows,
        )

    def _prepared(self, looked: Looked, index: _Index, **files: Any) -> Prepared:
        """The delta with what the snapshot is to say of itself."""
        batch, counts = looked.batch, looked.counts
        watermark = batch.piece.next_watermark(
            self._head.watermark,
            newest=batch.newest,
            truncated=batch.folded.truncated,
            horizon=index.horizon,
            columns=self._following.columns,
        )
        summary = mirror_summary(watermark, index.pointer, vars(counts))
        return Prepared(RowDelta(summary, schema=self._schema, **files), watermark, index.pointer, counts)

    def _key(self, kind: str, ending: str = "parquet") -> str:
        return self._context.new_key(self._config, kind, ending)
