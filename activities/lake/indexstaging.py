"""The next head of an index: what one merge changes, folded and merged as it is due, in one Puffin file."""

import hashlib
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from activities.core.index import greatest, merge, ordered, without_truncated
from activities.core.indexmoves import Moves, moved
from activities.core.indexplan import OWED, Run, begins_round, is_due, to_fold
from activities.core.mirrors import TOMBSTONE, Entries, IndexPointer
from activities.lake.indexcache import IndexCache
from activities.lake.indexentries import GROUP_ROWS, EntriesWriter
from activities.lake.indexhead import (
    ENTRIES_TYPE,
    FILES_TYPE,
    PROPERTY,
    BlobPlace,
    Head,
    Kind,
    MovesRecord,
    SegmentRecord,
    dump_files,
)
from activities.lake.indexmoves import MOVES_TYPE, dump_moves
from activities.lake.indexstore import MirrorIndex, pair, text_of
from activities.lake.puffin import Blob, PuffinWriter


@dataclass(frozen=True)
class StagedIndex:
    """A head Puffin on this machine's disk, to be uploaded. Use as a context manager: its end deletes the file."""

    path: Path
    size: int
    """Bytes."""
    sha256: str
    """Of its footer, which holds those of all else."""
    horizon: str
    """The greatest sequence number (32 hex digits) of the deletes that were forgotten; empty: none were."""
    whole: int
    """Bytes of all that the index consists of, in this file and in earlier ones."""

    def pointer(self, path: str) -> IndexPointer:
        """What the snapshot's summary is to say once the file lies at `path` (as Iceberg writes it)."""
        return IndexPointer(path, self.size, self.sha256)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.path.unlink(missing_ok=True)


def stage(
    index: MirrorIndex,
    run: Entries,
    *,
    new_files: Mapping[int, str],
    gone_files: Collection[int],
    truncated: str = "",
    live_rows: int | None = None,
    moves: Moves | None = None,
) -> StagedIndex:
    """Write the index as it is once this merge has been committed. Blocks; reads the cache and nothing else.

    What goes into the base meanwhile is `indexadvance`'s.

    Args:
        index: That of the head on which the commit is planned, with the step that goes on beside.
        run: What the merge changes: rows that came or moved, and tombstones; each key once, in any order.
        new_files: Number (from `index.next_file` on) → path of the data files that come with the commit.
        gone_files: Numbers of those that go with it.
        truncated: The watermark's; entries with smaller sequence numbers do not count any more.
        live_rows: How many rows the mirror then has; None: not said, and so not compared when it is opened.
        moves: Rows that move with the commit, and are not in the run: to new files, from such that go.
    """
    files = {number: path for number, path in {**index.files, **new_files}.items() if number not in gone_files}
    next_file = max([index.next_file, *(number + 1 for number in new_files)])
    named = np.flatnonzero(np.bincount(run.file, minlength=1))
    if any(number < index.next_file for number in new_files) or not set(named.tolist()) <= {TOMBSTONE, *files}:
        raise ValueError("a run has to name live data files, and new ones have to get numbers that were never given")
    head = replace(
        index.head,
        next_file=next_file,
        live_rows=live_rows,
        truncated=max(index.head.truncated, truncated),
        moved=index.head.moved + (1 if moves else 0),
    )
    with Staging(index.cache, head.moved) as staging:
        if moves:
            head = replace(head, moves=(*head.moves, staging.moves(moves)))
        work = _Work(staging, index, head, (*index.moves, *([moves] if moves else [])))
        work.add(_sorted(run))
        index.let_go()
        return staging.finish(_without_known_moves(work.head), files)


def _without_known_moves(head: Head) -> Head:
    """Without moves of which every segment knows."""
    known = min((record.moved for record in head.segments), default=head.moved)
    return replace(head, moves=tuple(one for one in head.moves if one.number > known))


def _sorted(run: Entries) -> Entries:
    high = run.keys.high
    return run if np.all(high[1:] > high[:-1]) else ordered(run)


class _Work:
    """One merge's work on the index."""

    def __init__(self, staging: "Staging", index: MirrorIndex, head: Head, moves: Sequence[Moves] = ()) -> None:
        self._moves = moves
        self._staging = staging
        self._truncated = pair(head.truncated)
        self._entries = {
            record.place.sha256: segment.entries for record, segment in zip(head.segments, index.segments, strict=True)
        }
        counting = tuple(record for record in head.segments if pair(record.newest) >= self._truncated)
        self.head = without_round(replace(head, segments=counting))

    def add(self, run: Entries) -> None:
        """Write the run, or what it becomes together with others."""
        records = self.head.segments
        runs = [record for record in records if record.kind == "run"]
        base_rows = sum(record.rows for record in records if record.kind == "base")
        if begins_round(_planned(self.head, len(run)), base_rows) and not merging_of(self.head):
            self._begin_round(run)
            return
        if merging_of(self.head):
            self.head = replace(self.head, owed=self.head.owed + int(OWED * len(run)))
        folded = folded_runs(self.head, len(run))
        if folded:
            entries = [run, *(self._entries[record.place.sha256] for record in runs[:folded])]
            level = runs[folded - 1].level + 1
            made = self._staging.segment("run", level, self._merged(entries))
        else:
            made = self._staging.segment("run", 0, [run])
        self.head = replace(self.head, segments=(*made, *records[folded:]))

    def _begin_round(self, run: Entries) -> None:
        made = self._staging.segment("merging", 0, [run])
        marked = (replace(one, kind="merging") if one.kind == "run" else one for one in self.head.segments)
        self.head = replace(self.head, segments=(*made, *marked), merged=0, owed=0)

    def _merged(self, sources: list[Entries]) -> Iterator[Entries]:
        for entries in merge(sources, GROUP_ROWS):
            yield moved(self._moves, without_truncated(entries, self._truncated))


