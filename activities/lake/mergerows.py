"""The rows that a batch leaves, as the mirror is to have them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.schema import Schema

from activities.core.fold import Places
from activities.core.mirrors import MirrorConfig
from activities.core.unchanged import resolve
from activities.lake.content import Files
from activities.lake.indexstore import MirrorIndex
from activities.lake.mergebatch import Batch
from activities.lake.mergelookup import Lookup
from activities.lake.mirrorrows import rows_at
from activities.lake.patching import patched

SLICE = 20_000
"""Rows that are put together at once when values of them come from the mirror: those are in no batch's size."""


@dataclass(frozen=True)
class Upserts:
    """New rows, in the order in which they are to lie in files.

    That is the order of the changelog, of which readers have more than of that of hashes.
    """

    rows: pa.Table
    order: npt.NDArray[np.int64]
    """Each one's place in the order of keys."""


@dataclass(frozen=True)
class MirrorFiles:
    """Where the mirror's rows are read."""

    config: MirrorConfig
    index: MirrorIndex
    files: Files
    schema: Schema
    """The mirror's with this commit: columns are called as the changelog calls them today."""


def final_rows(batch: Batch, lookup: Lookup, mirror: MirrorFiles) -> Iterator[Upserts]:
    """The rows of all upserts; values that changes did not carry come from older changes or from the mirror.

    Raises:
        ChangeInvalid: a change lacks a value that nothing older has.
    """
    folded, finals = batch.folded, np.flatnonzero(lookup.decision.upserts)
    order = _by_place(folded.rows[finals], len(batch.changes))
    sources = resolve(batch.changes, folded, batch.unchanged, lookup.found)
    if not len(sources.of(finals)):
        kept = np.zeros(len(batch.changes), np.bool_)
        kept[folded.rows[finals]] = True
        yield Upserts(batch.rows.filter(pa.array(kept)), order)
        return
    where, names = f"changelog {mirror.config.changelog}", batch.rows.column_names
    for start in range(0, len(order), SLICE):
        part = order[start : start + SLICE]
        chosen = np.sort(part)
        mine = finals[chosen]
        old = _old_rows(lookup, sources.of(mine).old_keys, mirror)
        rows = patched(batch.rows, folded, mine, sources, names, old, where)
        yield Upserts(rows.take(pa.array(np.searchsorted(chosen, part))), part)


def _by_place(rows: Places, count: int) -> Places:
    """Indices by which rows, each another one of `count`, ascend."""
    at = np.full(count, -1)
    at[rows] = np.arange(len(rows))
    return at[at >= 0]


def _old_rows(lookup: Lookup, keys: npt.NDArray[np.int64], mirror: MirrorFiles) -> pa.Table | None:
    """The mirror's rows of some keys of the batch, in their order; None when there are none."""
    if not len(keys):
        return None
    files, rows = lookup.found.file[keys], lookup.found.row[keys]
    order = np.lexsort((rows, files))
    numbers, starts = np.unique(files[order], return_index=True)
    parts = np.split(rows[order], starts[1:])
    found = [
        rows_at(mirror.files, mirror.schema, mirror.index.files[int(number)], part)
        for number, part in zip(numbers, parts, strict=True)
    ]
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return pa.concat_tables(found).take(pa.array(back))
