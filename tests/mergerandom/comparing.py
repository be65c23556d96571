"""What mirrors must be at the end, each question in a function that answers table → what is wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

from cdcrandom.comparing import SHOWN, as_clickhouse_says, rows_as_set, without_empty_lists
from cdcrandom.lake import SYSTEM, Row, Values
from cdcrandom.oracle import Shape
from cdcrandom.pgtext import parse_row, value_of
from mergerandom.lake import Seen

Final = Mapping[str, tuple[Shape, Sequence[str]]]
"""Table → its columns and rows, as PostgreSQL shows them."""
Wrong = dict[str, list[str]]


def unlike_postgresql(mirrors: Mapping[str, Seen], final: Final, reader: str) -> Wrong:
    """Mirrors in which a reader finds other rows than PostgreSQL has.

    Columns that are gone in PostgreSQL stay in a mirror; they are left out.
    """
    wrong = {}
    for name, seen in mirrors.items():
        shape, texts = final[name]
        columns = frozenset(column.name for column in shape)
        expected = [_row(dict(zip(*_named(shape, text), strict=True))) for text in texts]
        found = [_row({key: value for key, value in row.items() if key in columns}) for row in seen.rows[reader]]
        if reader == "ClickHouse":
            expected, found = list(map(as_clickhouse_says, expected)), list(map(without_empty_lists, found))
        if told := _difference([row.values for row in expected], [row.values for row in found]):
            wrong[name] = told
    return wrong


def _named(shape: Shape, text: str) -> tuple[list[str], list[Any]]:
    values = [value_of(column.type, one) for column, one in zip(shape, parse_row(text), strict=True)]
    return [column.name for column in shape], values


def _row(values: Values) -> Row:
    return Row("", "", 0, "", (), {name: value for name, value in values.items() if value is not None})


def _difference(expected: Sequence[Values], found: Sequence[Values]) -> list[str]:
    """In few words; empty when the rows are the same."""
    wanted, there = rows_as_set(expected), rows_as_set(found)
    if wanted == there:
        return []
    lost, more = sorted(set(wanted) - set(there)), sorted(set(there) - set(wanted))
    said = [f"{len(wanted)} rows were expected and {len(there)} were found: {len(lost)} lack, {len(more)} are too many"]
    return said + [f"lacks    {one[:600]}" for one in lost[:SHOWN]] + [f"too many {one[:600]}" for one in more[:SHOWN]]


def all_that_is_wrong(mirrors: Mapping[str, Seen]) -> dict[str, Wrong]:
    """What every question but that for PostgreSQL's rows answers, if anything."""
    asked = (unlike_each_other, keys_twice, index_wrong, deletes_doubled, behind, orphaned, unverified)
    return {question.__name__: wrong for question in asked if (wrong := question(mirrors))}


def unlike_each_other(mirrors: Mapping[str, Seen]) -> Wrong:
    """Mirrors of which DuckDB finds other rows than PyIceberg, columns that are gone and sequence numbers included."""
    found = {name: _difference(seen.rows["PyIceberg"], seen.rows["DuckDB"]) for name, seen in mirrors.items()}
    return {name: said for name, said in found.items() if said}


def keys_twice(mirrors: Mapping[str, Seen]) -> Wrong:
    """Mirrors with a sequence number that several rows have: each change makes one row."""
    numbers = {name: [row[SYSTEM.sequence] for row in seen.rows["PyIceberg"]] for name, seen in mirrors.items()}
    return {name: sorted(said) for name, said in numbers.items() if len(set(said)) != len(said)}


def index_wrong(mirrors: Mapping[str, Seen]) -> Wrong:
    """Mirrors whose index is not what their rows say, or not what it is when it is made from scratch (I3)."""
    wrong: Wrong = {}
    for name, seen in mirrors.items():
        said, there, anew = set(seen.said), set(seen.there), set(seen.rebuilt)
        parts = {
            "points at no row": said - there,
            "has no entry": there - said,
            "differs when made anew": said ^ anew,
            "comes twice": [one for one in said if seen.said.count(one) > 1],
        }
        if told := [f"{what}: {sorted(some)[:SHOWN]}" for what, some in parts.items() if some]:
            wrong[name] = told
    return wrong


def deletes_doubled(mirrors: Mapping[str, Seen]) -> Wrong:
    """Data files for which several delete files are live (case 42)."""
    doubled = {
        name: [f"{path}: {count}" for path, count in seen.deletes.items() if count > 1]
        for name, seen in mirrors.items()
    }
    return {name: paths for name, paths in doubled.items() if paths}


def behind(mirrors: Mapping[str, Seen]) -> Wrong:
    """Mirrors whose watermark is not the head of their changelog."""
    wrong: Wrong = {}
    for name, seen in mirrors.items():
        at = seen.watermark
        if at is None or at.snapshot_id != seen.changelog_head or at.partial:
            wrong[name] = [f"{at}, and the changelog is at {seen.changelog_head}"]
    return wrong


def orphaned(mirrors: Mapping[str, Seen]) -> Wrong:
    """Mirrors of which a snapshot names what is not there."""
    return {name: seen.missing for name, seen in mirrors.items() if seen.missing}


def unverified(mirrors: Mapping[str, Seen]) -> Wrong:
    """Mirrors of which the product itself says that they are not the fold of their changelog."""
    wrong: Wrong = {}
    for name, seen in mirrors.items():
        report = seen.verified
        if report is None:
            wrong[name] = ["it was not verified"]
        elif report.status != "equal" or report.index != "whole":
            wrong[name] = [report.message, f"index: {report.index}", *report.examples]
    return wrong
