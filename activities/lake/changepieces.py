"""Cutting what is pending into pieces that fit into memory, each merged in one commit."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from activities.core.cutting import Mark
from activities.core.mirrors import Watermark
from activities.lake.changecuts import cut
from activities.lake.changereading import TooWide, read
from activities.lake.changes import ChangelogSnapshot, Pending, Piece
from activities.lake.content import Files

COMPRESSION = 4
"""So many times as large as its object are a file's rows in memory, more or less; reading counts what they are."""


@dataclass(frozen=True)
class Taken:
    """A piece, and its changes."""

    piece: Piece
    changes: pa.Table
    """In the changelog's order, with the names and types that it has today."""


def take(pending: Pending, watermark: Watermark, files: Files, columns: Sequence[str]) -> Taken | None:
    """The changes that come next after `watermark`, within what config says of a batch; None: there is nothing to do.

    Args:
        pending: What there is; pieces of it may have been merged meanwhile, up to `watermark`.
        watermark: The mirror's.
        files: The store's.
        columns: Names of columns of the changelog.

    Raises:
        BadConfig: the changelog has no such column.
        ChangeInvalid: of a snapshot that is cut, a sequence number or operation is none.
        ObjectRefused, StoreRefused, StoreUnavailable: a file cannot be read.
    """
    rows, size = pending.config.batch_rows, pending.config.batch_bytes
    while piece := next_piece(pending, watermark, files, rows=rows, size=size):
        try:
            # The smallest piece there is may have a delete and the insert that belongs to it, and is read however wide.
            return Taken(piece, read(piece, files, columns, size if rows > 1 else None))
        except TooWide as wide:
            rows = max(1, min(wide.rows, rows - 1))
    return None


def next_piece(pending: Pending, watermark: Watermark, files: Files, *, rows: int, size: int) -> Piece | None:
    """The changes that come next after `watermark`; None when there is nothing to do.

    Whole snapshots while they fit; of one that does not fit a part. A piece without changes is answered when the
    watermark should move all the same.

    Args:
        pending: What there is, of which pieces before `watermark` were merged meanwhile.
        watermark: The mirror's.
        files: The store's; of a snapshot that is cut, sequence numbers are read.
        rows: Changes, at most; a delete and the insert that belongs to it may be one more.
        size: Bytes, about, as Arrow holds them.
    """
    if not has_next(pending, watermark):
        return None
    left = left_of(pending, watermark)
    if not any(one.files for one in left):
        return Piece(pending.table, pending.config, tuple(left))
    if whole := _whole(left, watermark, rows, size):
        return Piece(pending.table, pending.config, tuple(whole))
    first = next(one for one in left if one.files)
    return cut(pending, first, _mark(first, watermark), files, rows)


def has_next(pending: Pending, watermark: Watermark) -> bool:
    """Whether there is a piece after `watermark`."""
    left = left_of(pending, watermark)
    return any(one.files for one in left) or bool(left and pending.rewritten)


def _whole(
    snapshots: Sequence[ChangelogSnapshot], watermark: Watermark, rows: int, size: int
) -> list[ChangelogSnapshot]:
    """Those that fit together; empty when not even the first with changes does."""
    whole: list[ChangelogSnapshot] = []
    for snapshot in snapshots:
        rows, size = rows - snapshot.rows, size - snapshot.bytes * COMPRESSION
        if rows < 0 or size < 0 or (snapshot.files and _mark(snapshot, watermark)):
            break
        whole.append(snapshot)
    return whole if any(one.files for one in whole) else []


def left_of(pending: Pending, watermark: Watermark) -> list[ChangelogSnapshot]:
    """What was pending and is not merged yet; a snapshot that is merged in part is whole here."""
    places = [place for place, one in enumerate(pending.snapshots) if one.id == watermark.snapshot_id]
    return list(pending.snapshots[places[0] + 1 if places else 0 :])


def waits_since(pending: Pending, watermark: Watermark) -> int:
    """When the oldest change that is not merged yet was committed, or somewhat earlier, ms since 1970; 0: none is."""
    begun = next((one for one in pending.snapshots if one.files), None)
    first = next((one for one in left_of(pending, watermark) if one.files), None)
    if first is None:
        return 0
    # What was the first of all may stand for several snapshots.
    return pending.oldest_ms if first is begun else first.committed_ms


def _mark(snapshot: ChangelogSnapshot, watermark: Watermark) -> Mark | None:
    """Up to where a snapshot is merged; None: nothing of it is."""
    if not watermark.partial or snapshot.id != watermark.partial_snapshot:
        return None
    return Mark(int(watermark.partial, 16), watermark.partial_ties)
