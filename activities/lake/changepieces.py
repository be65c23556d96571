"""Cutting what is pending into pieces that fit into memory, each merged in one commit."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from activities.core.mirrors import Watermark
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
            return Taken(piece, read(piece, files, columns, size))
        except TooWide as wide:
            rows = min(wide.rows, max(1, piece.rows - 1))
    return None


def next_piece(pending: Pending, watermark: Watermark, files: Files, *, rows: int, size: int) -> Piece | None:
    """The changes that come next after `watermark`; None when there is nothing to do.

    Whole snapshots while they fit; of one that does not fit a part. A piece without changes is answered when the
    watermark should move all the same.

    Args:
        pending: What there is, of which pieces before `watermark` were merged meanwhile.
        watermark: The mirror's.
        files: The store's; of a snapshot that is cut, sequence numbers are read.
        rows: Changes, at most; more only where many have the same sequence number.
        size: Bytes, about, as Arrow holds them.
    """
    left = [one for one in pending.snapshots if not _is_merged(one, watermark, pending)]
    if not any(one.files for one in left):
        return Piece(pending.table, pending.config, tuple(left)) if left and pending.rewritten else None
    whole: list[ChangelogSnapshot] = []
    held, weight = 0, 0
    for snapshot in left:
        held, weight = held + snapshot.rows, weight + snapshot.bytes * COMPRESSION
        if held > rows or weight > size or _is_part(snapshot, watermark):
            break
        whole.append(snapshot)
    if any(one.files for one in whole):
        return Piece(pending.table, pending.config, tuple(whole))
    raise NotImplementedError


def _is_merged(snapshot: ChangelogSnapshot, watermark: Watermark, pending: Pending) -> bool:
    """Whether the watermark has passed a snapshot since it was pending."""
    ids = [one.id for one in pending.snapshots]
    return watermark.snapshot_id in ids and ids.index(snapshot.id) <= ids.index(watermark.snapshot_id)


def _is_part(snapshot: ChangelogSnapshot, watermark: Watermark) -> bool:
    return bool(watermark.partial) and snapshot.id == watermark.partial_snapshot
