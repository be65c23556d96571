"""What the head of a mirror consists of: data files, and what is deleted of each. Manifests never change: read once."""

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace

from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.utils.concurrent import ExecutorFactory

from activities.core.faults import MirrorForeign
from activities.lake.remembered import Remembered
from activities.lake.storage import metadata_named

PATH_ID = 2147483546
"""Field id of the path in delete files."""
MOST_ENTRIES = 20_000
"""Entries of manifests that are remembered: a few kilobytes each."""
MOST_LISTED = 2_000
"""Manifests of lists that are remembered: a kilobyte or two each."""
READ_AHEAD = 8
"""Manifests whose entries are in memory at once, beside what is remembered."""


@dataclass(frozen=True)
class LiveFile:
    """A data file of the head."""

    data: DataFile
    sequence: int
    """Iceberg's own sequence number of the file."""
    deletes: tuple[DataFile, ...] = ()
    """Position delete files that may delete rows of it, as far as manifests tell: one at most when nobody but us wrote
    to the table."""

    @property
    def path(self) -> str:
        """As the manifest has it."""
        return self.data.file_path

    @property
    def rows(self) -> int:
        """Rows in the file, deleted ones included."""
        return self.data.record_count

    @property
    def partition(self) -> Hashable:
        """Of files with another one no delete file of this one speaks."""
        return _partition(self.data)


_known: Remembered[tuple[ManifestEntry, ...]] = Remembered(MOST_ENTRIES, len)
_listed: Remembered[tuple[ManifestFile, ...]] = Remembered(MOST_LISTED, len)
"""Manifest list → its manifests: PyIceberg reads it each time that it is asked."""


def manifests_of(io: FileIO, snapshot: Snapshot) -> tuple[ManifestFile, ...]:
    """The manifests of a snapshot; nobody may change them."""
    return _listed.get(snapshot.manifest_list, lambda: tuple(snapshot.manifests(io)))


def written(manifest_list: str, manifests: Iterable[ManifestFile]) -> None:
    """Remember a manifest list that was just written, as it would be read."""
    _listed.put(manifest_list, tuple(manifests))


def written_entries(manifest: str, entries: Iterable[ManifestEntry], sequence: int) -> None:
    """The same of a manifest of a table without partitions: values of others are not read as they were written.

    Files that came with it have the Iceberg sequence number `sequence`.
    """
    live = (
        ManifestEntry.from_args(
            status=entry.status,
            snapshot_id=entry.snapshot_id,
            sequence_number=sequence if entry.sequence_number is None else entry.sequence_number,
            file_sequence_number=sequence if entry.file_sequence_number is None else entry.file_sequence_number,
            data_file=entry.data_file,
        )
        for entry in entries
        if entry.status != ManifestEntryStatus.DELETED
    )
    _known.put(manifest, tuple(live))


def live_entries(io: FileIO, manifests: Iterable[ManifestFile]) -> Iterator[tuple[ManifestEntry, ...]]:
    """The entries of each manifest that are not deleted ones; nobody may change them.

    A few manifests are read ahead, however many there are and however long the caller takes.
    """

    def entries(manifest: ManifestFile) -> tuple[ManifestEntry, ...]:
        return _known.get(
            manifest.manifest_path, lambda: tuple(manifest.fetch_manifest_entry(io, discard_deleted=True))
        )

    pool, ahead = ExecutorFactory.get_or_create(), deque[Future[tuple[ManifestEntry, ...]]]()
    for manifest in manifests:
        ahead.append(pool.submit(entries, manifest))
        if len(ahead) > READ_AHEAD:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


@metadata_named()
def live_files(table: Table) -> dict[str, LiveFile]:
    """Path → data file, of everything that the head holds.

    Raises:
        MirrorForeign: somebody deletes rows by their values, which the index cannot follow.
        StoreUnavailable: a manifest cannot be read.
    """
    head = table.current_snapshot()
    if head is None:
        return {}
    io = table.io
    manifests = [one for one in manifests_of(io, head) if one.has_added_files() or one.has_existing_files()]
    data = [one for one in manifests if one.content == ManifestContent.DATA]
    deletes = [one for one in manifests if one.content == ManifestContent.DELETES]
    found = {
        entry.data_file.file_path: LiveFile(entry.data_file, entry.sequence_number or 0)
        for entries in live_entries(io, data)
        for entry in entries
    }
    return with_deletes(found, _position_deletes(table, deletes))


