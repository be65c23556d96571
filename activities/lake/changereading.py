"""Changes as Arrow tables: of files of any age, under the names and types that the changelog has today."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    _get_column_projection_values,
    pyarrow_to_schema,
    schema_to_pyarrow,
)
from pyiceberg.schema import Schema, prune_columns
from pyiceberg.table import Table
from pyiceberg.types import ListType, MapType

from activities.core.faults import BadConfig
from activities.lake.changes import ChangelogFile, FileRows, Piece
from activities.lake.content import Files
from activities.lake.projecting import projected

BATCH_ROWS = 65_536


class TooWide(Exception):  # noqa: N818 - no fault: the piece is cut anew
    """A piece takes more memory than it may; it never leaves the lake."""

    def __init__(self, rows: int) -> None:
        super().__init__(f"only about {rows} changes fit")
        self.rows = rows
        """About so many changes fit, at least 1."""


@dataclass(frozen=True)
class Projection:
    """Some columns of a changelog, as it has them today."""

    table: Table
    columns: tuple[str, ...]
    naming: str = ""
    """The column whose lists hold names of columns; they become those of today, too. Empty: none."""

    @cached_property
    def schema(self) -> Schema:
        """The columns with their field ids, in the order that was asked for.

        Raises:
            BadConfig: the changelog has no such column.
        """
        known = {field.name: field for field in self.table.schema().fields}
        if lacking := [name for name in self.columns if name not in known]:
            raise BadConfig(f"changelog {'.'.join(self.table.name())} has no column {', '.join(lacking)}")
        return Schema(*(known[name] for name in self.columns))

    @cached_property
    def arrow(self) -> pa.Schema:
        """As Arrow has them."""
        return schema_to_pyarrow(self.schema, include_field_ids=False)

    @cached_property
    def ids(self) -> set[int]:
        """Of all fields that hold values."""
        find = self.schema.find_type
        return {number for number in self.schema.field_ids if not isinstance(find(number), MapType | ListType)}


@dataclass(frozen=True)
class OpenFile:
    """A changelog's file while it is read."""

    file: ChangelogFile
    parquet: pq.ParquetFile
    wanted: Projection

    @cached_property
    def schema(self) -> Schema:
        """All columns of the file with their field ids; those without are named by the table's name mapping."""
        table = self.wanted.table
        return pyarrow_to_schema(
            self.parquet.schema_arrow,
            table.name_mapping(),
            downcast_ns_timestamp_to_us=True,
            format_version=table.metadata.format_version,
        )

    @cached_property
    def held(self) -> Schema:
        """The columns of it that are wanted."""
        return prune_columns(self.schema, self.wanted.ids, select_full_types=False)

    @cached_property
    def renamed(self) -> dict[str, str | None]:
        """What columns of the file that have another name today are called now; None: they are gone."""
        today = {field.field_id: field.name for field in self.wanted.table.schema().fields}
        then = {field.name: today.get(field.field_id) for field in self.schema.fields}
        return {before: now for before, now in then.items() if before != now}

    @cached_property
    def constants(self) -> dict[int, Any]:
        """Values that only the file's partition says."""
        table, spec = self.wanted.table, self.wanted.table.specs().get(self.file.data.spec_id)
        found: dict[int, Any] = _get_column_projection_values(
            self.file.data, self.wanted.schema, table.schema(), spec, self.schema.field_ids
        )
        return found

    def statistics(self, name: str, group: int) -> pq.Statistics | None:
        """What the footer says of a column in a row group: ends, and no nulls; None when it does not say that."""
        number = self.wanted.schema.find_field(name).field_id
        metadata = self.parquet.metadata
        held = next((field.name for field in self.held.fields if field.field_id == number), None)
        paths = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
        said = metadata.row_group(group).column(paths.index(held)).statistics if held in paths else None
        is_whole = said is not None and said.has_min_max and said.has_null_count and not said.null_count
        return said if is_whole else None

    def batches(self, groups: Sequence[int] | None = None) -> Iterator[pa.Table]:
        """Rows of some row groups (None: of all), in order."""
        names = [field.name for field in self.held.fields]
        chosen = range(self.parquet.num_row_groups) if groups is None else groups
        for batch in self.parquet.iter_batches(BATCH_ROWS, row_groups=list(chosen), columns=names):
            yield self._shown(batch)

    def _shown(self, batch: pa.RecordBatch) -> pa.Table:
        wanted = self.wanted
        shown = projected(wanted.schema, self.held, batch, constants=self.constants, any_zone=True)
        columns = [as_type(column, field.type) for column, field in zip(shown.columns, wanted.arrow, strict=True)]
        if self.renamed and wanted.naming in wanted.columns:
            place = wanted.columns.index(wanted.naming)
            columns[place] = _renamed(columns[place], self.renamed)
        return pa.Table.from_arrays(columns, schema=wanted.arrow)


