"""Which files snapshots of a changelog brought, read from as few manifests as will do."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, DataFileContent, ManifestContent, ManifestEntry, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from activities.lake.changes import ChangelogFile
from activities.lake.live import manifests_of


@dataclass(frozen=True)
class Brought:
    """What one snapshot did, by its own account."""

    added: tuple[ChangelogFile, ...]
    removed: tuple[ChangelogFile, ...]
    deletes: bool
    """Whether it added delete files."""


class ChangelogFiles:
    """The files of one changelog."""

    def __init__(self, table: Table, sequence_column: str) -> None:
        self._table = table
        found = [field for field in table.schema().fields if field.name == sequence_column]
        self._sequence = found[0] if found else None

    def added_by(self, ids: Collection[int], newest: Snapshot, after: int) -> list[ChangelogFile]:
        """Data files that the snapshots `ids` added and that are still there in `newest`, in the changelog's order.

        `after` is an Iceberg sequence number that is smaller than theirs, 0 if nobody knows one.
        """
        found = self._entries(newest, ManifestContent.DATA, after)
        return self._sorted(entry for entry in found if entry.snapshot_id in ids)

    def live(self, snapshot: Snapshot, after: int = 0) -> list[ChangelogFile]:
        """Data files of a snapshot whose own sequence number is above `after`, in the changelog's order."""
        found = self._entries(snapshot, ManifestContent.DATA, after)
        return self._sorted(entry for entry in found if not after or (entry.file_sequence_number or 0) > after)

    def has_deletes(self, snapshot: Snapshot, after: int = 0) -> bool:
        """Whether rows of its files are deleted, by commits with a sequence number above `after`."""
        return any(self._entries(snapshot, ManifestContent.DELETES, after))

    def missing(self, before: Snapshot, now: Snapshot) -> list[str]:
        """Data files that `before` has and `now` has not."""
        theirs = {manifest.manifest_path for manifest in manifests_of(self._table.io, now)}
        kept = self._paths(before, theirs)
        return sorted(kept - self._paths(now, set())) if kept else []

    def brought_by(self, snapshot: Snapshot) -> Brought:
        """What a snapshot added and removed."""
        own = [one for one in manifests_of(self._table.io, snapshot) if one.added_snapshot_id == snapshot.snapshot_id]
        entries = [
            entry
            for manifest in own
            for entry in manifest.fetch_manifest_entry(self._table.io, discard_deleted=False)
            if entry.snapshot_id == snapshot.snapshot_id
        ]
        data = [entry for entry in entries if entry.data_file.content == DataFileContent.DATA]
        return Brought(
            tuple(self._sorted(entry for entry in data if entry.status == ManifestEntryStatus.ADDED)),
            tuple(self._sorted(entry for entry in data if entry.status == ManifestEntryStatus.DELETED)),
            any(
                entry.data_file.content != DataFileContent.DATA and entry.status == ManifestEntryStatus.ADDED
                for entry in entries
            ),
        )

    def ends_of(self, files: Sequence[ChangelogFile]) -> tuple[Any, Any] | None:
        """The smallest and the largest sequence number as manifests have them; None when one does not say."""
        lows = [self._bound(file.data.lower_bounds) for file in files]
        highs = [self._bound(file.data.upper_bounds) for file in files]
        if not files or None in lows or None in highs:
            return None
        return min(lows), max(highs)

    def _paths(self, snapshot: Snapshot, known: Collection[str]) -> set[str]:
        return {
            str(entry.data_file.file_path)
            for manifest in manifests_of(self._table.io, snapshot)
            if manifest.content == ManifestContent.DATA and manifest.manifest_path not in known
            for entry in manifest.fetch_manifest_entry(self._table.io, discard_deleted=True)
        }

    def _entries(self, snapshot: Snapshot, content: ManifestContent, after: int) -> Iterator[ManifestEntry]:
        """Live entries; manifests that were written by commits up to `after` stay closed."""
        for manifest in manifests_of(self._table.io, snapshot):
            if manifest.content != content or (after and (manifest.sequence_number or 0) <= after):
                continue
            yield from manifest.fetch_manifest_entry(self._table.io, discard_deleted=True)

    def _sorted(self, entries: Iterator[ManifestEntry]) -> list[ChangelogFile]:
        return sorted((self._file(entry) for entry in entries), key=lambda file: file.order)

    def _file(self, entry: ManifestEntry) -> ChangelogFile:
        data: DataFile = entry.data_file
        number, low = entry.file_sequence_number or 0, self._bound(data.lower_bounds)
        order = (number, low is not None, low if low is not None else 0, data.file_path)
        return ChangelogFile(data, entry.snapshot_id or 0, number, order)

    def _bound(self, bounds: dict[int, bytes] | None) -> Any:
        raw = (bounds or {}).get(self._sequence.field_id) if self._sequence is not None else None
        return None if raw is None or self._sequence is None else from_bytes(self._sequence.field_type, raw)  # type: ignore[arg-type]
