"""Partitions: the unit of export, one file each. Indices, labels, bounds, and sets of them that stay small."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from activities.core.faults import BadConfig, BadRequest
from activities.core.tables import NetworkRange, PartitionRule, TableConfig

_EPOCH = date(1970, 1, 1)
_LAST_DAY = date(2105, 12, 31)
"""The last whole year that ClickHouse's DateTime (32 bits) can bound."""
_LARGEST_VALUE = 2**63 - 1
"""An Iceberg long, and therefore a truncate partition, ends here."""
MOST_PARTITIONS = 100_000_000
"""That one plan may look at: asking the source about more would never come to an end."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_HOUR = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2})", re.ASCII)
_INTEGER = re.compile(r"\d{1,19}", re.ASCII)
_HOURS_PER_DAY = 24
_FIRST_HOUR, _LAST_HOUR = 0, _HOURS_PER_DAY - 1


@dataclass(frozen=True)
class Span:
    """A half-open range of partition indices: `first` is in it, `stop` is not."""

    first: int
    stop: int

    def __post_init__(self) -> None:
        if self.stop < self.first:
            raise ValueError(f"a span cannot end before it starts: {self.first}..{self.stop}")

    def __len__(self) -> int:
        return self.stop - self.first

    def __contains__(self, index: int) -> bool:
        return self.first <= index < self.stop

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.stop))

    def intersect(self, other: "Span") -> "Span":
        """The indices in both; an empty span when there are none."""
        first = max(self.first, other.first)
        return Span(first, max(first, min(self.stop, other.stop)))


def step_of(rule: PartitionRule) -> int:
    """The width of one partition: seconds for times, values of the column for integers."""
    if rule.kind == "daily":
        return 86_400
    if rule.kind == "hourly":
        return 3_600
    if rule.chunk_size < 1:
        raise BadConfig(f"partition column {rule.column}: chunk_size is {rule.chunk_size}, and must be 1 or more")
    return rule.chunk_size


def label_of(rule: PartitionRule, index: int) -> str:
    """How people write a partition: `2024-03-20`, `2024-03-20T05`, or the chunk's first value."""
    if rule.kind == "integer":
        return str(index * step_of(rule))
    start = datetime.fromtimestamp(index * step_of(rule), UTC)
    return start.strftime("%Y-%m-%d" if rule.kind == "daily" else "%Y-%m-%dT%H")


def index_of(rule: PartitionRule, label: str) -> int:
    """The index of the partition that `label` names; for integer rules any value inside the chunk will do.

    Raises:
        BadRequest: The label is malformed, or lies outside what can be partitioned.
    """
    if rule.kind == "daily":
        return _day(label)
    if rule.kind == "hourly":
        return _hour(label)
    if not _INTEGER.fullmatch(label) or int(label) > _LARGEST_VALUE:
        raise BadRequest(f"{label!r} is not a value of {rule.column}: write a whole number from 0, such as 20000000")
    return int(label) // step_of(rule)


def _day(label: str) -> int:
    try:
        day = date.fromisoformat(label) if _DATE.fullmatch(label) else None
    except ValueError:
        day = None
    if day is None:
        raise BadRequest(f"{label!r} is not a date: write it as 2024-03-20 (UTC)")
    if not _EPOCH <= day <= _LAST_DAY:
        raise BadRequest(f"{label!r} is out of range: dates go from {_EPOCH} to {_LAST_DAY}")
    return (day - _EPOCH).days


def _hour(label: str) -> int:
    match = _HOUR.fullmatch(label)
    if match is None or int(match[2]) >= _HOURS_PER_DAY:
        raise BadRequest(f"{label!r} is not an hour: write it as 2024-03-20T05 (UTC)")
    return _day(match[1]) * _HOURS_PER_DAY + int(match[2])


def bounds_of(rule: PartitionRule, index: int) -> tuple[int, int]:
    """Half-open bounds of a partition: unix seconds for times, values of the column for integers."""
    step = step_of(rule)
    return index * step, (index + 1) * step


def day_of(rule: PartitionRule, index: int) -> date:
    """The UTC day that holds a daily or hourly partition."""
    return _EPOCH + timedelta(seconds=index * step_of(rule))


def span_of(rule: PartitionRule, first: str, last: str) -> Span:
    """The partitions that a request names, both ends inclusive.

    For hourly rules a plain date means all of its 24 hours. For integer rules both ends are values, and every chunk
    that holds one of them counts whole.

    Raises:
        BadRequest: An end is malformed, or the end lies before the start.
    """
    start = _edge(rule, first, _FIRST_HOUR)
    stop = _edge(rule, last, _LAST_HOUR) + 1
    if stop <= start or (rule.kind == "integer" and int(last) < int(first)):
        raise BadRequest(f"the range ends before it starts: from {first} to {last}; exchange the two")
    return Span(start, stop)


