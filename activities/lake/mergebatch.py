"""One piece of a changelog as the arrays that a merge works with, folded to one change for each key."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.table import Table

from activities.core.fold import Changes, Folded, fold
from activities.core.mirrors import MirrorConfig
from activities.core.mirrorschema import ChangelogField, Following, follow
from activities.core.sequences import greatest
from activities.lake.changecolumns import operations_of, sequences_of, unchanged_of
from activities.lake.changepieces import Taken
from activities.lake.changes import Piece
from activities.lake.keys import keys_of
from activities.lake.mirror import Mirror, merged_columns
from activities.lake.schema import shape_of, to_pure

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """The changes of a piece."""

    piece: Piece
    rows: pa.Table
    """Of each change, in the changelog's order: the columns that the mirror has, too."""
    changes: Changes
    folded: Folded
    unchanged: Flags | None
    """Which of the columns of `rows` a change does not carry; None: all carry all."""
    newest: str
    """The greatest sequence number, 32 hex digits; empty: there are no changes."""


def live_fields(config: MirrorConfig, changelog: Table) -> list[ChangelogField]:
    """The columns of a changelog that its mirror has, too.

    Raises:
        BadConfig: the changelog lacks columns that config names.
    """
    return [
        ChangelogField(field.name, field.field_id, to_pure(field.field_type))
        for field in merged_columns(config, changelog.schema())
    ]


def wanted_columns(config: MirrorConfig, changelog: Table) -> list[str]:
    """Names of the columns of a changelog that a merge reads."""
    names = [field.name for field in merged_columns(config, changelog.schema())]
    has_unchanged = any(field.name == config.unchanged_column for field in changelog.schema().fields)
    return [config.operation_column, *([config.unchanged_column] if has_unchanged else []), *names]


def following_of(config: MirrorConfig, changelog: Table, mirror: Mirror) -> Following:
    """What a mirror's schema is to become so that rows of its changelog, as it is today, fit.

    Raises:
        SchemaConflict: it cannot follow, or must not.
    """
    until = mirror.watermark.newest if mirror.watermark else ""
    return follow(config, live_fields(config, changelog), mirror.columns, shape_of(mirror.table).types, until=until)


def batch_of(config: MirrorConfig, taken: Taken, truncated: str) -> Batch:
    """The changes that were taken; `truncated` is the sequence number of the newest truncate before them.

    Raises:
        ChangeInvalid: one of them cannot be understood.
        BadConfig: a column that config names is of a type that it cannot have.
    """
    table, where = taken.changes, f"changelog {config.changelog}, column "
    sequence, operation = config.sequence_column, config.operation_column
    ours = {operation, config.unchanged_column} - {*config.primary_keys, sequence}
    names = [name for name in table.column_names if name not in ours]
    sequences = sequences_of(table.column(sequence), config.sequence_format, where + sequence)
    changes = Changes(
        keys_of([table.column(name) for name in config.primary_keys], f"changelog {config.changelog}"),
        sequences,
        operations_of(table.column(operation), where + operation),
    )
    unchanged = _unchanged(config, taken, names)
    folded = fold(changes, truncated)
    return Batch(taken.piece, table.select(names), changes, folded, unchanged, greatest(sequences))


def _unchanged(config: MirrorConfig, taken: Taken, names: Sequence[str]) -> Flags | None:
    """Which values are not carried: changes name them as the changelog did when they were written."""
    if config.unchanged_column not in taken.changes.column_names:
        return None
    column = taken.changes.column(config.unchanged_column)
    if column.null_count == len(column):
        return None
    where = f"changelog {config.changelog}, column {config.unchanged_column}"
    table, every = taken.piece.table, np.zeros((len(column), len(names)), np.bool_)
    for start, stop, written in _by_schema(taken.piece):
        known = _names(table, written)
        wanted = _names_then(table, written, names)
        ignored = known.keys() - set(wanted)
        found = unchanged_of(column.slice(start, stop - start), wanted, where, ignored=ignored)
        if found is not None:
            every[start:stop] = found
    return every if every.any() else None


def _by_schema(piece: Piece) -> Iterator[tuple[int, int, int | None]]:
    """Runs of changes, from and to, that were written with one schema; None: the snapshot that wrote them is gone."""
    table, start, stop = piece.table, 0, 0
    known: int | None = None
    for snapshot_id, rows in _runs(piece):
        snapshot = table.snapshot_by_id(snapshot_id)
        written = snapshot.schema_id if snapshot is not None else None
        if stop > start and written != known:
            yield start, stop, known
            start = stop
        known, stop = written, stop + rows
    if stop > start:
        yield start, stop, known


def _runs(piece: Piece) -> Iterator[tuple[int, int]]:
    """Snapshot that wrote changes, and how many, in the order of the changes."""
    if piece.part is None:
        yield from ((file.snapshot_id, file.rows) for file in piece.files)
    else:
        yield from ((one.file.snapshot_id, len(one.rows)) for one in piece.part)


def _names(table: Table, written: int | None) -> dict[str, int]:
    """Name → field id of the columns, with a schema; without one, of all that there ever were, today's first."""
    schemas = [table.schemas()[written]] if written is not None else [*table.schemas().values(), table.schema()]
    return {field.name: field.field_id for schema in schemas for field in schema.fields}


def _names_then(table: Table, written: int | None, names: Sequence[str]) -> list[str]:
    """What columns of today were called with a schema; those that were not there have a name that nothing has."""
    today = {field.name: field.field_id for field in table.schema().fields}
    then = {number: name for name, number in _names(table, written).items()} if written is not None else {}
    return [name if written is None else then.get(today[name], f"\0{name}") for name in names]
