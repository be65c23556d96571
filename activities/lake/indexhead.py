"""What a head Puffin says of an index: its segments, newest first, and the data files by number."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

VERSION = 2
PLACED = (1, VERSION)
"""Versions that say in the same way where everything is; those before this one are read for nothing else."""
PROPERTY = "icefleet-mirror-index"
ENTRIES_TYPE = "icefleet-mirror-index-v1"
FILES_TYPE = "icefleet-mirror-files-v1"
Kind = Literal["run", "merging", "base"]
KINDS: tuple[Kind, ...] = ("run", "merging", "base")
END = 2**64
"""Behind every key."""


class IndexUnusable(Exception):  # noqa: N818 - named for what is wrong, as faults are
    """The index cannot be used, and the message says why: it is to be made anew from the mirror."""


@dataclass(frozen=True)
class BlobPlace:
    """Where a blob lies, and what it must be."""

    path: str
    """Of the Puffin file; empty in a head's own text: the very file."""
    offset: int
    length: int
    sha256: str


@dataclass(frozen=True)
class SegmentRecord:
    """One segment, as a head lists it."""

    kind: Kind
    """A run of one merge or of several, a run that is being merged into the base, or a part of the base."""
    level: int
    """0: of one merge; each time that runs are folded it grows by one. 0 for parts of the base."""
    rows: int
    first: int
    """The smallest `high` of its keys. Parts of the base cover what lies between theirs and the next one's."""
    newest: str
    """The greatest sequence number in it, 32 hex digits."""
    place: BlobPlace
    moved: int = 0
    """How many moves the index had had when this was written: its entries know of those, and of no later ones."""

    @classmethod
    def load(cls, said: Mapping[str, Any]) -> Self:
        """What a head's text says."""
        if said["kind"] not in KINDS:
            raise ValueError(f"there are no segments of kind {said['kind']!r}")
        place = BlobPlace(**said["place"])
        newest = str(said["newest"])
        int(newest, 16)
        first, moved = int(said["first"], 16), int(said["moved"])
        return cls(said["kind"], int(said["level"]), int(said["rows"]), first, newest, place, moved)

    def dump(self) -> dict[str, Any]:
        """As JSON; `first` as hex, since JSON's numbers are too small for it in many languages."""
        return {**vars(self), "first": f"{self.first:016x}", "place": vars(self.place)}


@dataclass(frozen=True)
class MovesRecord:
    """Rows that a compaction moved, of which entries of older segments do not know."""

    number: int
    """Moves are counted from 1."""
    stretches: int
    place: BlobPlace

    @classmethod
    def load(cls, said: Mapping[str, Any]) -> Self:
        """What a head's text says."""
        return cls(int(said["number"]), int(said["stretches"]), BlobPlace(**said["place"]))

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "place": vars(self.place)}


@dataclass(frozen=True)
class Head:
    """An index, but for its entries."""

    table_uuid: str
    next_file: int = 1
    """The number that the next data file gets; none is given twice."""
    live_rows: int | None = None
    """How many rows the mirror has with the commit that this belongs to; None: whoever wrote it did not say."""
    truncated: str = ""
    """32 hex digits: entries with a smaller sequence number do not count; empty: all do."""
    merged: int = 0
    """Of segments that are being merged, what has a smaller `high` is in the base already."""
    owed: int = 0
    """Entries of the base that are to be merged by now."""
    segments: tuple[SegmentRecord, ...] = ()
    moved: int = 0
    """How many moves there have been."""
    moves: tuple[MovesRecord, ...] = ()
    """Those of which some segment does not know, oldest first."""
    files: BlobPlace = field(default_factory=lambda: BlobPlace("", 0, 0, ""))

    @property
    def places(self) -> tuple[BlobPlace, ...]:
        """Where all is that it consists of."""
        return self.files, *(one.place for one in self.segments), *(one.place for one in self.moves)

    def dump(self) -> str:
        """As JSON text."""
        said = {**vars(self), "version": VERSION, "merged": f"{self.merged:016x}", "files": vars(self.files)}
        said |= {name: [one.dump() for one in vars(self)[name]] for name in ("segments", "moves")}
        return json.dumps(said, separators=(",", ":"))

    @classmethod
    def load(cls, text: str, path: str) -> Self:
        """What `dump` wrote into the Puffin file at `path`.

        Raises:
            IndexUnusable: it is of another version, or something else.
        """
        try:
            said = json.loads(text)
            version = said.pop("version")
            if version != VERSION:
                raise IndexUnusable(f"it is of version {version}, and this release reads {VERSION}")
            segments = tuple(_found(SegmentRecord.load(one), path) for one in said.pop("segments"))
            moves = tuple(_found(MovesRecord.load(one), path) for one in said.pop("moves"))
            files, merged = _at(BlobPlace(**said.pop("files")), path), int(said.pop("merged"), 16)
            return cls(segments=segments, moves=moves, files=files, merged=merged, **said)
        except (ValueError, TypeError, LookupError, AttributeError) as wrong:
            raise IndexUnusable(f"its head {path} cannot be read: {wrong!r}") from wrong


def objects_of(text: str, path: str) -> set[str]:
    """The objects that an index consists of, by its head's text in the Puffin file at `path`.

    Raises:
        IndexUnusable: it is of a version that nobody knows here, or something else.
    """
    try:
        said = json.loads(text)
        if said["version"] not in PLACED:
            raise IndexUnusable(
                f"it is of version {said['version']}, and this release knows {VERSION} and earlier ones"
            )
        holding = [*said["segments"], *said.get("moves", ())]
        return {path, *(str(place["path"]) or path for place in (said["files"], *(one["place"] for one in holding)))}
    except (ValueError, TypeError, LookupError) as wrong:
        raise IndexUnusable(f"its head {path} cannot be read: {wrong!r}") from wrong


R = TypeVar("R", SegmentRecord, MovesRecord)


def _found(record: R, path: str) -> R:
    return replace(record, place=_at(record.place, path))


def _at(place: BlobPlace, path: str) -> BlobPlace:
    return place if place.path else replace(place, path=path)


def dump_files(files: Mapping[int, str]) -> bytes:
    """Number → path of data files, as a Parquet file."""
    numbers = sorted(files)
    table = pa.table(
        {"file": pa.array(numbers, pa.uint32()), "path": pa.array([files[number] for number in numbers], pa.string())}
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, store_schema=False)
    return sink.getvalue()


def load_files(content: bytes) -> dict[int, str]:
    """What `dump_files` wrote.

    Raises:
        ValueError: it is something else.
    """
    table = pq.read_table(io.BytesIO(content))
    if table.column_names != ["file", "path"]:
        raise ValueError(f"the list of files has columns {', '.join(table.column_names)}")
    return dict(zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True))