def asked_span(rule: PartitionRule, first: str, last: str, everything: Span) -> Span:
    """The partitions between two labels; an end that is not given is the network's, wherever the other one lies."""
    if first and last:
        return span_of(rule, first, last)
    named = span_of(rule, first or last, first or last)
    if first:
        return Span(named.first, max(named.first, everything.stop))
    return Span(min(everything.first, named.stop), named.stop)


def _edge(rule: PartitionRule, label: str, hour: int) -> int:
    if rule.kind == "hourly" and _DATE.fullmatch(label):
        return _day(label) * _HOURS_PER_DAY + hour
    return index_of(rule, label)


def expected_span(config: TableConfig, network: NetworkRange, *, now: int, head: int | None) -> tuple[Span, Span]:
    """The partitions of a network that should exist, as (closed, open).

    Closed partitions are complete: their end plus the table's lag is not beyond `now` (unix seconds) or, for integer
    rules, not beyond the value after `head`, the newest value of the partition column at the source (None: the source
    has no rows). Open ones follow, up to the partition that holds `now` or `head`; they are never exported.

    Raises:
        BadConfig: The network's range is malformed.
    """
    rule = config.partition
    try:
        configured = span_of(rule, network.first, network.last or network.first)
    except BadRequest as error:
        raise BadConfig(f"{config.name}, network {network.name}: {error}") from error
    limit = configured.stop if network.last else None
    step = step_of(rule)
    if rule.kind == "integer":
        newest = -1 if head is None else head
        reached = newest + 1
    else:
        newest = reached = now
    closed = _clip(configured.first, (reached - config.lag) // step, limit)
    until = _clip(configured.first, newest // step + 1, limit)
    return closed, Span(closed.stop, max(closed.stop, until.stop))


def check_length(config: TableConfig, network: str, closed: Span, head: int | None) -> None:
    """Refuse more partitions than a look at the source could ever go through, as of a stray row far behind all others.

    Raises:
        BadConfig: there are; it names `head`, the newest value of the partition column at the source.
    """
    step = step_of(config.partition)
    if closed.stop - closed.first > MOST_PARTITIONS:
        raise BadConfig(
            f"{config.name}, network {network}: the newest {config.partition.column} at the source is {head}, so that "
            f"there would be more than {MOST_PARTITIONS:,} partitions of {step}; delete that row at the source if it "
            "is a stray one, say where the network ends (end_index), or give the table a larger chunk_size"
        )


def _clip(first: int, stop: int, limit: int | None) -> Span:
    if limit is not None:
        stop = min(stop, limit)
    return Span(first, max(first, stop))


@dataclass(frozen=True)
class Ranges:
    """An immutable set of indices, kept as sorted, disjoint, half-open ranges: cost follows ranges, not indices.

    Build it with `from_indices` or `from_pairs`; both bring anything into the one canonical form, so equal sets are
    equal objects.
    """

    _pairs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def from_indices(cls, indices: Iterable[int]) -> "Ranges":
        """The set of these indices, in any order, repeated or not."""
        return cls.from_pairs((index, index + 1) for index in indices)

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[int, int]]) -> "Ranges":
        """The union of half-open (first, stop) pairs in any order; empty pairs vanish, touching ones join."""
        joined: list[tuple[int, int]] = []
        for first, stop in sorted(pairs):
            if stop <= first:
                continue
            if joined and first <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
            else:
                joined.append((first, stop))
        return cls(tuple(joined))

    @classmethod
    def from_span(cls, span: Span) -> "Ranges":
        """All indices of a span."""
        return cls.from_pairs([(span.first, span.stop)])

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The half-open (first, stop) ranges, ascending, with a gap between any two."""
        return self._pairs

    def union(self, other: "Ranges") -> "Ranges":
        """Indices in either."""
        return Ranges.from_pairs(self._pairs + other.pairs())

    def intersection(self, other: "Ranges") -> "Ranges":
        """Indices in both."""
        mine, theirs, common = list(self._pairs), list(other.pairs()), []
        i = j = 0
        while i < len(mine) and j < len(theirs):
            common.append((max(mine[i][0], theirs[j][0]), min(mine[i][1], theirs[j][1])))
            if mine[i][1] < theirs[j][1]:
                i += 1
            else:
                j += 1
        return Ranges.from_pairs(common)

    def difference(self, other: "Ranges") -> "Ranges":
        """Indices in this one and not in the other."""
        if not self._pairs:
            return self
        low, high = self._pairs[0][0], self._pairs[-1][1]
        gaps, cursor = [], low
        for first, stop in other.pairs():
            gaps.append((cursor, min(first, high)))
            cursor = max(cursor, stop)
        gaps.append((cursor, high))
        return self.intersection(Ranges.from_pairs(gaps))

    def __contains__(self, index: int) -> bool:
        position = bisect_right(self._pairs, index, key=lambda pair: pair[0]) - 1
        return position >= 0 and index < self._pairs[position][1]

    def __iter__(self) -> Iterator[int]:
        for first, stop in self._pairs:
            yield from range(first, stop)

    def __len__(self) -> int:
        return sum(stop - first for first, stop in self._pairs)

    def __bool__(self) -> bool:
        return bool(self._pairs)
