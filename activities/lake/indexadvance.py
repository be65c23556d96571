"""A round of merging runs of an index into its base: a step beside each merge, in a Puffin file of its own.

A step needs nothing of the merge: it pays what the merges before it owe. So it goes on while changes are read and their
keys looked up, and is stored while their rows are written.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from activities.core.index import between, forgetful, merge, without_truncated
from activities.core.indexmoves import moved
from activities.core.indexplan import part_rows, step_rows
from activities.core.mirrors import Entries
from activities.lake.indexentries import GROUP_ROWS
from activities.lake.indexhead import END, Head, IndexUnusable, SegmentRecord
from activities.lake.indexstaging import Staging, folded_runs, merging_of, without_round
from activities.lake.indexstore import MirrorIndex, pair, text_of


@dataclass(frozen=True)
class Advanced:
    """An index with the step that a merge is to take."""

    index: MirrorIndex
    """It says what it said before."""
    made: Path | None = None
    """What must lie under the name that was given before the index is named; None: there is no step."""
    horizon: str = ""
    """The greatest sequence number (32 hex digits) of the deletes that were forgotten; empty: none were."""


def advance(index: MirrorIndex, *, made: Path, place: str, tombstone_cut: int) -> Advanced:
    """Go on with a round of merging as far as merges so far owe it. Blocks; reads the cache only.

    Args:
        index: That of the head on which the merge is planned.
        made: The file that is written on this machine.
        place: The path, as Iceberg writes it, under which that is going to be stored.
        tombstone_cut: Deletes that were merged before this time (seconds since 1970) need not be remembered.

    Raises:
        IndexUnusable: this machine cannot keep what was made.
    """
    # One large work in a merge is enough.
    if not merging_of(index.head) or folded_runs(index.head, 0):
        return Advanced(index)
    with Staging(index.cache, index.head.moved, path=made, place=place) as staging:
        work = _Step(index, staging, tombstone_cut)
        is_taken = work.take()
        if is_taken:
            staging.end()
        index.let_go()
    horizon = text_of(work.forgotten) if work.forgotten != (0, 0) else ""
    return Advanced(_opened(index, work.head), made if is_taken else None, horizon)


def _opened(index: MirrorIndex, head: Head) -> MirrorIndex:
    known = {record.place.sha256: segment for record, segment in zip(index.head.segments, index.segments, strict=True)}
    segments = [
        known.get(record.place.sha256) or index.cache.segment(record.place.sha256, record.rows)
        for record in head.segments
    ]
    there = [segment for segment in segments if segment is not None]
    if len(there) < len(segments):
        raise IndexUnusable("a part of its base cannot be kept on this worker")
    return MirrorIndex(index.cache, head, index.files, there, index.moves)


class _Step:
    """One step."""

    def __init__(self, index: MirrorIndex, staging: Staging, cut: int) -> None:
        self.head = index.head
        self.forgotten = (0, 0)
        self._staging = staging
        self._cut = cut
        self._moves = index.moves
        self._truncated = pair(index.head.truncated)
        self._entries = {
            record.place.sha256: segment.entries
            for record, segment in zip(index.head.segments, index.segments, strict=True)
        }

    def take(self) -> bool:
        """Whether there is a step to be taken; then it is."""
        parts = sorted(
            (record for record in self.head.segments if record.kind == "base" and record.first >= self.head.merged),
            key=lambda record: record.first,
        )
        waiting = [between(self._entries[one.place.sha256], self.head.merged, None) for one in merging_of(self.head)]
        left = sum(part.rows for part in parts) + sum(map(len, waiting))
        wanted = step_rows(self.head.owed, left)
        if wanted:
            self._merge(parts, waiting, wanted)
        return bool(wanted)

    def _merge(self, parts: list[SegmentRecord], waiting: list[Entries], wanted: int) -> None:
        until, taken = self._reach(parts, waiting, wanted)
        sources = [between(one, 0, None if until == END else until) for one in waiting]
        sources += [self._entries[part.place.sha256] for part in parts[:taken]]
        base_rows = sum(record.rows for record in self.head.segments if record.kind == "base")
        merged, rows = sum(map(len, sources)), max(base_rows, sum(map(len, waiting)))
        made = self._staging.parts(self._remembered(sources), merged, part_rows(rows))
        kept = tuple(record for record in self.head.segments if record not in parts[:taken])
        # What was merged beyond what was due is not due later.
        self.head = replace(self.head, segments=(*kept, *made), merged=until, owed=self.head.owed - merged)
        if until == END:
            self.head = replace(self.head, segments=tuple(one for one in self.head.segments if one.kind != "merging"))
        self.head = without_round(self.head)

    def _reach(self, parts: list[SegmentRecord], waiting: list[Entries], wanted: int) -> tuple[int, int]:
        """Where the step ends that is nearest to what is wanted, and how many parts of the base it takes."""
        before, reached = 0, (END, len(parts))
        for number, border in enumerate(self._borders(parts, waiting), 1):
            rows = sum(one.rows for one in parts[:number]) + sum(len(between(one, 0, border)) for one in waiting)
            if before and wanted - before < rows - wanted:
                return reached
            before, reached = rows, (border, number)
            if rows >= wanted:
                return reached
        return END, len(parts)

    def _borders(self, parts: list[SegmentRecord], waiting: list[Entries]) -> list[int]:
        """Where a step may end: where a part of the base begins; anywhere as long as there is no base."""
        if parts:
            return [part.first for part in parts[1:]]
        rows = sum(map(len, waiting))
        count = -(-rows // part_rows(rows))
        left = END - self.head.merged
        return [self.head.merged + left * number // count for number in range(1, count)]  # keys are spread evenly

    def _remembered(self, sources: list[Entries]) -> Iterator[Entries]:
        for entries in merge(sources, GROUP_ROWS):
            kept = forgetful(moved(self._moves, without_truncated(entries, self._truncated)), self._cut)
            self.forgotten = max(self.forgotten, kept.forgotten or (0, 0))
            yield kept.entries
