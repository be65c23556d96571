"""Dates for tables that are cut by numbers: which values of the integer column another table puts at a time."""

from dataclasses import dataclass
from datetime import UTC, datetime

from activities.core.faults import BadRequest
from activities.core.partitions import bounds_of, index_of
from activities.core.query import Query
from activities.core.sqltext import quote_identifier
from activities.core.tables import PartitionRule, TableConfig

_RULES = (PartitionRule("daily", ""), PartitionRule("hourly", ""))


@dataclass(frozen=True)
class Instants:
    """A range of time, in unix seconds, half-open; an end that is None is open."""

    low: int | None
    high: int | None


def instants_of(first: str, last: str) -> Instants | None:
    """The time from one date or hour to another, both inclusive; None when neither end names one.

    Raises:
        BadRequest: one end is a date and the other is none, or the range ends before it starts.
    """
    ends = [_bounds(label) for label in (first, last)]
    if ends == [None, None]:
        return None
    for label, end in zip((first, last), ends, strict=True):
        if label and end is None:
            raise BadRequest(f"{label!r} is no date, and the other end of the range is one; write both in one way")
    low, high = ends[0] and ends[0][0], ends[1] and ends[1][1]
    if low is not None and high is not None and high <= low:
        raise BadRequest(f"the range ends before it starts: from {first} to {last}; exchange the two")
    return Instants(low, high)


def _bounds(label: str) -> tuple[int, int] | None:
    for rule in _RULES:
        try:
            return bounds_of(rule, index_of(rule, label))
        except BadRequest:
            continue
    return None


def clock_query(config: TableConfig, network: str, instants: Instants) -> Query:
    """The least and the largest value (`first`, `last`) that the table's clock puts between two times; NULL for none.

    Raises:
        BadRequest: the table has no clock.
    """
    clock = config.partition.clock
    if clock is None:
        raise BadRequest(f"{config.name} is cut by {config.partition.column}, and nothing tells its values' dates")
    column, time = quote_identifier(config.partition.column), quote_identifier(clock.column)
    wheres = [f"{quote_identifier(config.network_column)} = {{network:String}}"]
    parameters: dict[str, str | int] = {"network": network}
    for name, sign, second in (("low", ">=", instants.low), ("high", "<", instants.high)):
        if second is not None:
            wheres.append(f"{time} {sign} {{{name}:DateTime('UTC')}}")
            parameters[name] = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S}"
    what = f"minOrNull({column}) AS `first`, maxOrNull({column}) AS `last`"
    table = f"{quote_identifier(config.database)}.{quote_identifier(clock.table)}"
    return Query(" ".join(("SELECT", what, "FROM", table, "WHERE", " AND ".join(wheres))), parameters)
