"""Two published trees or tables, held against each other partition by partition: footers, and values when asked to."""

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from activities.contracts.export import table_identifier
from activities.core.evolution import Types
from activities.core.faults import BadRequest, ObjectRefused, UnsupportedType
from activities.core.partitions import Span, expected_span, label_of, span_of
from activities.core.tables import TableConfig, network_range
from activities.lake.checksums import Checksum, checksum
from activities.lake.content import batches, named, until
from activities.lake.likeness import likeness
from worker.compare_sides import EVERYTHING, Piece, Side, SideSpec, open_side
from worker.config import Settings

LISTED_DIFFERENCES = 100
FOOTERS_AT_ONCE = 16
READS_AT_ONCE = 2
WINDOW = 500
"""Partitions of which files are asked for and footers read before the next ones are."""
Found = Mapping[int, list[Piece]] | None
_Opened = tuple[str, pq.ParquetFile]
"""A file's path, and the file."""


@dataclass(frozen=True)
class Comparison:
    """What is to be compared, understood."""

    left: SideSpec
    right: SideSpec
    config: TableConfig
    network: str
    first: str = ""
    last: str = ""
    deep: bool = False


@dataclass(frozen=True)
class Difference:
    """Something in which the two sides differ."""

    kind: str
    """`missing_left`, `missing_right`, `duplicate`, `unreadable`, `schema`, `rows` or `checksum`."""
    partition: str
    message: str


