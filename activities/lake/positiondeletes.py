"""Which rows of data files are deleted: position delete files read, put together and written.

Readers look for the delete files of a data file by the bounds of `file_path`, which are the whole path here. What
would have to be another for deletion vectors is `read`, `write` and `described`.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
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
POSITION_ID = 2147483545
_SCHEMA = pa.schema(
    [
        pa.field("file_path", pa.dictionary(pa.int32(), pa.string()), False, {"PARQUET:field_id": str(PATH_ID)}),  # noqa: FBT003 - pyarrow's own order
        pa.field("pos", pa.int64(), False, {"PARQUET:field_id": str(POSITION_ID)}),  # noqa: FBT003
    ]
)
NONE: Positions = np.empty(0, np.uint32)
REMEMBERED_BYTES = 32 * 2**20
_known: Remembered[dict[str, Positions]] = Remembered(
    REMEMBERED_BYTES, lambda held: sum(1000 + rows.nbytes for rows in held.values())
)


@dataclass(frozen=True)
class MadeDeletes:
    """A position delete file for one data file, not stored yet."""

    path: str
    """Of the data file."""
    body: bytes
    positions: Positions

    @property
    def count(self) -> int:
        """Rows that it deletes."""
        return len(self.positions)


@dataclass(frozen=True)
class Touched:
    """A data file of which more is deleted than before."""

    live: LiveFile
    positions: Positions
    """All rows of it that are deleted then."""

    @property
    def is_gone(self) -> bool:
        """Whether no row is left: the file goes, and its delete files with it."""
        return len(self.positions) >= self.live.rows


def write(path: str, positions: Positions) -> MadeDeletes:
    """A delete file for these rows (at least one) of the data file that manifests call `path`."""
    sink = pa.BufferOutputStream()
    named = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(positions), np.int32)), pa.array([path]))
    table = pa.Table.from_arrays([named, pa.array(positions.astype(np.int64))], schema=_SCHEMA)
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=["file_path"],
        write_statistics=["pos"],  # those of a path that is always the same take longer than all the rest
        column_encoding={"pos": "DELTA_BINARY_PACKED"},
        store_schema=False,
    )
    return MadeDeletes(path, sink.getvalue().to_pybytes(), positions)


def described(made: MadeDeletes, stored: str, data: DataFile) -> DataFile:
    """The manifest's entry of a delete file that was stored as `stored`; `data` is the file whose rows it deletes."""
    path, count = made.path.encode(), made.count
    lowest, highest = (struct.pack("<q", int(made.positions[end])) for end in (0, -1))
    _known.put(stored, {made.path: made.positions})
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
        lower_bounds={PATH_ID: path, POSITION_ID: lowest},
        upper_bounds={PATH_ID: path, POSITION_ID: highest},
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
    only = only_path(file)
    with files.open(file.file_path) as opened:
        if only is not None:
            return {only: _ascending(opened.read(["pos"]).column("pos"))}
        table = opened.read(["file_path", "pos"])
    paths = table.column("file_path").combine_chunks().dictionary_encode()
    codes, rows = paths.indices.to_numpy(), table.column("pos").to_numpy()
    return {path: _unique(rows[codes == code]) for code, path in enumerate(paths.dictionary.to_pylist())}


def deleted_rows(files: Files, live: LiveFile) -> Positions:
    """The rows of one data file that are deleted."""
    return _union([read(files, one).get(live.path, NONE) for one in live.deletes])


def touch(files: Files, live: Mapping[str, LiveFile], deleted: Mapping[str, Positions]) -> list[Touched]:
    """What is deleted of each data file once `deleted` (path → rows) is, too.

    A delete file of another writer that is about several data files brings all of them, so that each can have one of
    its own and the old one can go.
    """
    waiting, known, found = set(deleted), dict[str, dict[str, Positions]](), list[Touched]()
    pool = ExecutorFactory.get_or_create()
    seen = set[str]()
    while waiting:
        unread = {one.file_path: one for path in waiting for one in live[path].deletes if one.file_path not in known}
        for path, rows in zip(unread, pool.map(lambda one: read(files, one), unread.values()), strict=True):
            known[path] = rows
        seen |= waiting
        waiting = {path for one in unread for path in known[one] if path in live} - seen
    for path in sorted(seen):
        before = [known[one.file_path].get(path, NONE) for one in live[path].deletes]
        found.append(Touched(live[path], _union([*before, deleted.get(path, NONE)])))
    return [one for one in found if len(one.positions)]


def superseded(touched: Iterable[Touched]) -> list[DataFile]:
    """The delete files that leave the table when each file that was touched has its own."""
    return list({one.file_path: one for each in touched for one in each.live.deletes}.values())


def own_deletes(live: LiveFile) -> list[DataFile]:
    """The delete files that are about this data file and no other: they go when it goes."""
    return [one for one in live.deletes if only_path(one) == live.path]


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
