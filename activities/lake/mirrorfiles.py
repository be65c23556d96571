"""New rows of a mirror, from Arrow to Parquet files on this machine's disk, each of one partition."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record

from activities.core.faults import SchemaConflict
from activities.lake.files import new_file
from activities.lake.filestatistics import statistics_of
from activities.lake.footers import Footer
from activities.lake.partitioning import Part, parts_of

GROUP_BYTES = 16 * 2**20
"""Rows in memory (as Arrow holds them) that make a row group."""
GROUP_ROWS = 128 * 1024
"""The most rows of a row group: old rows are read back by groups."""
SAMPLE_ROWS = 4096
"""Rows that tell whether a column's values repeat."""
COLUMN_BYTES = 1024
"""What a column of a table takes in memory beside its values."""
MOST_OPEN = 64
"""Files that are written at once; once rows of more partitions do not fit into memory, they end files early."""
FILE_ROWS = 4 * 2**20
"""The most rows of a file, however narrow they are: what is done to a whole file has an end."""
_DIFFERENCES = "DELTA_BINARY_PACKED"
_WHOLE = (pa.types.is_integer, pa.types.is_date, pa.types.is_time, pa.types.is_timestamp)
_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
Places = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Placed:
    """Where the rows of a table went, in their order."""

    files: Places
    """Ordinal of the file, counted from 0."""
    rows: Places
    """0-based position in it."""


@dataclass(frozen=True)
class MadeMirrorFile:
    """A Parquet file on this machine, whole."""

    ordinal: int
    path: Path
    partition: Record
    """By the writer's spec."""
    rows: int
    size: int
    """Bytes."""
    metadata: pq.FileMetaData
    """Its footer, as the writer knows it."""


class MirrorWriter:
    """Files of one commit with the fields and field ids of `schema`, cut by `spec`, in `directory`.

    A file that has grown to `target_bytes` is followed by another one. In memory is a table that is added, and
    GROUP_BYTES. Whoever made the directory deletes it. Use as a context manager; methods block; call one at a time.
    """

    def __init__(self, schema: Schema, spec: PartitionSpec, target_bytes: int, directory: Path) -> None:
        self._schema = schema
        self._arrow: pa.Schema = schema_to_pyarrow(schema)
        self._spec = spec
        self._target = target_bytes
        self._directory = directory
        self._open: dict[tuple[Any, ...], _PartFile] = {}
        self._waiting = 0
        self._made: list[MadeMirrorFile] = []
        self._files = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in self._open.values():
            file.close()

    def add(self, table: pa.Table) -> Placed:
        """Add rows; columns that the table lacks are null in them.

        Raises:
            SchemaConflict: it has a column that the schema lacks, or one of another type.
        """
        fitted = self._fitted(table)
        files, rows = np.empty(fitted.num_rows, np.uint32), np.empty(fitted.num_rows, np.uint32)
        for found in parts_of(fitted, self._schema, self._spec):
            values, file = found.values, self._file_of(found)
            part = fitted if found.rows is None else fitted.take(pa.array(found.rows))
            where: Any = slice(None) if found.rows is None else found.rows
            files[where] = file.ordinal
            rows[where] = np.arange(file.rows, file.rows + part.num_rows, dtype=np.uint32)
            self._waiting += file.add(part)
            if file.waiting >= min(GROUP_BYTES, self._target):
                self._write(values)
            elif file.rows >= FILE_ROWS:
                self._close(values)
            while self._waiting >= GROUP_BYTES:
                self._write(max(self._open, key=lambda values: self._open[values].waiting))
        return Placed(files, rows)

    def made(self) -> list[MadeMirrorFile]:
        """Files that are whole already, each answered once, here or by `finish`."""
        made, self._made = self._made, []
        return made

    def finish(self) -> list[MadeMirrorFile]:
        """End every file; answers those that `made` has not."""
        for values in list(self._open):
            self._close(values)
        return sorted(self.made(), key=lambda file: file.ordinal)

    def _fitted(self, table: pa.Table) -> pa.Table:
        held = dict(zip(table.column_names, table.columns, strict=True))
        if unknown := [name for name in held if name not in self._arrow.names]:
            raise SchemaConflict(f"rows have {', '.join(unknown)}, which the mirror's schema lacks")
        try:
            columns = [
                held[field.name].cast(field.type) if field.name in held else pa.nulls(table.num_rows, field.type)
                for field in self._arrow
            ]
        except pa.ArrowInvalid as wrong:
            raise SchemaConflict(f"rows do not fit the mirror's columns: {wrong}") from wrong
        return pa.Table.from_arrays(columns, schema=self._arrow)

    def _file_of(self, part: Part) -> "_PartFile":
        if part.values not in self._open:
            # A name of its own, so that it can be that of the object, too.
            path = self._directory / f"{uuid.uuid4()}.parquet"
            self._open[part.values] = _PartFile(self._files, path, self._arrow, part.record)
            self._files += 1
        return self._open[part.values]

    def _write(self, values: tuple[Any, ...]) -> None:
        """Make row groups of what waits in a file. It ends if it is large enough, and another if too many are open."""
        file = self._open[values]
        if not file.bytes:
            begun = [other for other, one in self._open.items() if one.bytes]
            if len(begun) >= MOST_OPEN:
                self._close(max(begun, key=lambda other: self._open[other].bytes))
        self._waiting -= file.waiting
        if file.write() >= self._target or file.rows >= FILE_ROWS:
            self._close(values)

    def _close(self, values: tuple[Any, ...]) -> None:
        file = self._open.pop(values)
        self._waiting -= file.waiting
        self._made.append(file.close())


