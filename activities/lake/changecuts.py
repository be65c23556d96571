"""Cutting a snapshot of a changelog by sequence number, with as little of it read as will do."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from activities.core import fold
from activities.core.cutting import Cut, Mark, Smallest, Span, needed
from activities.core.mirrors import Sequences
from activities.lake.changecolumns import operations_of, sequences_of
from activities.lake.changereading import OpenFile, Projection
from activities.lake.changes import ChangelogFile, ChangelogSnapshot, FileRows, Pending, Piece
from activities.lake.content import Files
from activities.lake.sequencebounds import SequenceBounds

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
        self._bounds = SequenceBounds(config, table, self._wanted.schema)
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
        return Span(file.rows, *(self._bounds.of_file(file.data) or ()))

    def _groups(self, file: ChangelogFile) -> Iterator[tuple[_Group, Span]]:
        """The row groups of a file, from its footer."""
        with self._files.open(file.path) as parquet:
            source = OpenFile(file, parquet, self._wanted)
            for number in range(parquet.metadata.num_row_groups):
                said = source.statistics(self._pending.config.sequence_column, number)
                known = None if said is None else self._bounds.numbers(said.min, said.max)
                yield (file, number), Span(parquet.metadata.row_group(number).num_rows, *(known or ()))
