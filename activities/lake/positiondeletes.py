"""Which rows of data files are deleted: position delete files read, put together and written.

A delete file is about some data files of one partition that are neighbours by their paths, with a row group for each,
and each data file is in one live delete file at most. Readers look for those of a data file by the bounds of
`file_path`, which are the whole paths of the first and the last of them, and skip row groups of others. What would have
to be another for deletion vectors is `read`, `write` and `described`.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.utils.concurrent import ExecutorFactory

from activities.core.faults import MirrorForeign
from activities.lake.content import Files
from activities.lake.live import PATH_ID, LiveFile, only_path
from activities.lake.remembered import Remembered

Positions = npt.NDArray[np.uint32]
"""0-based rows of one data file, ascending, each once."""
MOST_FILES = 16
"""Data files that a delete file is about."""
MOST_ROWS = 2**19
"""Rows that a delete file deletes if it is about several data files: whoever touches one of them writes them all."""
POSITION_ID = 2147483545
_SCHEMA = pa.schema(
    [
        pa.field("file_path", pa.dictionary(pa.int8(), pa.string()), False, {"PARQUET:field_id": str(PATH_ID)}),  # noqa: FBT003 - pyarrow's own order
        pa.field("pos", pa.int64(), False, {"PARQUET:field_id": str(POSITION_ID)}),  # noqa: FBT003
    ]
)
_BATCH_ROWS = 2**16
"""Encoded at once: a quarter less to do than with PyArrow's thousand, where one column is the same all over."""
NONE: Positions = np.empty(0, np.uint32)
REMEMBERED_BYTES = 32 * 2**20
MOST_COUNTED = 50_000
"""Data files of which it is remembered how many of their rows are deleted."""
_known: Remembered[dict[str, Positions]] = Remembered(
    REMEMBERED_BYTES, lambda held: sum(1000 + rows.nbytes for rows in held.values())
)
_counted: Remembered[dict[str, int]] = Remembered(MOST_COUNTED, len)


@dataclass(frozen=True)
class Touched:
    """A data file of which rows are deleted."""

    live: LiveFile
    positions: Positions
    """All rows of it that are deleted then."""

    @property
    def is_gone(self) -> bool:
        """Whether no row is left: the file goes."""
        return len(self.positions) >= self.live.rows


@dataclass(frozen=True)
class MadeDeletes:
    """A position delete file, not stored yet."""

    about: tuple[Touched, ...]
    """Data files of one partition, in the order of their paths."""
    body: bytes

    @property
    def count(self) -> int:
        """Rows that it deletes."""
        return sum(len(one.positions) for one in self.about)


@dataclass(frozen=True)
class Deleted:
    """What becomes of files once more is deleted of them."""

    gone: tuple[LiveFile, ...]
    """Files of which nothing is left."""
    made: tuple[MadeDeletes, ...]
    """Delete files that are to be stored."""
    superseded: tuple[DataFile, ...]
    """Delete files that leave the table."""

    @property
    def rows(self) -> int:
        """By how many the live rows become fewer, as far as manifests can tell."""
        removed = sum(one.rows for one in self.gone) + sum(one.count for one in self.made)
        return removed - sum(one.record_count for one in self.superseded)


def delete(
    files: Files, live: Mapping[str, LiveFile], rows: Mapping[str, Positions], whole: Collection[str] = ()
) -> Deleted:
    """Put rows (by the path of their data file) together with what is deleted already.

    Delete files that are about one of these data files go; what they say of others is written anew. The data files of
    `whole` go, too.
    """
    before, superseded = _connected(files, live, {*rows, *whole})
    every = [
        Touched(live[path], _union([*before[path], rows.get(path, NONE)])) for path in sorted(before.keys() - whole)
    ]
    touched = [one for one in every if len(one.positions)]
    left = {one.live.path: one for one in touched if not one.is_gone}
    return Deleted(
        gone=(*(live[path] for path in sorted(whole)), *(one.live for one in touched if one.is_gone)),
        made=tuple(map(write, _groups(live, left, superseded))),
        superseded=tuple(superseded.values()),
    )


def _connected(
    files: Files, live: Mapping[str, LiveFile], paths: Iterable[str]
) -> tuple[dict[str, list[Positions]], dict[str, DataFile]]:
    """Everything that delete files about some data files are about: path → what is deleted of it; and those files."""
    waiting, known, found = set(paths), dict[str, dict[str, Positions]](), dict[str, DataFile]()
    pool, seen = ExecutorFactory.get_or_create(), set[str]()
    while waiting:
        unread = {one.file_path: one for path in waiting for one in live[path].deletes if one.file_path not in found}
        for path, rows in zip(unread, pool.map(lambda one: read(files, one), unread.values()), strict=True):
            known[path] = rows
        found |= unread
        seen |= waiting
        waiting = {path for one in unread for path in known[one] if path in live} - seen
    return {path: [known[one.file_path].get(path, NONE) for one in live[path].deletes] for path in seen}, found


def _groups(
    live: Mapping[str, LiveFile], left: Mapping[str, Touched], superseded: Collection[str]
) -> Iterator[tuple[Touched, ...]]:
    """Data files that share a delete file: neighbours in a partition, between which no other delete file reaches."""
    runs: dict[Hashable, list[list[Touched]]] = defaultdict(lambda: [[]])
    for path in sorted(live):
        file = live[path]
        if path in left:
            runs[file.partition][-1].append(left[path])
        elif any(one.file_path not in superseded for one in file.deletes):
            runs[file.partition].append([])
    for parted in runs.values():
        for run in parted:
            yield from _halved(tuple(run))


