"""One piece of a changelog as the arrays that a merge works with, folded to one change for each key."""

from collections.abc import Sequence
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
from activities.lake.keys import check_twins, keys_of
from activities.lake.mirror import Mirror
from activities.lake.mirrormade import check_source, merged_columns
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
        BadConfig: the changelog lacks columns that config names, or is written otherwise than config says.
    """
    fields = merged_columns(config, changelog.schema())
    check_source(config, changelog)
    return [ChangelogField(field.name, field.field_id, to_pure(field.field_type)) for field in fields]


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


def following_anew(config: MirrorConfig, changelog: Table, mirror: Mirror) -> Following:
    """The same for a mirror that begins again: its columns are known by their names.

    Raises:
        SchemaConflict: a column has a type that the mirror's cannot become.
    """
    return follow(config, live_fields(config, changelog), None, shape_of(mirror.table).types)


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
    keys = [table.column(name) for name in config.primary_keys]
    changes = Changes(
        keys_of(keys, f"changelog {config.changelog}"),
        sequences,
        operations_of(table.column(operation), where + operation),
    )
    unchanged = _unchanged(config, taken, names)
    folded = fold(changes, truncated)
    check_twins(keys, folded.twins, f"changelog {config.changelog}")
    return Batch(taken.piece, table.select(names), changes, folded, unchanged, greatest(sequences))


def _unchanged(config: MirrorConfig, taken: Taken, names: Sequence[str]) -> Flags | None:
    """Which values are not carried. Reading has put today's names of columns there."""
    if config.unchanged_column not in taken.changes.column_names:
        return None
    every = {field.name for field in taken.piece.table.schema().fields}
    return unchanged_of(
        taken.changes.column(config.unchanged_column),
        names,
        f"changelog {config.changelog}, column {config.unchanged_column}",
        ignored=every.difference(names),
    )
