"""What a changelog must hold, by the oracle's log alone."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cdcrandom.oracle import Logged, Shape, Transaction
from cdcrandom.pgtext import INFINITE, parse_row, value_of
from cdcrandom.tables import LARGE, Table

Values = dict[str, Any]
"""Field → value; a field that is missing is null."""


@dataclass(frozen=True)
class Event:
    """One row of a changelog, but for its ordinal."""

    lsn: int
    at: int
    """Microseconds since 1970."""
    operation: str
    values: Values
    unchanged: tuple[str, ...] = ()
    """Sorted names of fields."""

    @property
    def is_poison(self) -> bool:
        """Whether no Iceberg table can hold it."""
        return INFINITE in self.values.values()


@dataclass
class Expected:
    """All of one changelog."""

    fields: dict[str, str]
    """Field → the type of its column in the source, at the end or when it was dropped."""
    live: frozenset[str]
    """Those whose columns are still there."""
    copied: list[Values]
    """The rows of the first copy, in any order."""
    events: list[Event] = field(default_factory=list)
    """What came behind it, in order; poison is not among them."""
    poison: list[Event] = field(default_factory=list)


class Naming:
    """Which field holds which column of the source, as columns come, go and are renamed."""

    def __init__(self, shape: Shape) -> None:
        self.fields = {column.number: column.name for column in shape}
        self.types = {column.number: column.type for column in shape}
        self.live = set(self.fields)

    def follow(self, shape: Shape, lsn: int) -> None:
        """Take over how the columns are from a position on."""
        now = {column.number: column.name for column in shape}
        taken = set(now.values())
        for number in self.fields.keys() - now.keys():
            if self.fields[number] in taken:
                self.fields[number] = self._aside(f"{self.fields[number]}_until_{lsn:x}")
        self.fields |= now
        self.types |= {column.number: column.type for column in shape}
        self.live = set(now)

    def _aside(self, name: str) -> str:
        """A name for the field of a column that is gone, under which none went before in the same transaction."""
        used = set(self.fields.values())
        return next(one for one in (name, *(f"{name}_{count}" for count in range(2, 99))) if one not in used)


def expect(table: Table, log: Sequence[Transaction], copied_lsn: int) -> Expected:
    """What the changelog of a table holds that was copied at one position of the log and followed from there on."""
    before = [transaction for transaction in log if transaction.lsn < copied_lsn]
    after = log[len(before) :]
    shape = before[-1].changes[-1].shape
    naming = Naming(shape)
    for transaction in after:
        for change in transaction.changes:
            naming.follow(change.shape, transaction.lsn)
    found = Expected(
        fields={naming.fields[number]: kind for number, kind in naming.types.items()},
        live=frozenset(naming.fields[number] for number in naming.live),
        copied=[_values(naming, row, old, only=shape) for row, old in rows_of(table, before)],
    )
    for transaction in after:
        for event in _events(table, naming, transaction):
            (found.poison if event.is_poison else found.events).append(event)
    return found


def events_of(table: Table, transaction: Transaction) -> int:
    """How many events a transaction puts into the buffer for a table; those that tell of columns count too."""
    return sum(2 if _moves(table, change) else 1 for change in transaction.changes)


def rows_of(table: Table, log: Sequence[Transaction]) -> Iterator[tuple[str, Shape]]:
    """The rows that there are behind some transactions, as they were written, with the columns of then."""
    rows: dict[Any, list[tuple[str, Shape]]] = defaultdict(list)
    for transaction in log:
        for change in transaction.changes:
            if change.operation == "TRUNCATE":
                rows.clear()
            if change.old is not None:
                key = _identity(table, change.old, change.shape)
                assert rows[key], f"{table.identifier} has no row {key} at {transaction.lsn:x}: {change}"
                rows[key].pop()
            if change.new is not None:
                rows[_identity(table, change.new, change.shape)].append((change.new, change.shape))
    for same in rows.values():
        yield from same


def _identity(table: Table, row: str, shape: Shape) -> Any:
    """By what a row is found again: its key, or the whole of it."""
    if not table.key:
        return row
    named = dict(zip((column.name for column in shape), parse_row(row), strict=True))
    return tuple(named[name] for name in table.key)


def _values(naming: Naming, row: str, shape: Shape, *, only: Shape | None = None) -> Values:
    wanted = {column.number for column in only or shape}
    pairs = zip(shape, parse_row(row), strict=True)
    return {
        naming.fields[column.number]: value_of(column.type, text) for column, text in pairs if column.number in wanted
    }


def _events(table: Table, naming: Naming, transaction: Transaction) -> Iterator[Event]:
    for change in transaction.changes:
        for operation, values, unchanged in _rows(table, naming, change):
            yield Event(transaction.lsn, transaction.at, operation, values, unchanged)


def _rows(table: Table, naming: Naming, change: Logged) -> Iterator[tuple[str, Values, tuple[str, ...]]]:
    """Operation, values and unchanged fields of each row that a change becomes."""
    match change.operation:
        case "TRUNCATE":
            yield "truncate", {}, ()
        case "INSERT":
            assert change.new is not None
            yield "insert", _values(naming, change.new, change.shape), ()
        case "DELETE":
            yield "delete", _old(table, naming, change), ()
        case "UPDATE":
            assert change.new is not None
            assert change.old is not None
            values = _values(naming, change.new, change.shape)
            unchanged = () if table.full else _unchanged(naming, change)
            values |= dict.fromkeys(unchanged)
            moved = _moves(table, change)
            if moved:
                yield "delete", _old(table, naming, change), ()
            yield "insert" if moved else "update", values, unchanged


def _moves(table: Table, change: Logged) -> bool:
    """Whether a row gets another key."""
    if not table.key or change.old is None or change.new is None:
        return False
    return bool(_identity(table, change.old, change.shape) != _identity(table, change.new, change.shape))


def _old(table: Table, naming: Naming, change: Logged) -> Values:
    """What is logged of an old row: all of it, or its key."""
    assert change.old is not None
    values = _values(naming, change.old, change.shape)
    if table.full:
        return values
    keys = {naming.fields[column.number] for column in change.shape if column.name in table.key}
    return {name: value for name, value in values.items() if name in keys}


def _unchanged(naming: Naming, change: Logged) -> tuple[str, ...]:
    """Large values that an update left alone."""
    assert change.old is not None
    assert change.new is not None
    fields = zip(change.shape, parse_row(change.old), parse_row(change.new), strict=True)
    return tuple(
        sorted(
            naming.fields[column.number]
            for column, old, new in fields
            if new is not None and old == new and len(new) > LARGE
        )
    )


def fold(table: Table, start: Sequence[Values], events: Sequence[Event]) -> list[Values]:
    """The rows that there are behind some events of a table that has a key."""

    def key(values: Values) -> tuple[Any, ...]:
        return tuple(values[name] for name in table.key)

    rows = {key(values): values for values in start}
    gone: Values = {}
    for event in events:
        match event.operation:
            case "truncate":
                rows.clear()
            case "delete":
                gone = rows.pop(key(event.values))
            case "insert" | "update":
                before = gone if event.operation == "insert" else rows[key(event.values)]
                kept = {name: before.get(name) for name in event.unchanged}
                rows[key(event.values)] = event.values | kept
    return list(rows.values())
