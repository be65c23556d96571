"""How fresh a table is: where its newest partition ends, and since when the next one could be there."""

from collections.abc import Collection
from dataclasses import dataclass

from activities.core.partitions import Span, span_of, step_of
from activities.core.tables import TableConfig, network_range


@dataclass(frozen=True)
class Freshness:
    """In unix seconds. Chunks of integers have no clock: their table is as fresh as the look that found it complete."""

    cut: str
    """`daily`, `hourly` or `integer`."""
    newest: int
    """Index of the newest partition that has a file; -1: there is none."""
    newest_end: float
    """When it ends; 0 when there is none, or nobody can tell."""
    due: float | None
    """When the first partition after those that are settled could be exported; None: no more are expected."""


def planned_freshness(
    config: TableConfig,
    network: str,
    *,
    closed: Span,
    newest: int,
    unsettled: Collection[int],
    committed_at: float,
    now: float,
) -> Freshness:
    """What a plan says that has looked at the end of `closed`.

    `newest` has the newest file (-1: there is none); `unsettled` are neither there nor known to be empty;
    `committed_at` is when the table's head was committed (0: never), the best that can be said of a table of chunks
    that is not complete.
    """
    settled = closed.stop
    while settled - 1 in unsettled:
        settled -= 1
    if config.partition.kind == "integer":
        seen = now if settled == closed.stop and newest >= 0 else committed_at
        ended = settled == closed.stop == _limit(config, network)
        return Freshness("integer", newest, seen, None if ended else seen)
    return Freshness(config.partition.kind, newest, _end(config, newest), _due(config, network, settled))


def committed_freshness(
    config: TableConfig, network: str, committed: Collection[int], *, known: int, now: float
) -> Freshness | None:
    """What a commit says of its partitions; `known` is the newest that was there, as far as anybody knows."""
    newest = max(committed, default=-1)
    if newest < 0 or newest < known:
        return None
    if config.partition.kind == "integer":
        return Freshness("integer", newest, now, now)
    return Freshness(config.partition.kind, newest, _end(config, newest), _due(config, network, newest + 1))


def _end(config: TableConfig, index: int) -> float:
    return float((index + 1) * step_of(config.partition)) if index >= 0 else 0.0


def _due(config: TableConfig, network: str, index: int) -> float | None:
    if index == _limit(config, network):
        return None
    return _end(config, index) + config.lag


def _limit(config: TableConfig, network: str) -> int | None:
    """Where a network's partitions stop; None while it lives."""
    expected = network_range(config, network)
    return span_of(config.partition, expected.first, expected.last).stop if expected.last else None
