"""Cutting a snapshot of a changelog by sequence number, with as little of it read as will do."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.conversions import from_bytes
from pyiceberg.types import StringType

from activities.core import fold
from activities.core.cutting import Cut, Mark, Smallest, Span, needed
from activities.core.mirrors import Sequences
from activities.lake.changecolumns import operations_of, sequences_of
from activities.lake.changelog import PIPELINE
from activities.lake.changereading import OpenFile, Projection
from activities.lake.changes import ChangelogFile, ChangelogSnapshot, FileRows, Pending, Piece
from activities.lake.content import Files

_Group = tuple[ChangelogFile, int]


def cut(pending: Pending, snapshot: ChangelogSnapshot, after: Mark | None, files: Files, rows: int) -> Piece:
    """The `rows` changes of a snapshot that come first after a mark, or some fewer so that it ends at a good place.

    Sequence numbers are read of row groups that may hold them; which these are, statistics say where they can be
    trusted. Memory follows `rows`.

    Raises:
        ChangeInvalid: a sequence number or an operation is none.
        ObjectRefused, StoreRefused, StoreUnavailable: a file cannot be read.
    """
    return _Cutter(pending, files, after, rows).piece(snapshot)


class _Cutter:
    def __init__(self, pending: Pending, files: Files, after: Mark | None, rows: int) -> None:
        self._pending, self._files, self._after, self._rows = pending, files, after, rows
        config, table = pending.config, pending.table
        self._wanted = Projection(table, (config.sequence_column, config.operation_column))
        self._kind = self._wanted.schema.find_field(config.sequence_column)
        # Of texts the smallest one need not be the smallest number, unless all have the same length.
        self._is_trusted = not isinstance(self._kind.field_type, StringType) or (
            PIPELINE in table.properties and config.sequence_format != "decimal"
        )
        self._name = f"changelog {'.'.join(table.name())}"

    def piece(self, snapshot: ChangelogSnapshot) -> Piece:
        groups, found = self._find(snapshot.files)
        part = []
        for place in np.unique(found.groups):
            file, group = groups[place]
            part.append(FileRows(file, group, found.rows[found.groups == place]))
        return Piece(self._pending.table, self._pending.config, (snapshot,), tuple(part), found.until)

    def _find(self, files: Sequence[ChangelogFile]) -> tuple[list[_Group], Cut]:
        """The row groups that were looked at, and which changes of them it is."""
        spans = [self._span_of(file) for file in files]
        known = [one for place in needed(spans, self._after, self._rows) for one in self._groups(files[place])]
        places = needed([span for _, span in known], self._after, self._rows)
        groups = [known[place][0] for place in places]
        found = Smallest(self._rows, self._after, fold.DELETE)
        for file, numbered in groupby(enumerate(groups), key=lambda one: one[1][0]):
            with self._files.open_most(file.path, file.size) as parquet:
                source = OpenFile(file, parquet, self._wanted)
                for number, (_, group) in numbered:
                    first = 0
                    for table in source.batches([group]):
                        found.add(*self._read(table), number, first)
                        first += table.num_rows
        return groups, found.cut()

    def _read(self, table: pa.Table) -> tuple[Sequences, npt.NDArray[np.uint8]]:
        config = self._pending.config
        sequences, operations = (f"{self._name}, column {name}" for name in self._wanted.columns)
        return (
            sequences_of(table.column(0), config.sequence_format, sequences),
            operations_of(table.column(1), operations),
        )

    def _span_of(self, file: ChangelogFile) -> Span:
        low, high = self._bound(file.data.lower_bounds), self._bound(file.data.upper_bounds)
        nulls = (file.data.null_value_counts or {}).get(self._kind.field_id)
        return Span(file.rows) if nulls else self._span(file.rows, low, high)

    def _bound(self, bounds: dict[int, bytes] | None) -> Any:
        raw = (bounds or {}).get(self._kind.field_id)
        return None if raw is None else from_bytes(self._kind.field_type, raw)  # type: ignore[arg-type]

    def _groups(self, file: ChangelogFile) -> Iterator[tuple[_Group, Span]]:
        """The row groups of a file, from its footer."""
        with self._files.open(file.path) as parquet:
            source = OpenFile(file, parquet, self._wanted)
            for number in range(parquet.metadata.num_row_groups):
                rows, said = parquet.metadata.row_group(number).num_rows, source.statistics(self._kind.name, number)
                yield (file, number), Span(rows) if said is None else self._span(rows, said.min, said.max)

    def _span(self, rows: int, low: Any, high: Any) -> Span:
        """With ends where they are known to be those of the numbers."""
        if not self._is_trusted or low is None or high is None:
            return Span(rows)
        numbers = [int(end, 16) if isinstance(end, str) else int(end) for end in (low, high)]
        return Span(rows, *numbers) if numbers[0] >= 0 else Span(rows)
