"""What is there of a table, partition by partition: runs of states, and what can be said of them."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from activities.core.faults import BadRequest
from activities.core.partitions import Ranges, Span, label_of, span_of
from activities.core.planning import ExistingFile, SurveyedPartition, classify
from activities.core.tables import PartitionRule

State = Literal["empty", "there", "open", "stale", "shrunk", "suspended", "missing"]

STATES: tuple[State, ...] = ("empty", "there", "open", "stale", "shrunk", "suspended", "missing")
"""From the one to worry about least to the worst: where many partitions share a mark, the worst is shown."""
DUE: tuple[State, ...] = ("missing", "suspended", "shrunk", "stale")
"""What somebody has to look at, the worst first."""
SAID = 3
"""Ranges of one state that a sentence names."""


@dataclass(frozen=True)
class Run:
    """So many partitions in a row that are in one state."""

    state: State
    count: int


@dataclass(frozen=True)
class Coverage:
    """One table of one network: the state of every expected partition, in order and run-length encoded."""

    name: str
    network: str
    rule: PartitionRule
    first: int = 0
    """Index of the first partition of the first run."""
    runs: tuple[Run, ...] = ()
    asked: bool = False
    """Whether the source was asked: nothing is known to be stale, shrunk or newly empty otherwise."""
    trouble: str = ""
    """What could not be looked at, and why; without runs when it was the table itself."""

    @property
    def table(self) -> str:
        """`<network>.<table>`."""
        return f"{self.network}.{self.name}"

    @property
    def counts(self) -> dict[State, int]:
        """Partitions by state; every state is named."""
        counted: Counter[State] = Counter()
        for run in self.runs:
            counted[run.state] += run.count
        return {state: counted[state] for state in STATES}

    @property
    def span(self) -> Span:
        """Every partition, the open ones too."""
        return Span(self.first, self.first + sum(run.count for run in self.runs))

    @property
    def wanted(self) -> int:
        """Partitions that have rows and are over: those that should be there, as the source has them."""
        return sum(count for state, count in self.counts.items() if state not in {"empty", "open"})

    def spans(self, states: Collection[State] = STATES) -> Iterator[tuple[State, Span]]:
        """The runs that are in one of these states, oldest first."""
        first = self.first
        for run in self.runs:
            if run.state in states:
                yield run.state, Span(first, first + run.count)
            first += run.count

    def newest(self) -> str:
        """The label of the newest partition that has a file; empty without one."""
        held = [span for _, span in self.spans(("there", "stale", "shrunk"))]
        return label_of(self.rule, held[-1].stop - 1) if held else ""

    def ranges(self, state: State) -> list[tuple[str, str]]:
        """First and last label of each run of a state, oldest first."""
        return [
            (label_of(self.rule, span.first), label_of(self.rule, span.stop - 1)) for _, span in self.spans((state,))
        ]


@dataclass(frozen=True)
class Bounds:
    """Which partitions to look at: labels, both inclusive, or empty. Dates bound times, whole numbers chunks."""

    first: str = ""
    last: str = ""

    def labels(self, rule: PartitionRule) -> tuple[str, str]:
        """The first and last partition as a table of this rule names them; empty where it is not bounded by that."""
        return self._for(rule, self.first), self._for(rule, self.last)

    def span(self, rule: PartitionRule, everything: Span) -> Span:
        """What of `everything` is meant: all of it for a table that is not cut by what the bounds name."""
        first, last = self.labels(rule)
        if first and last:
            return everything.intersect(span_of(rule, first, last))
        start = span_of(rule, first, first).first if first else everything.first
        stop = span_of(rule, last, last).stop if last else everything.stop
        return everything.intersect(Span(start, max(start, stop)))

    def check(self, rules: Collection[PartitionRule]) -> None:
        """Refuse bounds that no table could mean.

        Raises:
            BadRequest: a bound is malformed, bounds none of these tables, or lies on the wrong side of the other.
        """
        for label in (self.first, self.last):
            if label and not any(self._for(rule, label) for rule in rules):
                what = "numbers bound chunks, dates bound days and hours"
                raise BadRequest(f"{label!r} bounds none of these tables: {what}")
        for rule in rules:
            self.span(rule, Span(0, 0))

    @staticmethod
    def _for(rule: PartitionRule, label: str) -> str:
        if label.isdigit() != (rule.kind == "integer"):
            return ""
        return label.partition("T")[0] if rule.kind == "daily" else label


def sets_of(
    closed: Span,
    still_open: Span,
    existing: Mapping[int, ExistingFile],
    surveyed: Mapping[int, SurveyedPartition] | None,
    *,
    empty: Ranges,
    suspended: Ranges,
    has_version: bool,
) -> dict[State, Ranges]:
    """State → its partitions: everything that is expected, and everything that has a file, is in exactly one of them.

    Args:
        closed: Partitions that are over.
        still_open: Partitions that are not. One that has a file all the same is there.
        existing: The table's files, by index.
        surveyed: What the source answered about all of `closed`, by index; None when it was not asked.
        empty: What is remembered as empty: all there is to go by when the source was not asked.
        suspended: What exports leave out because it failed too often; of it what would be missing or stale.
        has_version: As for `planning.classify`.
    """
    held, over = Ranges.from_indices(existing), Ranges.from_span(closed)
    missing = over.difference(held).difference(empty)
    empty = over.difference(held).intersection(empty)
    stale = shrunk = Ranges.from_pairs(())
    if surveyed is not None:
        found = classify(closed, existing, surveyed, over, force=False, has_version=has_version)
        stale = Ranges.from_indices(todo.index for todo in found.todo if todo.reason == "stale")
        missing = Ranges.from_indices(todo.index for todo in found.todo if todo.reason == "missing")
        empty, shrunk = found.empty, Ranges.from_indices(found.shrunk)
    suspended = suspended.intersection(missing.union(stale))
    return {
        "there": held.difference(shrunk).difference(stale),
        "missing": missing.difference(suspended),
        "stale": stale.difference(suspended),
        "shrunk": shrunk,
        "empty": empty,
        "open": Ranges.from_span(still_open).difference(held),
        "suspended": suspended,
    }


def runs_over(span: Span, sets: Mapping[State, Iterable[int]]) -> tuple[Run, ...]:
    """Every partition of `span` in the state of the last set that holds it; what none holds is missing."""
    states: list[State] = ["missing"] * len(span)
    for state, indices in sets.items():
        for index in indices:
            if index in span:
                states[index - span.first] = state
    return runs_of(states)


def runs_of(states: Iterable[State]) -> tuple[Run, ...]:
    """The same states, run-length encoded."""
    return tuple(Run(state, sum(1 for _ in same)) for state, same in groupby(states))


def worst_of(seen: Coverage, width: int) -> tuple[int, list[State]]:
    """The worst state of every `width` partitions: number of the first group, and a state for each from there.

    Groups are counted from partition 0, so that 24 hours are a day.
    """
    span = seen.span
    start = span.first // width
    stop = -(-span.stop // width) if len(span) else start
    worst = [0] * (stop - start)
    for state, same in seen.spans():
        rank = STATES.index(state)
        for group in range(same.first // width, (same.stop - 1) // width + 1):
            worst[group - start] = max(worst[group - start], rank)
    return start, [STATES[rank] for rank in worst]


def sentence(seen: Coverage) -> str:
    """What there is to say of a table in one line: `812 of 820 there, 8 missing: 2024-03-01 … 2024-03-08`."""
    if not seen.runs:
        return "nothing is expected yet"
    counts = seen.counts
    parts = [f"{counts['there']:,} of {seen.wanted:,} there"]
    for state in DUE:
        if counts[state]:
            named = [first if first == last else f"{first} … {last}" for first, last in seen.ranges(state)]
            more = f" and {len(named) - SAID:,} more" if len(named) > SAID else ""
            parts.append(f"{counts[state]:,} {state}: {', '.join(named[:SAID])}{more}")
    parts += [f"{counts[state]:,} {state}" for state in ("empty", "open") if counts[state]]
    return "; ".join(parts)