class _PartFile:
    """One file while it is written; there is none on the disk before its first row group."""

    def __init__(self, ordinal: int, path: Path, schema: pa.Schema, partition: Record) -> None:
        self.ordinal = ordinal
        self.rows = 0
        self.waiting = 0
        """Bytes of rows that no row group holds yet."""
        self._path = path
        self._partition = partition
        self._tables: list[pa.Table] = []
        self._file: BinaryIO | None = None
        self._schema = schema
        self._writer: pq.ParquetWriter | None = None

    @property
    def bytes(self) -> int:
        """The file's bytes so far; 0: it is not there yet."""
        return 0 if self._file is None else self._file.tell()

    def add(self, table: pa.Table) -> int:
        """Answers how many more bytes wait."""
        added = int(table.nbytes) + COLUMN_BYTES * int(table.num_columns)
        self._tables.append(table)
        self.waiting += added
        self.rows += table.num_rows
        return added

    def write(self) -> int:
        """Make row groups of what waits; answers the file's bytes so far."""
        if self._tables:
            rows = pa.concat_tables(self._tables)
            self._opened(rows).write_table(rows, row_group_size=GROUP_ROWS)
            self._tables, self.waiting = [], 0
        return self.bytes

    def _opened(self, rows: pa.Table) -> pq.ParquetWriter:
        if self._writer is None:
            repeating = _repeating(rows)
            encodings = _encodings(self._schema, repeating)
            self._file = self._path.open("wb")
            self._writer = pq.ParquetWriter(
                self._file,
                self._schema,
                compression=_compression(self._schema, encodings),
                use_dictionary=repeating,
                column_encoding=encodings,
                # A page for each column of a row group if it can be: what readers do for each page has its price, too.
                max_rows_per_page=GROUP_ROWS,
                store_decimal_as_integer=True,
                store_schema=False,
            )
        return self._writer

    def close(self) -> MadeMirrorFile:
        self.write()
        writer = self._opened(self._schema.empty_table())
        writer.close()
        if self._file is not None:
            self._file.close()
        metadata: Any = writer.writer.metadata
        size = self._path.stat().st_size
        return MadeMirrorFile(self.ordinal, self._path, self._partition, self.rows, size, metadata)


def _repeating(rows: pa.Table) -> list[str]:
    """Columns whose values repeat: for the others a dictionary takes as long as all the rest, and more room."""
    sample = rows.slice(0, SAMPLE_ROWS)
    return [
        name
        for name, column in zip(sample.column_names, sample.columns, strict=True)
        if not pa.types.is_nested(column.type) and pc.count_distinct(_plain(column)).as_py() * 2 <= len(column)
    ]


def _encodings(schema: pa.Schema, repeating: Collection[str]) -> dict[str, str]:
    """Whole numbers and times as differences, texts with their lengths ahead: sooner read, and not larger."""
    kinds = ((_DIFFERENCES, _WHOLE), ("DELTA_LENGTH_BYTE_ARRAY", _TEXT))
    return {
        field.name: encoding
        for field in schema
        for encoding, types in kinds
        if field.name not in repeating and any(is_such(field.type) for is_such in types)
    }


def _compression(schema: pa.Schema, encodings: Mapping[str, str]) -> dict[str, str]:
    """Path of a column → codec: what differences leave is not made smaller, and would have to be unpacked."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    columns = pq.read_metadata(pa.BufferReader(sink.getvalue())).schema
    paths = [columns.column(number).path for number in range(len(columns))]
    return {path: "none" if encodings.get(path) == _DIFFERENCES else "zstd" for path in paths}


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    is_extension = isinstance(column.type, pa.BaseExtensionType)
    return column.cast(column.type.storage_type) if is_extension else column


def described(metadata: TableMetadata, made: MadeMirrorFile, stored: str) -> DataFile:
    """The manifest's entry of a file that was stored as `stored`; `metadata` is `rowdelta.metadata_after`."""
    footer = Footer(stored, made.metadata, made.size)
    return new_file(metadata, made.partition, stored, made.size, statistics_of(metadata, footer))


def all_described(metadata: TableMetadata, made: Sequence[MadeMirrorFile], stored: Mapping[int, str]) -> list[DataFile]:
    """The same of several; `stored` is ordinal → path."""
    return [described(metadata, one, stored[one.ordinal]) for one in made]