def _halved(run: tuple[Touched, ...]) -> Iterator[tuple[Touched, ...]]:
    """In parts that are small enough: halves, so that each may grow before it has to be parted again."""
    if len(run) > 1 and (len(run) > MOST_FILES or sum(len(one.positions) for one in run) > MOST_ROWS):
        yield from _halved(run[: len(run) // 2])
        yield from _halved(run[len(run) // 2 :])
    elif run:
        yield run


def write(about: tuple[Touched, ...]) -> MadeDeletes:
    """A delete file for data files of one partition, in the order of their paths, of each of which a row is deleted."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        _SCHEMA,
        compression="none",
        use_dictionary=["file_path"],
        column_encoding={"pos": "DELTA_BINARY_PACKED"},
        store_schema=False,
        write_statistics=["file_path"],
        write_batch_size=_BATCH_ROWS,
    ) as writer:
        for one in about:
            path, count = pa.array([one.live.path]), len(one.positions)
            named = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), path)
            rows = pa.Table.from_arrays([named, pa.array(one.positions.astype(np.int64))], schema=_SCHEMA)
            writer.write_table(rows, row_group_size=count)
    return MadeDeletes(about, sink.getvalue().to_pybytes())


def described(made: MadeDeletes, stored: str) -> DataFile:
    """The manifest's entry of a delete file that was stored as `stored`; what is in it is remembered."""
    data, count = made.about[0].live.data, made.count
    paths = [made.about[end].live.path.encode() for end in (0, -1)]
    ends = min(int(one.positions[0]) for one in made.about), max(int(one.positions[-1]) for one in made.about)
    lowest, highest = (struct.pack("<q", end) for end in ends)
    _known.put(stored, {one.live.path: one.positions for one in made.about})
    _counted.put(stored, {one.live.path: len(one.positions) for one in made.about})
    file = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=stored,
        file_format=FileFormat.PARQUET,
        partition=data.partition,
        record_count=count,
        file_size_in_bytes=len(made.body),
        column_sizes=None,
        value_counts={PATH_ID: count, POSITION_ID: count},
        null_value_counts={PATH_ID: 0, POSITION_ID: 0},
        nan_value_counts=None,
        lower_bounds={PATH_ID: paths[0], POSITION_ID: lowest},
        upper_bounds={PATH_ID: paths[1], POSITION_ID: highest},
        key_metadata=None,
        split_offsets=None,
        equality_ids=None,
        sort_order_id=None,
    )
    file.spec_id = data.spec_id
    return file


def read(files: Files, file: DataFile) -> dict[str, Positions]:
    """Path of a data file → its rows that a delete file deletes.

    Raises:
        MirrorForeign: it is no Parquet file.
        ObjectRefused, StoreUnavailable: it cannot be read.
    """
    if file.file_format != FileFormat.PARQUET:
        raise MirrorForeign(
            f"delete file {file.file_path} is {file.file_format.value}, and Parquet is what we read; compact "
            "the mirror with the engine that wrote it, or roll it back to the snapshot before"
        )
    return _known.get(file.file_path, lambda: _read(files, file))


def _read(files: Files, file: DataFile) -> dict[str, Positions]:
    only, found = only_path(file), defaultdict[str, list[Positions]](list)
    with files.open_most(file.file_path, file.file_size_in_bytes) as opened:
        if only is not None:
            return {only: _ascending(opened.read(["pos"]).column("pos"))}
        for group in range(opened.num_row_groups):
            table = opened.read_row_group(group, ["file_path", "pos"])
            paths = table.column("file_path").combine_chunks().dictionary_encode()
            codes, rows = paths.indices.to_numpy(), table.column("pos").to_numpy()
            for code, path in enumerate(paths.dictionary.to_pylist()):
                found[path].append(rows[codes == code].astype(np.uint32))
    return {path: _unique(np.concatenate(parts)) for path, parts in found.items()}


def deleted_rows(files: Files, live: LiveFile) -> Positions:
    """The rows of one data file that are deleted."""
    return _union([read(files, one).get(live.path, NONE) for one in live.deletes])


def counts(files: Files, live: Mapping[str, LiveFile]) -> Counter[str]:
    """Path of a data file → how many of its rows are deleted, as its delete files say.

    Manifests tell it of delete files about one data file. Others are read, once on this worker.
    """
    deletes = {one.file_path: one for file in live.values() for one in file.deletes}
    found = Counter[str]()
    for one in ExecutorFactory.get_or_create().map(lambda one: _count(files, one), deletes.values()):
        found.update(one)
    return found


def _count(files: Files, file: DataFile) -> Mapping[str, int]:
    only = only_path(file)
    if only is not None:
        return {only: file.record_count}
    return _counted.get(file.file_path, lambda: {path: len(rows) for path, rows in read(files, file).items()})


def _ascending(column: pa.ChunkedArray) -> Positions:
    rows = column.to_numpy().astype(np.uint32)
    return rows if bool((rows[1:] > rows[:-1]).all()) else _unique(rows)


def _unique(rows: npt.NDArray[np.integer]) -> Positions:
    """Ascending, each once. `np.unique` takes a hundred times as long: what ascends in parts is sorted in one pass."""
    ordered = np.sort(rows.astype(np.uint32), kind="stable")
    again = ordered[1:] == ordered[:-1]
    return np.delete(ordered, np.flatnonzero(again)) if again.any() else ordered


def _union(parts: Sequence[Positions]) -> Positions:
    filled = [part for part in parts if len(part)]
    if len(filled) < 2:  # noqa: PLR2004 - nothing to be put together
        return filled[0] if filled else NONE
    return _unique(np.concatenate(filled))
