"""The index of a mirror as its head snapshot names it: opened, looked into, and continued by the next merge.

An index is never believed without proof: its head is what the snapshot's summary says it is (SHA-256), its segments are
what the head says, and the data files that it knows are those that the snapshot has. Anything else is `IndexUnusable`,
and the caller makes the index anew (`indexrebuild`).
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from activities.core.faults import ObjectRefused
from activities.core.index import Found, between, find, fold, without_older, without_truncated
from activities.core.indexmoves import Moves, follow, moved
from activities.core.indexsegments import Segment
from activities.core.mirrors import Entries, IndexPointer, Keys
from activities.lake.indexcache import IndexCache
from activities.lake.indexentries import read_entries
from activities.lake.indexhead import (
    PROPERTY,
    VERSION,
    BlobPlace,
    Head,
    IndexUnusable,
    MovesRecord,
    SegmentRecord,
    load_files,
    objects_of,
)
from activities.lake.indexmoves import known as known_moves
from activities.lake.indexmoves import load_moves
from activities.lake.puffin import footer_length, read_footer

_TAIL = 2**16
_PIECE = 2**23
_WORD_DIGITS = 16


class ReadPart(Protocol):
    """`Files.part`: some bytes of an object."""

    def __call__(self, path: str, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on; fewer only at the object's end."""


class MirrorIndex:
    """An index that has been opened. Methods block, and only one may run at a time."""

    def __init__(
        self,
        cache: IndexCache,
        head: Head,
        files: Mapping[int, str],
        segments: Sequence[Segment] = (),
        moves: Sequence[Moves] = (),
    ) -> None:
        self.head = head
        self.segments = tuple(segments)
        """Those of the head, in its order: what is mapped stays, whatever the cache deletes meanwhile."""
        self.moves = tuple(moves)
        """Those of the head, oldest first."""
        self.files: Mapping[int, str] = dict(files)
        """Number → path (as Iceberg writes it) of every live data file."""
        self.cache = cache
        self._is_live = np.zeros(max(head.next_file, 1), np.bool_)
        self._is_live[list(files)] = True

    @classmethod
    def empty(cls, cache: IndexCache, table_uuid: str) -> "MirrorIndex":
        """The index of a mirror that has no rows and forgot none."""
        return cls(cache, Head(table_uuid), {})

    @property
    def next_file(self) -> int:
        """The number that the next new data file gets; the one after that gets the next."""
        return self.head.next_file

    def find(self, keys: Keys) -> Found:
        """Look up keys that are sorted by `high`; 100,000 in 10 million take some 25 ms.

        Raises:
            IndexUnusable: an entry names a data file that the mirror has no more.
        """
        found = without_older(find(self._in_turn(), keys), pair(self.head.truncated))
        file, row = follow(self.moves, found.file, found.row)
        found = Found(found.known, file, row, found.sequences)
        numbers = found.file[found.live]
        lost = numbers[~self._is_live[np.minimum(numbers, len(self._is_live) - 1)] | (numbers >= self.next_file)]
        if len(lost):
            raise IndexUnusable(f"{len(lost)} of its entries name data files that are gone, such as number {lost[0]}")
        return found

    def _in_turn(self) -> Iterator[Segment]:
        for record, segment in zip(self.head.segments, self.segments, strict=True):
            yield segment
            self.cache.let_go(record.place.sha256)

    def let_go(self) -> None:
        """Keep nothing of it in memory until it is looked into again, unless it is small."""
        self.cache.let_go(*(record.place.sha256 for record in self.head.segments))

    def entries(self, first: int, stop: int | None) -> Entries:
        """What it says of all keys with `first <= high < stop` (no `stop`: from `first` on), as one segment."""
        parts = [between(one.entries, first, stop) for one in self.segments]
        return moved(self.moves, without_truncated(fold(parts), pair(self.head.truncated)))


def open_index(
    read: ReadPart,
    cache: IndexCache,
    pointer: IndexPointer | None,
    table_uuid: str,
    data_files: Collection[str],
    live_rows: int | None = None,
) -> MirrorIndex:
    """Open the index that the mirror's head snapshot points to; what this worker has not cached is fetched.

    Args:
        read: `lake.files().part`.
        cache: This worker's.
        pointer: What the snapshot's summary says; None: nothing.
        table_uuid: The mirror's.
        data_files: Paths of all data files of the snapshot.
        live_rows: The snapshot's rows without those that position deletes take away; None: not to be compared.

    Raises:
        IndexUnusable: it is missing, damaged, of another version or table, or not of this snapshot.
        StoreUnavailable: the store does not answer; nothing is known of the index.
        StoreRefused: the store says no.
    """
    if pointer is None:
        raise IndexUnusable("the mirror's snapshot names none")
    if pointer.version != VERSION:
        raise IndexUnusable(f"it is of version {pointer.version}, and this release reads {VERSION}")
    head = Head.load(_head_text(read, cache, pointer), pointer.path)
    if head.table_uuid != table_uuid:
        raise IndexUnusable(f"it is that of table {head.table_uuid}, and the mirror is {table_uuid}")
    if live_rows is not None and head.live_rows not in {None, live_rows}:
        raise IndexUnusable(f"it was written for {head.live_rows} rows, and the mirror has {live_rows}")
    files = _files(read, cache, head)
    _compare(files, data_files)
    segments = [_segment(read, cache, record) for record in head.segments]
    moves = [_moves(read, cache, record) for record in head.moves]
    cache.follow(table_uuid, [record.place.sha256 for record in head.segments])
    cache.trim({pointer.sha256, *(place.sha256 for place in head.places)})
    return MirrorIndex(cache, head, files, segments, moves)


