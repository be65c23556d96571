"""How a changelog's fields follow the columns of its source, whatever the source's people do to them.

Columns are known by their identity where schema events tell it, else by name, as in a table that was made anew. A
field is never deleted: one whose column was dropped stays, and is null from then on. The result depends on the schema
events alone, not on the batches in which they come.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from activities.core.changelogs import ChangelogRules
from activities.core.faults import BadConfig, ChangelogForeign, SchemaConflict
from activities.core.iceberg_types import IcebergType, widens
from activities.core.pgtypes import iceberg_of
from activities.core.sourcetables import COLUMN_BITS, SourceColumn, SourceTable

_LONGEST_NAME = 63
"""Bytes of a name in PostgreSQL; it cuts what is longer."""
_LSN_DIGITS = 16


@dataclass(frozen=True)
class ColumnState:
    """A source column and the field of the changelog that holds it."""

    source: SourceColumn
    field: str
    """The column's name, unless it was dropped and its name taken by another."""
    dropped: bool = False
    since: str = ""
    """Sequence number of the schema event that brought it; empty if it was there from the start."""


@dataclass(frozen=True)
class ChangelogColumns:
    """What the property `icefleet.cdc.columns` holds: columns that the source has or had, oldest first."""

    columns: tuple[ColumnState, ...]
    key: tuple[str, ...]
    """Source names of the columns that identify a row; empty: there are none."""
    at: str
    """Sequence number of the last schema event that this knows."""

    @property
    def live(self) -> tuple[ColumnState, ...]:
        """The columns that the source has."""
        return tuple(column for column in self.columns if not column.dropped)

    def dump(self) -> str:
        """As compact JSON."""
        told = {"at": self.at, "key": list(self.key), "columns": [_dump_column(column) for column in self.columns]}
        return json.dumps(told, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> "ChangelogColumns":
        """What `dump` wrote.

        Raises:
            ChangelogForeign: it did not write this.
        """
        try:
            told = json.loads(text)
            columns = tuple(_load_column(column) for column in told["columns"])
            return cls(columns, tuple(told["key"]), told["at"])
        except (ValueError, TypeError, KeyError) as wrong:
            raise ChangelogForeign(
                f"the property icefleet.cdc.columns of the changelog is not what was written: {text[:100]!r}; roll the "
                "table back to the metadata before, or drop it and have it copied anew"
            ) from wrong


@dataclass(frozen=True)
class AddField:
    """A new optional field, at the end."""

    name: str
    type: IcebergType


@dataclass(frozen=True)
class RenameField:
    """Another name for a field; its id and data stay."""

    old: str
    new: str


@dataclass(frozen=True)
class WidenField:
    """A wider type for a field, under the name that it has when its turn comes."""

    name: str
    type: IcebergType


Change = AddField | RenameField | WidenField


@dataclass(frozen=True)
class Drift:
    """What the schema events of a batch ask for."""

    columns: ChangelogColumns
    """The state after the batch."""
    types: Mapping[str, IcebergType]
    """The type of every field after the batch, by its final name; ours too if they were given."""
    changes: tuple[Change, ...]
    """To be made to the table one after the other: each sees the names that those before it left."""
    start: ChangelogColumns
    """What holds for the rows before the first event, with final field names."""
    steps: tuple[ChangelogColumns, ...]
    """What holds for the rows after each event, with final field names."""


def first_columns(table: SourceTable, rules: ChangelogRules, at: str) -> ChangelogColumns:
    """The state of a changelog that is yet to be made.

    Raises:
        BadConfig: a source column has the name of one of ours, or of another one but for its case.
        UnsupportedType: a column's type is no type.
    """
    for column in table.columns:
        _check_name(table, column.name, rules.system.names)
        iceberg_of(column)
    return ChangelogColumns(tuple(ColumnState(column, column.name) for column in table.columns), table.key, at)


def types_of(columns: ChangelogColumns) -> dict[str, IcebergType]:
    """The types of a new changelog's fields, without ours."""
    return {column.field: iceberg_of(column.source) for column in columns.columns}


def plan_drift(
    now: ChangelogColumns, types: Mapping[str, IcebergType], events: Sequence[tuple[str, SourceTable]]
) -> Drift:
    """What becomes of the changelog when `events` (sequence number and table, in order) have come.

    `types` has every field of the table, ours too: a new column may not take the name of one that is not the source's.
    Events at or before `now.at` change nothing.

    Raises:
        SchemaConflict: a column's type changed into one that its field cannot hold.
        BadConfig: a new column has the name of a field that is not the source's, or of any other but for its case.
        UnsupportedType: a column's type is no type.
    """
    foreign = types.keys() - {column.field for column in now.columns}
    kinds = [types[column.field] for column in now.columns]
    state, states = now, []
    for sequence, table in events:
        if sequence > state.at:
            state = _follow(state, kinds, sequence, table, foreign)
        states.append(state)
    names = [column.field for column in state.columns]
    final = {name: types[name] for name in types if name in foreign} | dict(zip(names, kinds, strict=True))
    changes = renames([column.field for column in now.columns], names)
    changes += [
        WidenField(name, kind)
        for before, name, kind in zip(now.columns, names, kinds, strict=False)
        if types[before.field] != kind
    ]
    known = len(now.columns)
    changes += [AddField(name, kind) for name, kind in zip(names[known:], kinds[known:], strict=True)]
    steps = tuple(_with_fields(one, names) for one in states)
    return Drift(state, final, tuple(changes), _with_fields(now, names), steps)


def _follow(
    state: ChangelogColumns, kinds: list[IcebergType], sequence: str, table: SourceTable, foreign: set[str]
) -> ChangelogColumns:
    """The state after one event; `kinds` is brought along."""
    columns = list(state.columns)
    places = _places(table.columns, state.columns, kinds)
    for place, before in enumerate(state.columns):
        if not before.dropped and place not in places.values():
            columns[place] = replace(before, dropped=True)
    for column in table.columns:
        known = places.get(column.name)
        if known is None:
            columns.append(ColumnState(column, column.name, since=sequence))
            kinds.append(iceberg_of(column))
            continue
        before = columns[known]
        kinds[known] = _wider(table, before, column, kinds[known])
        source = replace(column, id=before.source.id if column.id is None else column.id)
        columns[known] = replace(before, source=source, field=column.name)
    for name in sorted({column.name for column in table.columns} - {column.field for column in state.columns}):
        _check_name(table, name, foreign)
    return ChangelogColumns(_retired(columns, sequence), table.key, sequence)


def _places(
    columns: Sequence[SourceColumn], before: Sequence[ColumnState], kinds: Sequence[IcebergType]
) -> dict[str, int]:
    """Column → which of those that the source had it is: by identity where both tell it, else by name."""
    live = {place: one.source for place, one in enumerate(before) if not one.dropped}
    of_id = {one.id: place for place, one in live.items() if one.id is not None}
    found = {column.name: of_id[column.id] for column in columns if column.id in of_id}
    of_name = {one.name: place for place, one in live.items() if place not in found.values()}
    for column in columns:
        place = of_name.get(column.name)
        if column.name not in found and place is not None and _goes_on(live[place], column, kinds[place]):
            found[column.name] = place
    return found


def _goes_on(before: SourceColumn, column: SourceColumn, held: IcebergType) -> bool:
    """Whether a column is the one that had its name before, and not one that was made in its place.

    In a table that was made anew it is, as long as its field can hold both.
    """
    if before.id is None or column.id is None:
        return True
    new = iceberg_of(column)
    return before.id >> COLUMN_BITS != column.id >> COLUMN_BITS and (widens(new, held) or widens(held, new))


def _wider(table: SourceTable, before: ColumnState, column: SourceColumn, held: IcebergType) -> IcebergType:
    """The type of the field that holds both what it held and what comes now."""
    new = iceberg_of(column)
    if widens(new, held):
        return held
    if widens(held, new):
        return new
    raise SchemaConflict(
        f"source table {table.identifier}: column {column.name} was {before.source.type} and is {column.type}, "
        f"and the changelog's {held} cannot become {new}; change the column back, or put the changelog aside (rename "
        f"or drop it), and then have the table copied anew: `icefleet cdc install --tables {table.identifier} --again` "
        "(where others fill the buffer, mend the schema event there, and resume the table)"
    )


def _retired(columns: list[ColumnState], sequence: str) -> tuple[ColumnState, ...]:
    """Dropped columns make way for columns that have their name now."""
    taken = {column.field.lower() for column in columns if not column.dropped}
    fields = {column.field.lower() for column in columns}
    for place, column in enumerate(columns):
        if column.dropped and column.field.lower() in taken:
            base = name = f"{column.field}_until_{sequence[:_LSN_DIGITS].lstrip('0') or '0'}"
            count = 1
            while name.lower() in fields:
                count += 1
                name = f"{base}_{count}"
            fields.add(name.lower())
            columns[place] = replace(column, field=name)
    return tuple(columns)


def renames(before: Sequence[str], after: Sequence[str]) -> list[Change]:
    """From old names to new ones, so that no step meets a name that is still in use; a circle goes by a spare name."""
    waiting = {old: new for old, new in zip(before, after, strict=False) if old != new}
    used, made = set(before), list[Change]()
    while waiting:
        old = next((old for old, new in waiting.items() if new not in used), None)
        if old is None:
            old, new = next(iter(waiting.items()))
            spare = f"{old}_moving"
            while spare in used or spare in after:
                spare += "_"
            made.append(RenameField(old, spare))
            waiting = {spare if one == old else one: target for one, target in waiting.items()}
            used = used - {old} | {spare}
            continue
        new = waiting.pop(old)
        made.append(RenameField(old, new))
        used = used - {old} | {new}
    return made


def _with_fields(state: ChangelogColumns, names: Sequence[str]) -> ChangelogColumns:
    fields = zip(state.columns, names, strict=False)
    return replace(state, columns=tuple(replace(column, field=name) for column, name in fields))


def _check_name(table: SourceTable, name: str, others: Collection[str]) -> None:
    """Names differ not only in case: DuckDB and others read no table in which they do."""
    where = f"source table {table.identifier}: column {name[:_LONGEST_NAME]}"
    for twin in (column.name for column in table.columns if column.name.lower() == name.lower()):
        if twin != name:
            raise BadConfig(
                f"{where} differs from {twin} only in upper and lower case, and there are readers that take both for "
                "one; rename either at the source; a table that was followed already is then copied anew: "
                f"`icefleet cdc install --tables {table.identifier} --again`"
            )
    if name.lower() in {other.lower() for other in others}:
        raise BadConfig(
            f"{where} has the name of a column that the changelog has for itself; rename the column at the source, or, "
            "before the first copy, give ours another name (`system_columns` of the pipeline in environments.yaml); a "
            "table that was followed already is then copied anew: "
            f"`icefleet cdc install --tables {table.identifier} --again`"
        )
    if not name or "\x00" in name or len(name.encode()) > _LONGEST_NAME:
        raise BadConfig(f"{where} must have a name of 1 to {_LONGEST_NAME} bytes, as PostgreSQL does; mend the event")


def _dump_column(column: ColumnState) -> dict[str, Any]:
    source = column.source
    told: dict[str, Any] = {"name": source.name, "type": source.type}
    optional = {
        "id": (source.id, None),
        "kind": (source.kind, "base"),
        "base": (source.base, ""),
        "field": (column.field, source.name),
        "dropped": (column.dropped, False),
        "since": (column.since, ""),
    }
    return told | {name: value for name, (value, usual) in optional.items() if value != usual}


def _load_column(told: dict[str, Any]) -> ColumnState:
    source = SourceColumn(
        told["name"], told["type"], told.get("id"), kind=told.get("kind", "base"), base=told.get("base", "")
    )
    return ColumnState(source, told.get("field", source.name), told.get("dropped", False), told.get("since", ""))