def merging_of(head: Head) -> list[SegmentRecord]:
    """The segments of which a round brings all entries into the base; none: there is no round."""
    return [record for record in head.segments if record.kind == "merging"]


def without_round(head: Head) -> Head:
    """Without its marks when it has ended."""
    return head if merging_of(head) else replace(head, merged=0, owed=0)


def folded_runs(head: Head, rows: int) -> int:
    """How many runs are folded with one of `rows` entries that comes."""
    planned = _planned(head, rows)
    return max(0, to_fold(planned) - 1) if is_due(planned) else 0


def _planned(head: Head, rows: int) -> list[Run]:
    return [Run(0, rows), *(Run(record.level, record.rows) for record in head.segments if record.kind == "run")]


class Staging:
    """A Puffin file in the making, whose segments go into the cache at once. Use as a context manager.

    Its segments know of as many moves as `moved` says. `place` is the path of the file in the store; empty: it is the
    head's own.
    """

    def __init__(self, cache: IndexCache, moved: int = 0, *, path: Path | None = None, place: str = "") -> None:
        self._cache = cache
        self._moved = moved
        self._place = place
        self._path = path or cache.directory / f"{uuid.uuid4().hex}.part"
        self._puffin = PuffinWriter(self._path.open("wb"))
        self._is_whole = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._puffin.close()
        if not self._is_whole:
            self._path.unlink(missing_ok=True)

    def parts(self, pieces: Iterable[Entries], most: int, part: int) -> list[SegmentRecord]:
        """Parts of the base of about `part` entries, from entries that ascend: at most `most`."""
        each, made, pending = -(-most // max(1, -(-most // part))), list[SegmentRecord](), iter(pieces)
        while record := self.segment("base", 0, _until(pending, each)):
            made += record
        return made

    def segment(self, kind: Kind, level: int, pieces: Iterable[Entries]) -> list[SegmentRecord]:
        """A segment, from entries that ascend. None when there are no entries."""
        held = (piece for piece in pieces if len(piece))
        piece = next(held, None)
        if piece is None:
            return []
        first, newest, rows = int(piece.keys.high[0]), (0, 0), 0
        with self._cache.writing(sieved=kind != "base") as cached:
            with self._puffin.blob(ENTRIES_TYPE) as sink, EntriesWriter(sink) as writer:
                while piece is not None:
                    writer.add(piece)
                    cached.add(piece)
                    newest, rows = max(newest, greatest(piece.sequences)), rows + len(piece)
                    piece = next(held, None)
            blob = self._puffin.blobs[-1]
            self._cache.keep(cached, blob.sha256)
        return [SegmentRecord(kind, level, rows, first, text_of(newest), self._place_of(blob), self._moved)]

    def moves(self, moves: Moves) -> MovesRecord:
        """The newest moves."""
        return MovesRecord(self._moved, len(moves), self._kept(MOVES_TYPE, dump_moves(moves)))

    def finish(self, head: Head, files: Mapping[int, str], forgotten: tuple[int, int] = (0, 0)) -> StagedIndex:
        """End the file."""
        place = self._kept(FILES_TYPE, dump_files(files))
        head = replace(head, files=place)
        footer = self._puffin.finish({PROPERTY: head.dump()})
        sha256 = hashlib.sha256(footer).hexdigest()
        self._cache.keep_content(footer, sha256)
        self._is_whole = True
        horizon, whole = "" if forgotten == (0, 0) else text_of(forgotten), sum(one.length for one in head.places)
        return StagedIndex(self._path, self._puffin.size, sha256, horizon, whole)

    def end(self) -> None:
        """End a file that is no head."""
        self._puffin.finish({})
        self._is_whole = True

    def _place_of(self, blob: Blob) -> BlobPlace:
        return BlobPlace(self._place, blob.offset, blob.length, blob.sha256)

    def _kept(self, kind: str, content: bytes) -> BlobPlace:
        """A blob that the cache keeps as it is."""
        with self._puffin.blob(kind) as sink:
            sink.write(content)
        place = self._place_of(self._puffin.blobs[-1])
        self._cache.keep_content(content, place.sha256)
        return place


def _until(pieces: Iterator[Entries], rows: int) -> Iterator[Entries]:
    """Pieces until there are so many entries: between one piece less and one more."""
    given = 0
    while given < rows and (piece := next(pieces, None)) is not None:
        given += len(piece)
        yield piece
