"""The rows that a batch brings, with the values that their changes do not carry put in."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from activities.core.faults import ChangeInvalid
from activities.core.fold import Folded, Places
from activities.core.sequences import sequence_text
from activities.core.unchanged import Sources


def patched(
    table: pa.Table,
    folded: Folded,
    finals: Places,
    sources: Sources,
    names: Sequence[str],
    old_rows: pa.Table | None,
    where: str,
) -> pa.Table:
    """The rows of some folded changes, in their order, with the columns of `table`.

    Where rows are wide, do it in slices of `finals`: values that changes do not carry are in no batch's size.

    Args:
        table: The batch, a row for each change.
        folded: What is left of it.
        finals: Which of the folded changes: indices of `folded.rows`, ascending.
        sources: What `resolve` found, of any changes.
        names: The columns of `table` that `sources` counts.
        old_rows: The mirror's rows of the keys `sources.of(finals).old_keys`, in that order; columns that the mirror
            does not have yet may be missing. None when there are none.
        where: Which changelog it is.

    Raises:
        ChangeInvalid: a value is nowhere.
    """
    rows, lacked = folded.rows[finals], sources.of(finals)
    lost = np.flatnonzero((lacked.events < 0) & (lacked.keys < 0))
    if len(lost):
        raise _lost(folded, int(finals[lacked.finals[lost[0]]]), names[lacked.columns[lost[0]]], where)
    old = len(table) + np.searchsorted(lacked.old_keys, lacked.keys)
    places = np.where(lacked.events >= 0, lacked.events, old)
    columns = []
    for name, values in zip(table.column_names, table.columns, strict=True):
        mine = np.flatnonzero(lacked.columns == names.index(name)) if name in names else np.empty(0, dtype=np.int64)
        taken = rows.copy()
        taken[lacked.finals[mine]] = places[mine]
        source = values if not len(mine) else _followed(values, name, old_rows)
        columns.append(source.take(pa.array(taken)))
    return pa.Table.from_arrays(columns, schema=table.schema)


def _followed(values: pa.ChunkedArray, name: str, old_rows: pa.Table | None) -> pa.ChunkedArray:
    """The batch's values and then the mirror's."""
    if old_rows is None:
        return values
    missing = name not in old_rows.column_names
    old = pa.chunked_array([pa.nulls(len(old_rows), values.type)]) if missing else old_rows[name].cast(values.type)
    return pa.chunked_array([*values.chunks, *old.chunks], values.type)


def _lost(folded: Folded, final: int, name: str, where: str) -> ChangeInvalid:
    number = sequence_text(folded.sequences.high[final], folded.sequences.low[final])
    return ChangeInvalid(
        f"{where}: the change with the sequence number {number} (hex) does not carry {name}, and neither does an older "
        "change nor the mirror; have the table copied anew (icefleet cdc install --again), or append the whole row to "
        "the changelog with a greater sequence number"
    )
