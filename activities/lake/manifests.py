"""Manifests of a snapshot that changes some files: few, small, and only those that say something new."""

import logging
import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.utils.concurrent import ExecutorFactory

from activities.core.faults import MirrorForeign
from activities.lake.live import live_entries, manifests_of, written, written_entries

MERGE_AT = 20
"""Small manifests of one kind and spec that are put together."""
SMALL = 250
"""Live files of which a manifest has fewer to be small."""
MOST_MERGED = 100
"""Of which at most so many at once, since their entries are in memory."""
LARGEST = 500
"""Entries of a manifest that is written, at most."""
_COMPRESSION = "write.avro.compression-codec"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileChange:
    """Files of one kind that come and go."""

    add: Sequence[DataFile] = ()
    remove: Sequence[DataFile] = ()


class _DeleteManifestWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


_WRITERS = {ManifestContent.DATA: ManifestWriterV2, ManifestContent.DELETES: _DeleteManifestWriter}


@dataclass
class _Group:
    """What one spec's manifests are to say anew."""

    fresh: list[ManifestEntry] = field(default_factory=list)
    kept: list[ManifestFile] = field(default_factory=list)


class SnapshotManifests:
    """The manifests and the manifest list of one snapshot that follows the head of a table.

    `metadata` is the table's once what is staged before the snapshot has landed. Methods block.
    """

    def __init__(self, table: Table, metadata: TableMetadata, snapshot_id: int, merge_at: int | None = None) -> None:
        self._io: FileIO = table.io
        self._metadata = metadata
        self._head = table.current_snapshot()
        self._name = ".".join(table.name())
        self._snapshot_id = snapshot_id
        self._merge_at = MERGE_AT if merge_at is None else merge_at
        self._locations = table.location_provider()
        self._id = uuid.uuid4()
        self._numbers = count()
        self._codec = metadata.properties.get(_COMPRESSION, "gzip")
        self._written: list[str] = []

    def write(self, data: FileChange, deletes: FileChange) -> tuple[str, list[ManifestFile]]:
        """Write all of them; answers the manifest list's path, and what it holds."""
        known = manifests_of(self._io, self._head) if self._head is not None else ()
        there = [one for one in known if one.has_added_files() or one.has_existing_files()]
        planned = {
            content: self._grouped(content, change, [one for one in there if one.content == content])
            for content, change in ((ManifestContent.DATA, data), (ManifestContent.DELETES, deletes))
        }
        jobs = [
            (content, spec, part)
            for content, groups in planned.items()
            for spec, group in groups.items()
            for part in _parts(group.fresh)
        ]
        made = list(ExecutorFactory.get_or_create().map(lambda job: self._write(*job), jobs))
        kept = [one for groups in planned.values() for group in groups.values() for one in group.kept]
        return self._write_list([*made, *kept]), [*made, *kept]

    def clean(self) -> None:
        """Delete what was written, which no snapshot names."""
        for path in self._written:
            try:
                self._io.delete(path)
            except OSError as left:
                logger.warning("mirror %s: %s of a refused commit is left behind: %s", self._name, path, left)
        self._written.clear()

    def _grouped(
        self, content: ManifestContent, change: FileChange, manifests: Sequence[ManifestFile]
    ) -> dict[int, _Group]:
        """Spec → what is to be written and what stays as it is."""
        groups: dict[int, _Group] = defaultdict(_Group)
        for file in change.add:
            groups[file.spec_id].fresh.append(self._entry(ManifestEntryStatus.ADDED, file))
        gone = {file.file_path for file in change.remove}
        for manifest in manifests:
            groups[manifest.partition_spec_id].kept.append(manifest)
        for group in groups.values():
            gone -= self._take_out(group, gone)
            self._take_small(group)
        if gone:
            raise MirrorForeign(
                f"mirror {self._name}: its head does not hold {', '.join(sorted(gone)[:5])} ({content.name.lower()}); "
                "look for what changed the table, then merge again"
            )
        return groups

    def _take_out(self, group: _Group, gone: Collection[str]) -> set[str]:
        """Write anew the manifests that hold what goes; answers what was found."""
        found: set[str] = set()
        if not gone:
            return found
        kept = list[ManifestFile]()
        for manifest, entries in zip(group.kept, live_entries(self._io, group.kept), strict=True):
            leaving = {entry.data_file.file_path for entry in entries} & set(gone)
            if not leaving:
                kept.append(manifest)
                continue
            found |= leaving
            group.fresh += [self._again(entry, gone) for entry in entries]
        group.kept = kept
        return found

    def _take_small(self, group: _Group) -> None:
        """Put small manifests together once there are many of them."""
        small = [one for one in group.kept if is_small(one)][:MOST_MERGED]
        if len(small) + bool(group.fresh) < self._merge_at:
            return
        taken = [self._again(entry, ()) for entries in live_entries(self._io, small) for entry in entries]
        # Those of one partition beside each other, so that readers need not open every manifest.
        group.fresh += sorted(taken, key=_place_of)
        group.kept = [one for one in group.kept if one not in small]

    def _again(self, entry: ManifestEntry, gone: Collection[str]) -> ManifestEntry:
        is_gone = entry.data_file.file_path in gone
        return ManifestEntry.from_args(
            status=ManifestEntryStatus.DELETED if is_gone else ManifestEntryStatus.EXISTING,
            snapshot_id=self._snapshot_id if is_gone else entry.snapshot_id,
            sequence_number=entry.sequence_number,
            file_sequence_number=entry.file_sequence_number,
            data_file=entry.data_file,
        )

    def _entry(self, status: ManifestEntryStatus, file: DataFile) -> ManifestEntry:
        return ManifestEntry.from_args(
            status=status,
            snapshot_id=self._snapshot_id,
            sequence_number=None,
            file_sequence_number=None,
            data_file=file,
        )

    def _write(self, content: ManifestContent, spec: int, entries: Sequence[ManifestEntry]) -> ManifestFile:
        path = self._path(f"{self._id}-m{next(self._numbers)}.avro")
        writer = _WRITERS[content](
            self._metadata.specs()[spec],
            self._metadata.schema(),
            self._io.new_output(path),
            self._snapshot_id,
            self._codec,  # type: ignore[arg-type]  # PyIceberg names the codecs that it knows, and refuses others itself
        )
        with writer:
            for entry in entries:
                writer.add_entry(entry)
        if not self._metadata.specs()[spec].fields:
            written_entries(path, entries, self._metadata.next_sequence_number())
        return writer.to_manifest_file()

    def _write_list(self, manifests: Sequence[ManifestFile]) -> str:
        path = self._path(f"snap-{self._snapshot_id}-0-{self._id}.avro")
        with write_manifest_list(
            format_version=2,
            output_file=self._io.new_output(path),
            snapshot_id=self._snapshot_id,
            parent_snapshot_id=self._head.snapshot_id if self._head is not None else None,
            sequence_number=self._metadata.next_sequence_number(),
            avro_compression=self._codec,  # type: ignore[arg-type]
        ) as writer:
            writer.add_manifests(list(manifests))
        written(path, map(writer.prepare_manifest, manifests))
        return path

    def _path(self, name: str) -> str:
        path = self._locations.new_metadata_location(name)
        self._written.append(path)
        return path


def _parts(entries: Sequence[ManifestEntry]) -> list[Sequence[ManifestEntry]]:
    """The entries in parts of about the same size, none too large."""
    parts = -(-len(entries) // LARGEST)
    size = -(-len(entries) // parts) if parts else 1
    return [entries[start : start + size] for start in range(0, len(entries), size)]


def is_small(manifest: ManifestFile) -> bool:
    """Whether a manifest holds so little that it is better put together with others."""
    return _live_count(manifest) < SMALL


def _place_of(entry: ManifestEntry) -> list[tuple[bool, Any]]:
    partition = entry.data_file.partition
    return [(partition[at] is not None, partition[at]) for at in range(len(partition))]


def _live_count(manifest: ManifestFile) -> int:
    return (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