def paths_of(read: ReadPart, cache: IndexCache, pointer: IndexPointer) -> set[str]:
    """The objects that an index consists of: its head, and those that hold its segments and moves.

    Those of earlier versions are known, too: retained snapshots, and tags, may name them for long.

    Raises:
        IndexUnusable: the head is missing, damaged or of a later version.
        StoreUnavailable: the store does not answer.
    """
    return objects_of(_head_text(read, cache, pointer), pointer.path)


def _head_text(read: ReadPart, cache: IndexCache, pointer: IndexPointer) -> str:
    footer = cache.content(pointer.sha256)
    if footer is None:
        footer = _footer(read, pointer)
        cache.keep_content(footer, pointer.sha256)
    try:
        properties = read_footer(footer).properties
    except ValueError as wrong:
        raise IndexUnusable(f"its head {pointer.path} cannot be read: {wrong}") from wrong
    if PROPERTY not in properties:
        raise IndexUnusable(f"Puffin file {pointer.path} is not the head of an index")
    return properties[PROPERTY]


def _footer(read: ReadPart, pointer: IndexPointer) -> bytes:
    tail = _part(read, pointer.path, max(0, pointer.size - _TAIL), min(_TAIL, pointer.size))
    try:
        length = footer_length(tail)
    except ValueError as wrong:
        raise IndexUnusable(f"its head {pointer.path} is damaged: {wrong}") from wrong
    if length > pointer.size:
        raise IndexUnusable(f"its head {pointer.path} is damaged: the footer cannot be that long")
    if length > len(tail):
        tail = _part(read, pointer.path, pointer.size - length, length)
    footer = tail[-length:]
    _check(footer, pointer.sha256, f"its head {pointer.path}")
    return footer


def _files(read: ReadPart, cache: IndexCache, head: Head) -> dict[int, str]:
    place = head.files
    content = _content(read, cache, place, "list of files")
    try:
        files = load_files(content)
    except (ValueError, pa.ArrowException) as wrong:
        raise IndexUnusable(f"its list of files in {place.path} cannot be read: {wrong}") from wrong
    if any(not 0 < number < head.next_file for number in files):
        raise IndexUnusable(f"its list of files in {place.path} has numbers that were never given")
    return files


def _moves(read: ReadPart, cache: IndexCache, record: MovesRecord) -> Moves:
    def loaded() -> Moves:
        content = _content(read, cache, record.place, "list of moves")
        try:
            return load_moves(content, record.stretches)
        except (ValueError, pa.ArrowException) as wrong:
            raise IndexUnusable(f"its list of moves in {record.place.path} cannot be read: {wrong}") from wrong

    return known_moves.get(record.place.sha256, loaded)


def _content(read: ReadPart, cache: IndexCache, place: BlobPlace, what: str) -> bytes:
    """A blob that is kept as it is."""
    content = cache.content(place.sha256)
    if content is None:
        content = _part(read, place.path, place.offset, place.length)
        _check(content, place.sha256, f"its {what} in {place.path}")
        cache.keep_content(content, place.sha256)
    return content


def _compare(files: Mapping[int, str], data_files: Collection[str]) -> None:
    known, there = set(files.values()), set(data_files)
    if gone := known - there:
        raise IndexUnusable(f"it knows {len(gone)} data files that the mirror has no more, such as {min(gone)}")
    if new := there - known:
        raise IndexUnusable(f"the mirror has {len(new)} data files that it does not know, such as {min(new)}")


def _segment(read: ReadPart, cache: IndexCache, record: SegmentRecord) -> Segment:
    held = cache.segment(record.place.sha256, record.rows)
    if held is None:
        _fetch(read, cache, record)
        held = cache.segment(record.place.sha256, record.rows)
    if held is None:
        where = f"{record.place.offset} of {record.place.path}"
        raise IndexUnusable(f"its segment at {where} has not {record.rows} entries, or cannot be kept on this worker")
    return held


def _fetch(read: ReadPart, cache: IndexCache, record: SegmentRecord) -> None:
    """Bring a segment into the cache; no more of it is in memory than a row group."""
    place, digest = record.place, hashlib.sha256()
    with cache.scratch() as path, cache.writing(sieved=record.kind != "base") as writer:
        with path.open("wb") as file:
            for offset in range(0, place.length, _PIECE):
                piece = _part(read, place.path, place.offset + offset, min(_PIECE, place.length - offset))
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != place.sha256:
            raise IndexUnusable(f"its segment at {place.offset} of {place.path} is damaged")
        try:
            for entries in read_entries(str(path)):
                writer.add(entries)
        except (ValueError, pa.ArrowException) as wrong:
            raise IndexUnusable(f"its segment at {place.offset} of {place.path} cannot be read: {wrong}") from wrong
        cache.keep(writer, place.sha256)


def _part(read: ReadPart, path: str, offset: int, length: int) -> bytes:
    try:
        part = read(path, offset, length)
    except ObjectRefused as gone:
        raise IndexUnusable(f"object {path} cannot be read: {gone}") from gone
    if len(part) != length:
        raise IndexUnusable(f"object {path} ends after {offset + len(part)} bytes, too early")
    return part


def _check(content: bytes, sha256: str, what: str) -> None:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise IndexUnusable(f"{what} is damaged: it is not what the snapshot says it is")


def pair(text: str) -> tuple[int, int]:
    """A sequence number of 32 hex digits as two words; (0, 0) for an empty text."""
    return (int(text[:_WORD_DIGITS], 16), int(text[_WORD_DIGITS:], 16)) if text else (0, 0)


def text_of(sequence: tuple[int, int]) -> str:
    """The same as text."""
    return f"{sequence[0]:016x}{sequence[1]:016x}"
