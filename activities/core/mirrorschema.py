"""How a mirror's columns follow those of its changelog, which are known by their field ids.

A column of the mirror is never deleted: one that the changelog has no more stays as it is, and is null in new rows. If
the changelog then gets another column of that name, the old one makes way for it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from activities.core.drift import AddField, Change, RenameField, WidenField, renames
from activities.core.faults import SchemaConflict
from activities.core.iceberg_types import IcebergType, widens
from activities.core.mirrors import MirrorConfig

_LSN_DIGITS = 16


@dataclass(frozen=True)
class ChangelogField:
    """A column of the changelog as it is now."""

    name: str
    id: int
    type: IcebergType


@dataclass(frozen=True)
class Following:
    """What a mirror's schema is to become."""

    changes: tuple[Change, ...]
    """To be made one after the other; empty: it is as it should be."""
    columns: dict[str, str]
    """For `Watermark.columns`."""


def follow(
    config: MirrorConfig,
    live: Sequence[ChangelogField],
    known: Mapping[str, str] | None,
    mirror: Mapping[str, IcebergType],
    *,
    until: str = "",
) -> Following:
    """What the mirror's schema must become so that rows of the changelog fit.

    Args:
        config: The mirror's.
        live: Columns of the changelog that the mirror has or is to have, in order.
        known: The watermark's `columns`; None: columns are known by their names.
        mirror: Column → type of the mirror, in order.
        until: The greatest sequence number that was merged: columns that make way are named after it. Empty: nothing
            was, and a strict mirror may still follow.

    Raises:
        SchemaConflict: the mirror cannot follow, or must not because config says `schema: strict`.
    """
    columns = {field.name: str(field.id) for field in live}
    if known == columns and all(mirror.get(field.name) == field.type for field in live):
        return Following((), columns)
    of_id = {str(field.id): field.name for field in live}
    if known is None:
        after = list(mirror)
    else:
        _check_identity(config, columns, known)
        now = {old: of_id[number] for old, number in known.items() if number in of_id}
        taken = set(columns)
        after = [now.get(name) or _retired(name, taken, mirror, until) for name in mirror]
    changes = [*renames(list(mirror), after), *_typed(config, live, dict(zip(after, mirror.values(), strict=True)))]
    if config.schema == "strict" and known is not None and until:
        _refuse(config, columns, known, changes)
    return Following(tuple(changes), columns)


def _check_identity(config: MirrorConfig, columns: Mapping[str, str], known: Mapping[str, str]) -> None:
    """Keys and sequence numbers must be what they were: hashes and comparisons of before are of that column."""
    for name in (*config.primary_keys, config.sequence_column):
        if known.get(name, columns[name]) != columns[name]:
            raise SchemaConflict(
                f"mirror {config.mirror}: column {name} of changelog {config.changelog} is another one than before "
                f"(field {columns[name]}, and it was {known[name]}), so nothing can be held against what is there; "
                "have the mirror begin again (icefleet mirrors merge --bootstrap)"
            )


def _retired(name: str, taken: set[str], mirror: Collection[str], until: str) -> str:
    """The name of a column of the mirror that the changelog has no more."""
    if name not in taken:
        return name
    base = new = f"{name}_until_{until[:_LSN_DIGITS].lstrip('0') or '0'}"
    count = 1
    while new in taken or new in mirror:
        count += 1
        new = f"{base}_{count}"
    taken.add(new)
    return new


def _typed(config: MirrorConfig, live: Sequence[ChangelogField], mirror: Mapping[str, IcebergType]) -> list[Change]:
    """Columns that are to be wider, and those that are new."""
    changes: list[Change] = []
    for field in live:
        held = mirror.get(field.name)
        if held is None:
            changes.append(AddField(field.name, field.type))
        elif not widens(held, field.type):
            if not widens(field.type, held):
                raise SchemaConflict(
                    f"mirror {config.mirror}: column {field.name} is {held}, and {field.type} in changelog "
                    f"{config.changelog}: one cannot become the other; have the mirror begin again under another name, "
                    "or undo the change of the changelog"
                )
        elif held != field.type:
            changes.append(WidenField(field.name, field.type))
    return changes


def _refuse(
    config: MirrorConfig, columns: Mapping[str, str], known: Mapping[str, str], changes: Sequence[Change]
) -> None:
    gone = [name for name, number in known.items() if number not in columns.values()]
    if not changes and not gone:
        return
    said = [_told(change) for change in changes] + [f"{name} is gone" for name in gone]
    raise SchemaConflict(
        f"mirror {config.mirror}: the columns of changelog {config.changelog} changed ({'; '.join(said)}), and config "
        "says `schema: strict`; look at it, then say `schema: permissive` for the mirror in mirrors.yaml, which "
        "follows them, or undo the change"
    )


def _told(change: Change) -> str:
    match change:
        case AddField():
            return f"{change.name} ({change.type}) is new"
        case RenameField():
            return f"{change.old} is called {change.new}"
        case WidenField():
            return f"{change.name} is {change.type}"