@dataclass
class Counts:
    """What was found, in partitions."""

    partitions: int = 0
    """That either side has."""
    same: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Kind of difference → partitions that have it; one may have several."""
    rows_left: int = 0
    rows_right: int = 0
    found: int = 0
    """Differences."""


@dataclass
class CompareReport(Counts):
    """What was found of one table and network."""

    left: str = ""
    right: str = ""
    table: str = ""
    status: str = "same"
    """`same`, `different`, `nothing` (neither side has any of it), or `failed` (the message says why)."""
    message: str = ""
    differences: list[Difference] = field(default_factory=list)
    """The first hundred of them."""


@dataclass(frozen=True)
class _Pair:
    """What was learnt of one partition."""

    differences: tuple[Difference, ...]
    rows_left: int = 0
    rows_right: int = 0


async def compare(settings: Settings, asked: Comparison, show: Callable[[int, int], None]) -> CompareReport:
    """Compare; `show` is told how many partitions are done, of how many.

    Raises:
        BadRequest: nothing says which partitions to ask for.
        Fault: a side cannot be read.
    """
    config, network = asked.config, asked.network
    report = CompareReport(left=asked.left.text, right=asked.right.text, table=table_identifier(network, config.name))
    counts: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        left, right = [
            await stack.enter_async_context(open_side(settings, spec, config, network))
            for spec in (asked.left, asked.right)
        ]
        pairing = _Pairing(asked, left, right)
        stack.callback(pairing.stop)
        found = await left.listed(), await right.listed()
        indices = _indices(asked, found)
        done = 0
        for window in _windows(indices):
            for pair in await pairing.window(window, found):
                _count(report, counts, pair)
            done += len(window)
            show(done, len(indices))
    report.counts = dict(counts)
    if not report.partitions:
        report.status = "nothing"
        report.message = f"neither {report.left} nor {report.right} has any partition of {report.table} in this range"
        return report
    report.status = "different" if report.found else "same"
    report.message = f"{report.table}: {in_words(report, deep=asked.deep)}"
    return report


def _count(report: CompareReport, counts: Counter[str], pair: _Pair) -> None:
    report.partitions += 1
    report.same += not pair.differences
    report.rows_left += pair.rows_left
    report.rows_right += pair.rows_right
    report.found += len(pair.differences)
    counts.update({difference.kind for difference in pair.differences})
    report.differences += pair.differences[: LISTED_DIFFERENCES - len(report.differences)]


def in_words(seen: Counts, *, deep: bool) -> str:
    """How many partitions are the same, and in what the others differ."""
    how = "by their values" if deep else "by rows and schema"
    parts = [f"{seen.same:,} of {seen.partitions:,} partitions are the same {how}"]
    parts += [f"{count:,} {kind}" for kind, count in sorted(seen.counts.items())]
    return f"{', '.join(parts)}; {seen.rows_left:,} rows on the left, {seen.rows_right:,} on the right"


def _indices(asked: Comparison, found: tuple[Found, Found]) -> Sequence[int]:
    """The partitions to look at, ascending: what either side lists, and what must be asked for one by one."""
    config, rule = asked.config, asked.config.partition
    listed = sorted({index for side in found if side is not None for index in side})
    first = index_of_edge(config, asked.first, last=False)
    last = index_of_edge(config, asked.last, last=True)
    range_ = Span(first if first is not None else 0, last + 1 if last is not None else EVERYTHING.stop)
    if all(side is not None for side in found):
        return [index for index in listed if index in range_]
    if rule.kind == "integer" and last is None and not listed:
        raise BadRequest(f"nothing says where {config.name} ends: say --to, the newest value to be compared")
    newest = listed[-1] * rule.chunk_size + rule.chunk_size - 1 if rule.kind == "integer" and listed else None
    if rule.kind == "integer" and last is not None:
        newest = (last + 1) * rule.chunk_size - 1
    closed, _ = expected_span(config, network_range(config, asked.network), now=int(time.time()), head=newest)
    return sorted({index for index in (*listed, *closed) if index in range_})


def index_of_edge(config: TableConfig, label: str, *, last: bool) -> int | None:
    """The first or last partition that an end of a range names; None without one."""
    if not label:
        return None
    span = span_of(config.partition, label, label)
    return span.stop - 1 if last else span.first


def _windows(indices: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in itertools.count(step=WINDOW):
        window = indices[start : start + WINDOW]
        if not window:
            return
        yield window


class _Pairing:
    """Both sides, a bounded number of files at a time."""

    def __init__(self, asked: Comparison, left: Side, right: Side) -> None:
        self._asked = asked
        self._left = left
        self._right = right
        self._stopped = threading.Event()
        self._slots = asyncio.Semaphore(READS_AT_ONCE if asked.deep else FOOTERS_AT_ONCE)

    def stop(self) -> None:
        """Let threads that still read end soon."""
        self._stopped.set()

    async def window(self, indices: Iterable[int], found: tuple[Found, Found]) -> list[_Pair]:
        """What was learnt of some partitions; of those that neither side has, nothing."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._pair(index, found)) for index in indices]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from failed  # what kept one from being read is likely to keep all
        return [pair for task in tasks if (pair := task.result()) is not None]

    async def _pair(self, index: int, found: tuple[Found, Found]) -> _Pair | None:
        async with self._slots:
            left = found[0].get(index, []) if found[0] is not None else await self._left.ask(index)
            right = found[1].get(index, []) if found[1] is not None else await self._right.ask(index)
            if not left and not right:
                return None
            label = label_of(self._asked.config.partition, index)
            if not left:
                return _Pair((Difference("missing_left", label, f"only the right has it: {right[0].path}"),))
            if not right:
                return _Pair((Difference("missing_right", label, f"only the left has it: {left[0].path}"),))
            if max(len(left), len(right)) > 1:
                paths = ", ".join(piece.path for side in (left, right) if len(side) > 1 for piece in side)
                return _Pair((Difference("duplicate", label, f"more than one file holds it: {paths}"),))
            return await asyncio.to_thread(self._read, label, left[0], right[0])

    def _read(self, label: str, left: Piece, right: Piece) -> _Pair:
        try:
            with self._left.open(left) as one, self._right.open(right) as other:
                return self._held(label, (left.path, one), (right.path, other))
        except (ObjectRefused, UnsupportedType) as wrong:
            return _Pair((Difference("unreadable", label, str(wrong)),))

    def _held(self, label: str, left: _Opened, right: _Opened) -> _Pair:
        alike = likeness(left[1].schema_arrow, right[1].schema_arrow)
        differences = [Difference("schema", label, "; ".join(alike.differences))] if alike.differences else []
        rows = left[1].metadata.num_rows, right[1].metadata.num_rows
        if rows[0] != rows[1]:
            differences.append(Difference("rows", label, f"{rows[0]} rows on the left, {rows[1]} on the right"))
        elif self._asked.deep:
            mine, theirs = self._checksum(left, alike.types), self._checksum(right, alike.types)
            if mine != theirs:
                what = f"the values of {rows[0]} rows differ: {mine} on the left, {theirs} on the right"
                differences.append(Difference("checksum", label, what))
        return _Pair(tuple(differences), *rows)

    def _checksum(self, opened: _Opened, types: Types) -> Checksum:
        path, file = opened
        with named(path):
            return checksum(until(self._stopped, batches(file, list(types))), types)
