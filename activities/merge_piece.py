"""One piece of a changelog, from its changes to what is to be committed: files stored, manifests' entries described."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from opentelemetry import propagate
from temporalio import activity

from activities import failpoints
from activities.abreast import each
from activities.core.mirrors import INDEX, PREFIX, WATERMARK, IndexPointer, MirrorConfig, Watermark
from activities.core.mirrorschema import Following
from activities.lake import mergerows, mergewrite
from activities.lake.indexstaging import StagedIndex, stage
from activities.lake.live import LiveFile
from activities.lake.mergebatch import Batch
from activities.lake.mergelookup import NOTHING, Lookup, Truncated, look_up, truncate
from activities.lake.mergewrite import Deleted, NewRows
from activities.lake.mirrorfiles import all_described
from activities.lake.positiondeletes import described
from activities.lake.rowdelta import RowDelta, metadata_after
from activities.merge_metrics import MergeTimings, index_told, lookup_told
from activities.mirror_context import MirrorContext
from activities.mirror_head import Head
from activities.mirror_objects import store_object, store_objects
from activities.storing import undisturbed


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
    counts: Counts


@dataclass(frozen=True)
class _Index:
    """What the summary says of the index, and what was forgotten with it."""

    pointer: IndexPointer | None
    horizon: str = ""


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
        self._schema = mergewrite.schema_after(head.mirror.table, following)
        self._metadata = metadata_after(head.mirror.table, self._schema)

    async def prepare(self, batch: Batch, directory: Path) -> Prepared:
        """Look keys up, write and store files; `directory` is where they are made.

        Raises:
            IndexUnusable: the index does not fit the mirror.
            ChangeInvalid: a change lacks a value that nothing older has.
        """
        with self._timings.phase("lookup"):
            lookup = await asyncio.to_thread(look_up, self._head.index, batch, self._head.watermark)
            lookup_told(self._config.mirror, len(lookup.found.known), int(lookup.found.known.sum()))
            truncated = await asyncio.to_thread(self._truncate, batch)
        counts = _counts(batch, lookup, truncated)
        if not _changes(lookup, truncated) and self._schema is None:
            return self._prepared(batch, counts, _Index(self._head.mirror.index), NewRows.none(), {}, Deleted())
        with self._timings.phase("write"):
            new, deleted = await self._write(batch, lookup, truncated, directory)
            data_paths = {one.ordinal: self._path("data", one.path.name) for one in new.files}
            delete_paths = [self._path("deletes", f"{one.name}.parquet") for one, _ in deleted.made]
        ...
