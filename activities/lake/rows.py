"""Rows of a changelog, from CSV as PostgreSQL writes it to Parquet files, one for each day."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema

from activities.core.changelogs import SystemColumns
from activities.core.eventquery import CsvColumn
from activities.core.faults import UnsupportedType
from activities.lake.values import arrow_type, read_csv

ROLL_BYTES = 128 * 2**20
"""A file that has grown so large is followed by another one."""
GROUP_BYTES = 16 * 2**20
"""Rows in memory (as Arrow holds them) that make a row group."""
DICTIONARY_BYTES = 128 * 2**10
"""A column whose values are more than this in a row group is written plainly: by then most are met for the first time,
and looking each up took half of the writer's time and made larger files."""
MOST_OPEN = 32
"""Files that are written at once; a batch with events of more days ends files early."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MICROSECONDS = 86_400_000_000


@dataclass(frozen=True)
class MadeFile:
    """A Parquet file on this machine, whole."""

    day: date
    """The one UTC day of every row's timestamp."""
    path: Path
    rows: int
    size: int
    """Bytes."""
    metadata: pq.FileMetaData
    """Its footer, as the writer knows it."""


def csv_table(piece: bytes, columns: Sequence[CsvColumn]) -> pa.Table:
    """Whole CSV lines as a table, each column of the type that Parquet files of the changelog have.

    Raises:
        UnsupportedType: a value does not fit its column.
    """
    names = [column.field for column in columns]
    kinds = [_arrow_type(column.type) for column in columns]
    return pa.table(read_csv(piece, names, kinds), names)


_arrow_type = cache(arrow_type)


class ChangelogFiles:
    """The files of one batch, or of one copy, with the fields and field ids of `schema`.

    Rows come in pieces and in order. A field that a piece lacks is null there. Memory is bounded by a piece and a row
    group of GROUP_BYTES, disk by what `rolled` leaves. Use as a context manager: its end deletes the files.
    Methods block; call one at a time.
    """

    def __init__(self, schema: Schema, system: SystemColumns, roll_bytes: int = ROLL_BYTES) -> None:
        self._schema: pa.Schema = schema_to_pyarrow(schema)
        self._system = system
        self._roll_bytes = roll_bytes
        self.in_order = True
        """Whether no row so far has had a smaller sequence number than the one before it."""
        self._newest = pa.scalar("", pa.large_string())
        self._directory = tempfile.TemporaryDirectory(prefix="icefleet-rows-")
        self._open: dict[date, _DayFile] = {}
        self._made: list[MadeFile] = []
        self._files = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in self._open.values():
            file.abandon()
        self._directory.cleanup()

    def add(self, piece: bytes, columns: Sequence[CsvColumn]) -> int:
        """Add the rows of whole CSV lines; answers how many there were.

        Raises:
            UnsupportedType: a value does not fit its column; nothing of this batch may be used.
        """
        table = self._fitted(csv_table(piece, columns))
        self._watch_order(table.column(self._system.sequence))
        for day, rows in self._by_day(table):
            self._file_of(day).add(rows)
        while sum(file.waiting for file in self._open.values()) >= GROUP_BYTES:
            fullest = max(self._open.values(), key=lambda file: file.waiting)
            if fullest.write() >= self._roll_bytes:
                self._close(fullest.day)
        return int(table.num_rows)

    def rolled(self) -> list[MadeFile]:
        """Files that are whole already, each answered once, here or by `finish`."""
        made, self._made = self._made, []
        return made

    def finish(self) -> list[MadeFile]:
        """End every file; answers those that `rolled` has not, in the order of their days."""
        for day in sorted(self._open):
            self._close(day)
        return self.rolled()

    def _watch_order(self, sequences: pa.ChunkedArray) -> None:
        if not len(sequences):
            return
        goes_on = pc.greater_equal(sequences[0], self._newest).as_py()
        self.in_order = self.in_order and goes_on and pc.all(pc.greater_equal(sequences[1:], sequences[:-1])).as_py()
        self._newest = sequences[-1]

    def _fitted(self, table: pa.Table) -> pa.Table:
        held: Mapping[str, pa.ChunkedArray] = dict(zip(table.column_names, table.columns, strict=True))
        columns = [
            held[field.name] if field.name in held else pa.nulls(table.num_rows, field.type) for field in self._schema
        ]
        if unknown := [name for name in held if name not in self._schema.names]:
            raise UnsupportedType(f"rows have {', '.join(unknown)}, which the changelog's schema lacks")
        return pa.Table.from_arrays(columns, schema=self._schema)

    def _by_day(self, table: pa.Table) -> list[tuple[date, pa.Table]]:
        moments = table.column(self._system.timestamp).cast(pa.int64())
        if moments.null_count:
            raise UnsupportedType(f"rows have no {self._system.timestamp}, by whose day they are kept")
        ends = pc.min_max(moments)
        if not len(moments):
            return []
        first, last = (_day(ends[name].as_py()) for name in ("min", "max"))
        if first == last:
            return [(first, table)]
        days = pc.floor(pc.divide(moments.cast(pa.float64()), _DAY_MICROSECONDS)).cast(pa.int64())
        found = sorted(pc.unique(days).to_pylist())
        return [(_day(day * _DAY_MICROSECONDS), table.filter(pc.equal(days, day))) for day in found]

    def _file_of(self, day: date) -> "_DayFile":
        if day not in self._open:
            if len(self._open) >= MOST_OPEN:
                self._close(next(iter(self._open)))
            self._files += 1
            self._open[day] = _DayFile(day, Path(self._directory.name, f"{self._files}.parquet"), self._schema)
        return self._open[day]

    def _close(self, day: date) -> None:
        self._made.append(self._open.pop(day).close())


class _DayFile:
    """One file while it is written."""

    def __init__(self, day: date, path: Path, schema: pa.Schema) -> None:
        self.day = day
        self.waiting = 0
        """Bytes of rows that no row group holds yet."""
        self._path = path
        self._tables: list[pa.Table] = []
        self._file = path.open("wb")
        self._writer = pq.ParquetWriter(
            self._file,
            schema,
            compression="zstd",
            store_decimal_as_integer=True,
            store_schema=False,
            dictionary_pagesize_limit=DICTIONARY_BYTES,
        )

    def add(self, table: pa.Table) -> None:
        self._tables.append(table)
        self.waiting += table.nbytes

    def write(self) -> int:
        """Make a row group of what waits; answers the file's bytes so far."""
        if self._tables:
            table = pa.concat_tables(self._tables)
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))
            self._tables, self.waiting = [], 0
        return self._file.tell()

    def close(self) -> MadeFile:
        self.write()
        self._writer.close()
        self._file.close()
        metadata: Any = self._writer.writer.metadata
        return MadeFile(self.day, self._path, int(metadata.num_rows), self._path.stat().st_size, metadata)

    def abandon(self) -> None:
        self._writer.close()
        self._file.close()


def _day(microseconds: int) -> date:
    return (_EPOCH + timedelta(microseconds=microseconds)).date()