def with_deletes(live: Mapping[str, LiveFile], deletes: Iterable[tuple[DataFile, int]]) -> dict[str, LiveFile]:
    """The files in the order of their paths, each with those of these delete files that may delete rows of it, too.

    A delete file comes with its Iceberg sequence number. It may delete rows of data files of its partition that are not
    newer, and that lie between the bounds of `file_path`, if it has any.
    """
    found, added = {path: live[path] for path in sorted(live)}, defaultdict[str, list[DataFile]](list)
    paths = defaultdict[Hashable, list[str]](list)
    for path, file in found.items():
        paths[file.partition].append(path)
    for delete, sequence in deletes:
        there, (lower, upper) = paths[_partition(delete)], _path_bounds(delete)
        first = 0 if lower is None else bisect_left(there, lower, key=str.encode)
        stop = len(there) if upper is None else bisect_right(there, upper, key=str.encode)
        for path in there[first:stop]:
            if found[path].sequence <= sequence:
                added[path].append(delete)
    return found | {path: replace(found[path], deletes=(*found[path].deletes, *more)) for path, more in added.items()}


def _position_deletes(table: Table, manifests: Iterable[ManifestFile]) -> Iterator[tuple[DataFile, int]]:
    for entries in live_entries(table.io, manifests):
        for entry in entries:
            if entry.data_file.content == DataFileContent.EQUALITY_DELETES:
                raise MirrorForeign(
                    f"mirror {'.'.join(table.name())}: another writer deleted rows by their values (equality delete "
                    f"file {entry.data_file.file_path}), which merges cannot follow; compact the table with that "
                    "engine until it has no such file, or roll it back to the snapshot before"
                )
            yield entry.data_file, entry.sequence_number or 0


@metadata_named()
def dangling_deletes(table: Table, live: Mapping[str, LiveFile]) -> list[DataFile]:
    """Delete files about data files that the head does not have any more: other writers may leave them behind."""
    head = table.current_snapshot()
    io = table.io
    manifests = manifests_of(io, head) if head is not None else ()
    deletes = [one for one in manifests if one.content == ManifestContent.DELETES]
    files = [entry.data_file for entries in live_entries(io, deletes) for entry in entries]
    known = {one.file_path for file in live.values() for one in file.deletes}
    return [file for file in files if file.file_path not in known]


@dataclass(frozen=True)
class Held:
    """Every file that a head names, by path."""

    data: dict[str, DataFile]
    deletes: dict[str, DataFile]
    """Of whatever kind."""


@metadata_named()
def held_files(table: Table) -> Held:
    """What the head holds, whoever wrote it.

    Raises:
        StoreUnavailable: a manifest cannot be read.
    """
    head, held = table.current_snapshot(), Held({}, {})
    manifests = () if head is None else manifests_of(table.io, head)
    for manifest, entries in zip(manifests, live_entries(table.io, manifests), strict=True):
        into = held.data if manifest.content == ManifestContent.DATA else held.deletes
        into.update((entry.data_file.file_path, entry.data_file) for entry in entries)
    return held


def only_path(file: DataFile) -> str | None:
    """The one data file that a delete file is about, if its bounds say so."""
    lower, upper = _path_bounds(file)
    return lower.decode() if lower is not None and lower == upper else None


def _path_bounds(file: DataFile) -> tuple[bytes | None, bytes | None]:
    return (file.lower_bounds or {}).get(PATH_ID), (file.upper_bounds or {}).get(PATH_ID)


def _partition(file: DataFile) -> Hashable:
    return file.spec_id, tuple(map(_comparable, (file.partition[place] for place in range(len(file.partition)))))


def _comparable(value: object) -> object:
    """Every NaN as one, which is its own equal since it is the same object."""
    return math.nan if isinstance(value, float) and math.isnan(value) else value