def as_type(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Widened, and of the types that PyIceberg has: large texts, UUIDs of their own."""
    if column.type == kind:
        return column
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, as_type(column, kind.storage_type))
    if isinstance(column, pa.ExtensionArray):
        return as_type(column.storage, kind)
    return column.cast(kind)


def _renamed(lists: pa.Array, names: Mapping[str, str | None]) -> pa.Array:
    """Lists of names, with those that have changed; names that are gone are left out."""
    if not pa.types.is_large_list(lists.type) or lists.null_count == len(lists):
        return lists
    rows = pc.list_parent_indices(lists).to_numpy()
    listed = lists.flatten().dictionary_encode()
    now = pa.array([names.get(name, name) for name in listed.dictionary.to_pylist()], listed.dictionary.type)
    found = now.take(listed.indices)
    kept = found.is_valid().to_numpy(zero_copy_only=False) | listed.is_null().to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=len(lists)))])
    values = found.filter(pa.array(kept))
    return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), values, lists.type, mask=lists.is_null())


def read(piece: Piece, files: Files, columns: Sequence[str], most_bytes: int | None = None) -> pa.Table:
    """The changes of a piece in the changelog's order, with `columns` as the changelog names and types them today.

    So are the columns that the unchanged column names: what was renamed since has its new name there.

    Args:
        piece: Whose they are.
        files: The store's.
        columns: Names of columns of the changelog.
        most_bytes: As Arrow holds them; None: however many.

    Raises:
        TooWide: they are more, and more than one.
        BadConfig: the changelog has no such column.
        ObjectRefused, StoreRefused, StoreUnavailable: a file cannot be read.
    """
    wanted = Projection(piece.table, tuple(columns), piece.config.unchanged_column)
    found, rows, size = [wanted.arrow.empty_table()], 0, 0
    for table in _tables(piece, files, wanted):
        found.append(table)
        rows, size = rows + table.num_rows, size + table.nbytes
        if most_bytes is not None and size > most_bytes and piece.rows > 1:
            raise TooWide(max(1, rows * most_bytes // size * 3 // 4))
    return pa.concat_tables(found)


def _tables(piece: Piece, files: Files, wanted: Projection) -> Iterator[pa.Table]:
    if piece.part is None:
        for file in piece.files:
            with files.open_most(file.path, file.size) as parquet:
                yield from OpenFile(file, parquet, wanted).batches()
        return
    yield from _part(piece.part, files, wanted)


def _part(part: Iterable[FileRows], files: Files, wanted: Projection) -> Iterator[pa.Table]:
    for file, groups in groupby(part, key=lambda one: one.file):
        with files.open_most(file.path, file.size) as parquet:
            source = OpenFile(file, parquet, wanted)
            for chosen in groups:
                first = 0
                for table in source.batches([chosen.group]):
                    begin, end = np.searchsorted(chosen.rows, (first, first + table.num_rows))
                    if begin < end:
                        yield table.take(chosen.rows[begin:end] - first)
                    first += table.num_rows
