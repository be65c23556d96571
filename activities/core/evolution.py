"""How an Iceberg table follows its source: what is added, what is widened, and what cannot be.

Columns are never taken away and never move: what the source drops stays and reads null, what it adds comes last. A
type changes only as Iceberg allows, so that files written before are read as they were.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from activities.core.faults import SchemaConflict, SchemaMoved
from activities.core.types import IcebergType, ListOf, MapOf, StructOf, widens

Types = Mapping[str, IcebergType]
"""Column → its type, in the table's order."""


@dataclass(frozen=True)
class TableShape:
    """What an Iceberg table promises of its columns."""

    types: Types
    required: frozenset[str] = frozenset()
    """Columns that may not be null, or that hold something which may not be. No table of ours has any."""


@dataclass(frozen=True)
class Change:
    """One column that the table lacks (`before` is None), or has with a narrower type."""

    name: str
    before: IcebergType | None
    after: IcebergType

    def __str__(self) -> str:
        return f"{self.name} is {self.before or 'new'}{', and needs' if self.before else ':'} {self.after}"


def follow(existing: IcebergType, chosen: IcebergType) -> IcebergType:
    """The type that a column has once its table has followed the source: what is there, widened where Iceberg can.

    Args:
        existing: The table's type.
        chosen: What the type policy would choose for the source's type.
    """
    match existing, chosen:
        case ListOf(), ListOf():
            return ListOf(follow(existing.element, chosen.element))
        case MapOf(), MapOf():
            return MapOf(existing.key, follow(existing.value, chosen.value))
        case StructOf(), StructOf():
            return _follow_fields(existing, chosen)
        case _:
            return chosen if widens(existing, chosen) else existing


def _follow_fields(existing: StructOf, chosen: StructOf) -> StructOf:
    """Fields may come at the end; with any other change of names the struct stays, and the source cannot fill it."""
    kept, added = chosen.fields[: len(existing.fields)], chosen.fields[len(existing.fields) :]
    if [name for name, _ in kept] != [name for name, _ in existing.fields]:
        return existing
    pairs = zip(existing.fields, kept, strict=True)
    return StructOf((*((name, follow(before, after)) for (name, before), (_, after) in pairs), *added))


def changes(existing: Types, wanted: Types) -> tuple[Change, ...]:
    """What a table must become so that objects with the columns `wanted` fit; empty when they do as it is."""
    return tuple(Change(name, existing.get(name), kind) for name, kind in wanted.items() if existing.get(name) != kind)


def check_clashes(table: str, existing: Types, wanted: Types) -> None:
    """Refuse columns and fields that many engines could not tell from others, since they know no letter case.

    Only what is to be made is looked at: a table that has such columns already is left as it is.

    Raises:
        SchemaConflict: Two names differ in nothing but letter case.
    """
    fresh = {change.name for change in changes(existing, wanted)}
    seen: dict[str, tuple[str, str]] = {}
    for column, kind in {**existing, **wanted}.items():
        for path in _paths(column, kind):
            other, owner = seen.setdefault(path.lower(), (path, column))
            if (other, owner) != (path, column) and not fresh.isdisjoint({column, owner}):
                raise SchemaConflict(
                    f"{table}: {path} and {other} could not be told apart in Iceberg by engines that know no letter "
                    "case; rename one at the source, or, if only the Iceberg table has it, rename it there"
                )


def field_names(path: str, kind: IcebergType) -> Iterator[str]:
    """`column.field` for every field inside a column; what lies in lists and maps counts as lying in the column."""
    match kind:
        case ListOf():
            yield from field_names(path, kind.element)
        case MapOf():
            yield from field_names(path, kind.key)
            yield from field_names(path, kind.value)
        case StructOf():
            for field, inner in kind.fields:
                yield f"{path}.{field}"
                yield from field_names(f"{path}.{field}", inner)


def _paths(name: str, kind: IcebergType) -> Iterator[str]:
    """A column and everything inside it, as Iceberg writes their full names."""
    yield name
    match kind:
        case ListOf():
            yield from _paths(f"{name}.element", kind.element)
        case MapOf():
            yield from _paths(f"{name}.key", kind.key)
            yield from _paths(f"{name}.value", kind.value)
        case StructOf():
            for field, inner in kind.fields:
                yield from _paths(f"{name}.{field}", inner)


def check_planned(table: str, existing: Types, wanted: Types) -> None:
    """Refuse to export columns for which the plan has not prepared the table.

    Raises:
        SchemaMoved: The source's columns have changed since.
    """
    moved = changes(existing, wanted)
    if moved:
        raise SchemaMoved(
            f"{table}: the source's columns changed after the plan was made ({'; '.join(map(str, moved))}); "
            "ask for the export again: its plan will prepare the Iceberg table for them"
        )
