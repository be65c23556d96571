"""The rows that a batch leaves, as the mirror is to have them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.schema import Schema

from activities.core.mirrors import MirrorConfig
from activities.lake.content import Files
from activities.lake.indexstore import MirrorIndex
from activities.lake.mergebatch import Batch
from activities.lake.mergelookup import Lookup


@dataclass(frozen=True)
class Upserts:
    """New rows, in the order in which they are to lie in files.

    That is the order of the changelog, of which readers have more than of that of hashes.
    """

    rows: pa.Table
    order: npt.NDArray[np.int64]
    """Each one's place in the order of keys."""


def final_rows(
    config: MirrorConfig, batch: Batch, lookup: Lookup, index: MirrorIndex, files: Files, schema: Schema
) -> Upserts:
    """The rows of all upserts; values that changes did not carry come from older changes or from the mirror.

    `schema` is the mirror's with this commit.

    Raises:
        ChangeInvalid: a change lacks a value that nothing older has.
    """
    rows = batch.folded.rows[lookup.decision.upserts]
    order = np.argsort(rows, kind="stable")
    return Upserts(batch.rows.take(pa.array(rows[order])), order)
