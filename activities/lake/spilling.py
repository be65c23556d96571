"""Rows sorted into ranges of keys by way of the disk, so that one range at a time is in memory."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from activities.core.faults import BadRequest
from activities.core.keyranges import KeyRanges
from activities.lake.keys import keys_of

RUN_BYTES = 64 * 2**20
"""Rows in memory, as Arrow holds them, that make a file."""
LEAST_FREE = 2**30
"""Bytes of the disk that are left to others."""


def check_room(directory: Path, size: int, where: str) -> None:
    """Whether a disk has so many bytes to spare; `where` is what messages call the rows.

    Raises:
        BadRequest: it has not.
    """
    spare = shutil.disk_usage(directory).free - LEAST_FREE
    if size > spare:
        raise BadRequest(
            f"{where}: comparing takes {size / 1e9:.1f} GB more of the worker's disk at {directory.parent}, which has "
            f"{max(0, spare) / 1e9:.1f} GB to spare beside {LEAST_FREE / 1e9:.1f} GB for others; compare fewer keys "
            "(--ranges 256 --samples 4), or give the worker's temporary directory more room"
        )


class Spill:
    """Rows of one schema, put into files in a directory that is the caller's. Methods block.

    All of them raise BadRequest when the disk is nearly full.
    """

    def __init__(self, path: Path, schema: pa.Schema, ranges: KeyRanges, keys: Sequence[str], where: str) -> None:
        """Files are called as `path` with a number; `keys` are columns, `where` is what messages call the rows."""
        self._path, self._schema, self._ranges = path, schema, ranges
        self._keys, self._where = keys, where
        self._waiting: list[tuple[pa.Table, npt.NDArray[np.int64]]] = []
        self._bytes = 0
        self._runs: list[tuple[Path, dict[int, int]]] = []
        """A file, and where in it the rows of a range are."""

    def add(self, table: pa.Table) -> None:
        """Keep those rows that lie in a range that was chosen."""
        numbers = self._ranges.of(keys_of([table.column(name) for name in self._keys], self._where))
        if len(self._ranges.chosen) < self._ranges.count:
            kept = np.isin(numbers, self._ranges.chosen)
            table, numbers = table.filter(pa.array(kept)), numbers[kept]
        if len(numbers):
            self._waiting.append((table, numbers))
            self._bytes += table.nbytes
        if self._bytes > RUN_BYTES:
            self._write()

    def read(self, number: int) -> pa.Table:
        """All rows of a range, in the order in which they came."""
        return pa.concat_tables(self.runs(number))

    def runs(self, number: int) -> Iterator[pa.Table]:
        """The same in parts, each of as many rows as fit into a run; the first one is empty."""
        self._write()
        yield self._schema.empty_table()
        for path, places in self._runs:
            if number in places:
                with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as run:
                    yield pa.Table.from_batches([run.get_batch(places[number])])

    def _write(self) -> None:
        if not self._waiting:
            return
        # As if nothing were made smaller: what is written must not be what fills the disk.
        check_room(self._path.parent, self._bytes, self._where)
        table = pa.concat_tables([one for one, _ in self._waiting])
        numbers = np.concatenate([own for _, own in self._waiting])
        order = np.argsort(numbers, kind="stable")
        found, starts = np.unique(numbers[order], return_index=True)
        path = self._path.with_name(f"{self._path.name}-{len(self._runs)}.arrow")
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(str(path), table.schema, options=options) as run:
            for first, stop in zip(starts, [*starts[1:], len(order)], strict=True):
                part = table.take(pa.array(order[first:stop])).combine_chunks()
                run.write_batch(part.to_batches()[0])
        self._runs.append((path, {int(number): place for place, number in enumerate(found)}))
        self._waiting, self._bytes = [], 0
