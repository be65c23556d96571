"""What a changelog has beyond a mirror's watermark, and the pieces in which it is merged: the records of both."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from activities.core.cutting import Mark
from activities.core.mirrors import MirrorConfig, Watermark

Order = tuple[Any, ...]


@dataclass(frozen=True)
class ChangelogFile:
    """A data file with changes."""

    data: DataFile
    snapshot_id: int
    """Of the snapshot that added it, which may have expired."""
    sequence_number: int
    """Iceberg's own, of that snapshot; 0 in tables of format 1."""
    order: Order
    """Files of a changelog have an order by this, and with the position of rows so have changes."""

    @property
    def path(self) -> str:
        """As the manifest has it."""
        return str(self.data.file_path)

    @property
    def rows(self) -> int:
        """Changes."""
        return int(self.data.record_count)

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return int(self.data.file_size_in_bytes)


@dataclass(frozen=True)
class ChangelogSnapshot:
    """A snapshot of the changelog with what it brought; or several of them, when those before it have expired."""

    id: int
    sequence_number: int
    """Iceberg's own."""
    committed_ms: int
    files: tuple[ChangelogFile, ...] = ()
    """In the order of their changes."""

    @property
    def rows(self) -> int:
        """Changes."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Of its objects."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Pending:
    """Everything that a mirror has not merged yet, oldest first."""

    table: Table
    """The changelog, as it was loaded."""
    config: MirrorConfig
    before: Watermark
    """Where this begins; that of a new mirror when there was none."""
    snapshots: tuple[ChangelogSnapshot, ...]
    """Up to the head; those without effect included."""
    oldest_ms: int = 0
    """When the oldest change was committed, or somewhat earlier; 0: there is none."""
    rewritten: bool = False
    """Whether files that were merged are in other files now. Then the watermark should move also when there are no
    changes: once the snapshot that rewrote them has expired, nobody could tell that nothing was taken away."""

    @property
    def rows(self) -> int:
        """Changes. Of a snapshot that is merged in part, all are counted."""
        return sum(snapshot.rows for snapshot in self.snapshots)

    @property
    def has_changes(self) -> bool:
        """Whether any snapshot has."""
        return any(snapshot.files for snapshot in self.snapshots)


@dataclass(frozen=True)
class FileRows:
    """Some rows of a row group."""

    file: ChangelogFile
    group: int
    rows: npt.NDArray[np.int64]
    """0-based positions in the row group, ascending."""


@dataclass(frozen=True)
class Piece:
    """Changes that are merged in one commit: of whole snapshots, or a part of one."""

    table: Table
    config: MirrorConfig
    snapshots: tuple[ChangelogSnapshot, ...]
    """One, when this is a part of it."""
    part: tuple[FileRows, ...] | None = None
    """The changes, in the changelog's order; None: all of the snapshots."""
    until: Mark | None = None
    """Up to where its snapshot is merged with this piece; None: all of it."""

    @property
    def rows(self) -> int:
        """Changes."""
        if self.part is None:
            return sum(snapshot.rows for snapshot in self.snapshots)
        return sum(len(one.rows) for one in self.part)

    @property
    def files(self) -> Iterator[ChangelogFile]:
        """Of all snapshots, in order."""
        return (file for snapshot in self.snapshots for file in snapshot.files)

    def next_watermark(
        self,
        before: Watermark,
        *,
        newest: str = "",
        truncated: str = "",
        horizon: str = "",
        columns: Mapping[str, str] | None = None,
    ) -> Watermark:
        """The mirror's watermark once this is merged.

        Args:
            before: The one before it.
            newest: The greatest sequence number of the piece, 32 hex digits; empty: it has none.
            truncated: The greatest one of its truncates.
            horizon: That of deletes that are not remembered any more.
            columns: See `Watermark.columns`; None: as before.
        """
        last = self.snapshots[-1]
        moved = replace(
            before,
            newest=max(before.newest, newest),
            truncated=max(before.truncated, truncated),
            horizon=max(before.horizon, horizon),
            columns=dict(before.columns if columns is None else columns),
        )
        if self.until is not None:
            return replace(
                moved,
                partial=f"{self.until.sequence:032x}",
                partial_ties=self.until.ties,
                partial_snapshot=last.id,
                partial_sequence_number=last.sequence_number,
                partial_committed_ms=last.committed_ms,
            )
        return replace(
            moved,
            snapshot_id=last.id,
            sequence_number=last.sequence_number,
            committed_ms=last.committed_ms,
            partial="",
            partial_ties=0,
            partial_snapshot=None,
            partial_sequence_number=0,
            partial_committed_ms=0,
        )
