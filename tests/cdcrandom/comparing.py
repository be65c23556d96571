"""What was expected beside what was found, in few words."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from activities.core.changelogs import lsn_text, sequence_number
from cdcrandom.expected import Event, Expected, Values, events_of
from cdcrandom.lake import Changelog, Row
from cdcrandom.oracle import Transaction
from cdcrandom.tables import by_identifier

SHOWN = 4
Comparable = tuple[str, str, int, tuple[str, ...], tuple[tuple[str, Any], ...]]


def copies(changelog: Changelog, copied: int) -> list[Row]:
    """The rows of the first copy."""
    return [row for row in changelog.rows["PyIceberg"] if row.lsn == lsn_text(copied - 1)]


def streamed(changelog: Changelog, copied: int) -> list[Row]:
    """All the others, in order."""
    return [row for row in changelog.rows["PyIceberg"] if row.lsn != lsn_text(copied - 1)]


def of_event(event: Event) -> Comparable:
    """An event that was expected, as it can be compared."""
    return event.operation, lsn_text(event.lsn), event.at, event.unchanged, _sorted(event.values)


def of_row(row: Row) -> Comparable:
    """The same of one that was found."""
    return row.operation, row.lsn, row.at, row.unchanged, _sorted(row.values)


def _sorted(values: Values) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((name, value) for name, value in values.items() if value is not None))


def difference(expected: Sequence[Comparable], found: Sequence[Comparable]) -> list[str]:
    """The first places at which two sequences differ, in words; empty when they are the same."""
    if list(expected) == list(found):
        return []
    place = next(
        (at for at, (one, other) in enumerate(zip(expected, found, strict=False)) if one != other),
        min(len(expected), len(found)),
    )
    said = [f"{len(expected)} events were expected and {len(found)} were found; they differ from {place} on"]
    said += [f"expected {_short(one)}" for one in expected[place : place + SHOWN]]
    said += [f"found    {_short(one)}" for one in found[place : place + SHOWN]]
    lost, more = _without(expected, found), _without(found, expected)
    said += [f"{len(lost)} are missing, {len(more)} are too many"]
    said += [f"missing  {_short(one)}" for one in lost[:SHOWN]] + [f"too many {_short(one)}" for one in more[:SHOWN]]
    return said


def _without(some: Iterable[Comparable], others: Iterable[Comparable]) -> list[Comparable]:
    left = list(map(repr, others))
    counts: dict[str, int] = {}
    for one in left:
        counts[one] = counts.get(one, 0) + 1
    found = []
    for one in some:
        text = repr(one)
        if counts.get(text, 0):
            counts[text] -= 1
        else:
            found.append(one)
    return found


def _short(one: Any) -> str:
    text = repr(one)
    return text if len(text) < 400 else f"{text[:400]}…"


def rows_as_set(rows: Iterable[Values], only: frozenset[str] | None = None) -> list[str]:
    """Rows in any order, nulls left out, as they can be compared."""
    return sorted(
        repr(sorted((name, value) for name, value in row.items() if value is not None and (not only or name in only)))
        for row in rows
    )


def as_clickhouse_says(row: Row) -> Row:
    """A row as ClickHouse has it, which knows no list that is null, and of a time of day the whole seconds."""
    plain = without_empty_lists(row)
    return plain._replace(values={name: _coarse(value) for name, value in plain.values.items()})


def without_empty_lists(row: Row) -> Row:
    """A row in which a list is either null or has something in it."""
    return row._replace(values={name: value for name, value in row.values.items() if value != ()})


def _coarse(value: Any) -> Any:
    return ("clock", value[1] // 1_000_000) if isinstance(value, tuple) and value[0] == "clock" else value


def larger_than(events: int, log: Mapping[str, Sequence[Transaction]]) -> frozenset[str]:
    """How the sequence numbers begin of transactions that have more events than this, of all tables together."""
    counts: Counter[int] = Counter()
    for name, transactions in log.items():
        for transaction in transactions:
            counts[transaction.lsn] += events_of(by_identifier(name), transaction)
    return frozenset(transaction_of(lsn) for lsn, count in counts.items() if count > events)


def torn(changelog: Changelog, large: frozenset[str]) -> Iterator[str]:
    """Transactions that are split between snapshots, but for those that are larger than a batch."""
    snapshots_of: dict[str, set[int]] = defaultdict(set)
    for number, sequences in enumerate(changelog.added):
        for sequence in sequences:
            snapshots_of[sequence[:16]].add(number)
    for transaction, snapshots in snapshots_of.items():
        if len(snapshots) > 1 and transaction not in large:
            yield f"the transaction at {transaction} is in snapshots {sorted(snapshots)}"


def backwards(changelog: Changelog) -> Iterator[str]:
    """Snapshots whose rows come before those of an earlier one."""
    last = ""
    for number, sequences in enumerate(changelog.added):
        if sequences and sequences[0] <= last:
            yield f"snapshot {number} begins with {sequences[0]}, and one before it ends with {last}"
        last = max([last, *sequences[-1:]])


def transaction_of(lsn: int) -> str:
    """How the sequence numbers of a transaction begin."""
    return sequence_number(lsn, 0)[:16]


def expected_types(expected: Expected) -> dict[str, str]:
    """Field → the Iceberg type that its column has."""
    return {name: _iceberg(kind) for name, kind in expected.fields.items()}


def _iceberg(kind: str) -> str:
    if kind.endswith("[]"):
        return f"list<{_iceberg(kind[:-2])}>"
    name, _, arguments = kind.partition("(")
    if name == "numeric" and arguments:
        precision, _, scale = arguments.rstrip(")").partition(",")
        return f"decimal({precision}, {scale or 0})"
    return ICEBERG.get(kind, "string")


ICEBERG = {
    "smallint": "int",
    "integer": "int",
    "bigint": "long",
    "real": "float",
    "double precision": "double",
    "boolean": "boolean",
    "bytea": "binary",
    "uuid": "uuid",
    "date": "date",
    "time without time zone": "time",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
}
"""What the documentation says; every other type is carried as text."""
