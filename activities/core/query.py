"""The SQL that reads a source. Identifiers are quoted, and values travel as server-side parameters.

A cast with the column's own name as its alias would hide the column from WHERE and ORDER BY, and with it the primary
key: every query here relies on `prefer_column_name_to_alias=1`, which is among the pinned settings.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from activities.core.columns import ExportColumn, SourceColumn
from activities.core.engines import Distributed, check_sharding, read_distributed, read_engine, sorting_expressions
from activities.core.faults import BadConfig
from activities.core.partitions import Ranges, Span, bounds_of, step_of
from activities.core.settings import NEWER_SETTINGS, PINNED_SETTINGS
from activities.core.sqltext import quote_identifier, unquote
from activities.core.tables import TableConfig
from activities.core.types import bare_type
from activities.core.utf8 import guarded, is_text

__all__ = [
    "NEWER_SETTINGS",
    "PINNED_SETTINGS",
    "Distributed",
    "Query",
    "SourceFacts",
    "cast_query",
    "check_sharding",
    "content_query",
    "counts_query",
    "export_query",
    "head_query",
    "outside_query",
    "read_distributed",
    "read_engine",
    "refused_text_query",
    "sorting_expressions",
    "survey_query",
    "together_query",
    "versions_query",
]

_MICROSECONDS = 1_000_000
_SECONDS_PER_DAY = 86_400
_INTEGERS = frozenset(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
_MAY_BE_NEGATIVE = frozenset({"Int8", "Int16", "Int32", "Int64", "Date32", "DateTime64"})
"""Types of partition columns with values before 0, or before 1970."""
_Family = Literal["integer", "days", "seconds", "ticks"]


@dataclass(frozen=True)
class SourceFacts:
    """What the source says of a table.

    `sorting_key` holds the SQL expressions of the local table's sorting key; `final` says that its engine collapses
    rows; `version_column` is the column whose newest value wins, or empty; `newest_may_go` that FINAL may take the
    newest version of a partition away.
    """

    columns: tuple[SourceColumn, ...]
    final: bool
    sorting_key: tuple[str, ...]
    version_column: str = ""
    newest_may_go: bool = False


@dataclass(frozen=True)
class Query:
    """SQL without a FORMAT clause, and the values of its `{name:Type}` parameters."""

    text: str
    parameters: dict[str, str | int] = field(default_factory=dict)


def export_query(
    config: TableConfig, facts: SourceFacts, columns: Sequence[ExportColumn], network: str, index: int
) -> Query:
    """All rows of one partition, collapsed when the engine says so, in a deterministic order.

    It fails with `core.utf8.REFUSED_TEXT` when a row holds text that is not UTF-8.
    """
    where, parameters = _filter(config, facts, network, bounds_of(config.partition, index))
    selected = _checked(config, facts, columns)
    return Query(_select(selected, _source(config, final=facts.final), where, _ordered(config, facts)), parameters)


def together_query(
    config: TableConfig, facts: SourceFacts, columns: Sequence[ExportColumn], network: str, partitions: Ranges
) -> Query:
    """What `export_query` gives of each of some partitions, one after the other: the last column is the `partition`.

    That is its index, under a name that no other column has.
    """
    name = "partition"
    while any(column.name == name for column in facts.columns):
        name += "_"
    what = f"{_checked(config, facts, columns)}, {_partition_index(config, facts)} AS {quote_identifier(name)}"
    where, parameters = _of_partitions(config, facts, network, partitions)
    return Query(_select(what, _source(config, final=facts.final), where, _ordered(config, facts)), parameters)


def content_query(
    config: TableConfig, facts: SourceFacts, columns: Sequence[ExportColumn], network: str, index: int
) -> Query:
    """Some columns of the rows that an export of the partition would hold, in no order: to be checked, not kept."""
    selected = ", ".join(f"{column.expression} AS {quote_identifier(column.name)}" for column in columns)
    where, parameters = _filter(config, facts, network, bounds_of(config.partition, index))
    return Query(_select(selected, _source(config, final=facts.final), where), parameters)


def counts_query(config: TableConfig, facts: SourceFacts, network: str, partitions: Ranges) -> Query:
    """What exports must hold: `rows` and the newest `version` (or NULL) of each `partition` (index) that has rows."""
    version = _newest_version(config, facts) or "CAST(NULL AS Nullable(Int64))"
    source = _source(config, final=facts.final)
    return _by_partition(config, facts, network, partitions, f"count() AS `rows`, {version} AS `version`", source)


def versions_query(config: TableConfig, facts: SourceFacts, network: str, partitions: Ranges) -> Query:
    """A cheap mark of each `partition`'s state: its newest `version`, or the row count of a table without one."""
    version = _newest_version(config, facts) or "toInt64(count())"
    return _by_partition(config, facts, network, partitions, f"{version} AS `version`", _counted(config, facts))


def survey_query(
    config: TableConfig, facts: SourceFacts, network: str, span: Span, limit: int, *, newest_first: bool
) -> Query:
    """The partitions of `span` that have rows: `partition` (index), raw `rows`, newest `version` (or NULL).

    One query, whatever the range; at most `limit` partitions, from the newest or the oldest.
    """
    low, high = bounds_of(config.partition, span.first)[0], bounds_of(config.partition, span.stop)[0]
    where, parameters = _filter(config, facts, network, (low, high))
    partition = _partition_index(config, facts)
    version = _newest_version(config, facts) or "CAST(NULL AS Nullable(Int64))"
    # The expression is repeated, not its alias: a source may have a column called `partition`.
    text = _select(
        f"{partition} AS `partition`, count() AS `rows`, {version} AS `version`",
        _counted(config, facts),
        where,
        f"GROUP BY {partition} ORDER BY {partition} {'DESC' if newest_first else 'ASC'} LIMIT {{limit:UInt64}}",
    )
    return Query(text, {**parameters, "limit": limit})


def head_query(config: TableConfig, facts: SourceFacts, network: str) -> Query:
    """The newest value of the partition column as `head`: the value, or unix seconds; NULL without rows."""
    column = _column(config, facts, config.partition.column, "partition column")
    name = quote_identifier(column.name)
    head = {
        "integer": f"maxOrNull({name})",
        "days": f"toInt64(toInt32(maxOrNull({name}))) * {_SECONDS_PER_DAY}",
        "seconds": f"toInt64(toUnixTimestamp(maxOrNull({name})))",
        "ticks": f"intDiv(toUnixTimestamp64Micro(toDateTime64(maxOrNull({name}), 6, 'UTC')), {_MICROSECONDS})",
    }[_family(config, column)]
    network_column = _column(config, facts, config.network_column, "network column")
    where = f"{quote_identifier(network_column.name)} = {{network:String}}"
    return Query(_select(f"{head} AS `head`", _source(config, final=False), where), {"network": network})


def outside_query(config: TableConfig, facts: SourceFacts, network: str) -> Query | None:
    """Count the rows that no partition can hold: `nulls`, and those `before` the first one that there can be.

    None where the partition column's type has neither.
    """
    column = _column(config, facts, config.partition.column, "partition column")
    parameter_type, low, _ = _bounds(config, column, bounds_of(config.partition, 0))
    name, (kind, _) = quote_identifier(column.name), bare_type(column.type)
    outside = {
        "nulls": f"isNull({name})" if "Nullable(" in column.type else "",
        "before": f"{name} < {{low:{parameter_type}}}" if kind in _MAY_BE_NEGATIVE else "",
    }
    if not any(outside.values()):
        return None
    counts = ", ".join(f"countIf({is_so or 'false'}) AS `{what}`" for what, is_so in outside.items())
    network_is, asked = _of_network(config, facts, network)
    where = f"{network_is} AND ({' OR '.join(is_so for is_so in outside.values() if is_so)})"
    return Query(_select(counts, _source(config, final=False), where), {**asked, "low": low})


def refused_text_query(
    config: TableConfig, facts: SourceFacts, columns: Sequence[ExportColumn], network: str, index: int
) -> Query:
    """Rows of the partition whose text is not UTF-8: one count under the name of each column that holds text."""
    texts = _texts(config, facts, columns)
    counts = ", ".join(f"countIf(NOT {text}) AS {quote_identifier(name)}" for name, text in texts.items())
    where, parameters = _filter(config, facts, network, bounds_of(config.partition, index))
    return Query(_select(counts, _source(config, final=facts.final), where), parameters)


def cast_query(config: TableConfig, facts: SourceFacts, column: ExportColumn, network: str, index: int) -> Query:
    """Every value of one column of a partition, cast as for its export: it fails as the export does, or answers 0."""
    where, parameters = _filter(config, facts, network, bounds_of(config.partition, index))
    what = f"sum(ignore({column.expression})) AS `cast`"
    return Query(_select(what, _source(config, final=facts.final), where), parameters)


def check_columns(config: TableConfig, facts: SourceFacts) -> None:
    """Refuse a network, partition or version column that queries cannot use, before a table is made for them.

    Raises:
        BadConfig: The column does not exist at the source, or has a type that its role cannot have.
    """
    _column(config, facts, config.network_column, "network column")
    check_partition_column(config, facts)
    check_version_column(config, facts)


def check_partition_column(config: TableConfig, facts: SourceFacts) -> None:
    """Refuse a partition column that is missing, or that the table's rule cannot cut; raises BadConfig."""
    _family(config, _column(config, facts, config.partition.column, "partition column"))


def check_version_column(config: TableConfig, facts: SourceFacts) -> None:
    """Refuse a version column that is missing, redacted, or unable to say which row is newer; raises BadConfig."""
    _newest_version(config, facts)
    if facts.version_column in config.redacted_columns:
        raise BadConfig(
            f"{config.name}: {facts.version_column} is redacted, and it is the version column, whose values tell new "
            "rows from old in plans, messages and manifests; allow it"
        )
    chosen = config.types.get(facts.version_column, "long")
    if not re.fullmatch(r"int|long|date|timestamptz|decimal\(\d+, ?0\)", chosen):
        raise BadConfig(
            f"{config.name}: {facts.version_column} is the version column, whose bounds in manifests tell new rows "
            f"from old, and `types` makes it {chosen}; choose int, long, decimal(20, 0), date or timestamptz"
        )


def _texts(config: TableConfig, facts: SourceFacts, columns: Sequence[ExportColumn]) -> dict[str, str]:
    """Column → SQL that is true where its text is UTF-8; what redaction puts in a value's place always is."""
    kinds = {column.name: column.type for column in facts.columns}
    found = ((column.name, is_text(column, kinds[column.name])) for column in columns)
    return {name: text for name, text in found if text and name not in config.redacted_columns}


def _by_partition(
    config: TableConfig, facts: SourceFacts, network: str, partitions: Ranges, what: str, source: str
) -> Query:
    partition = _partition_index(config, facts)
    where, parameters = _of_partitions(config, facts, network, partitions)
    return Query(_select(f"{partition} AS `partition`, {what}", source, where, f"GROUP BY {partition}"), parameters)


def _checked(config: TableConfig, facts: SourceFacts, columns: Sequence[ExportColumn]) -> str:
    """What is selected of the columns: the partition column's expression checks the text of all of them."""
    expressions = {column.name: column.expression for column in columns}
    if (carrier := config.partition.column) in expressions:
        expressions[carrier] = guarded(expressions[carrier], _texts(config, facts, columns).values())
    return ", ".join(f"{expression} AS {quote_identifier(name)}" for name, expression in expressions.items())


def _select(what: str, source: str, where: str, *rest: str) -> str:
    return " ".join(("SELECT", what, "FROM", source, "WHERE", where, *rest))


def _source(config: TableConfig, *, final: bool) -> str:
    table = f"{quote_identifier(config.database)}.{quote_identifier(config.name)}"
    return f"{table} FINAL" if final else table


def _counted(config: TableConfig, facts: SourceFacts) -> str:
    """What is counted to see whether something changed: raw rows, since FINAL costs many times as much.

    But where no version tells new rows from old ones the count itself must, and merges change raw counts. And a version
    that FINAL takes away is in no export: no file of the partition could ever be as new.
    """
    return _source(config, final=facts.final and (facts.newest_may_go or not facts.version_column))


def _filter(
    config: TableConfig, facts: SourceFacts, network: str, bounds: tuple[int, int]
) -> tuple[str, dict[str, str | int]]:
    network_is, asked = _of_network(config, facts, network)
    within, values = _within(config, facts, bounds)
    return f"{network_is} AND {within}", {**asked, **values}


def _of_partitions(
    config: TableConfig, facts: SourceFacts, network: str, partitions: Ranges
) -> tuple[str, dict[str, str | int]]:
    wheres: list[str] = []
    parameters: dict[str, str | int] = {}
    for number, (first, stop) in enumerate(partitions.pairs()):
        bounds = bounds_of(config.partition, first)[0], bounds_of(config.partition, stop)[0]
        where, values = _within(config, facts, bounds, str(number))
        wheres.append(f"({where})")
        parameters |= values
    network_is, asked = _of_network(config, facts, network)
    return f"{network_is} AND ({' OR '.join(wheres)})", {**asked, **parameters}


def _of_network(config: TableConfig, facts: SourceFacts, network: str) -> tuple[str, dict[str, str | int]]:
    column = _column(config, facts, config.network_column, "network column")
    return f"{quote_identifier(column.name)} = {{network:String}}", {"network": network}


def _within(
    config: TableConfig, facts: SourceFacts, bounds: tuple[int, int], suffix: str = ""
) -> tuple[str, dict[str, str | int]]:
    """The partition column between two bounds; `suffix` tells the parameters of several such from each other."""
    column = _column(config, facts, config.partition.column, "partition column")
    parameter_type, low, high = _bounds(config, column, bounds)
    name, from_, to = quote_identifier(column.name), f"low{suffix}", f"high{suffix}"
    where = f"{name} >= {{{from_}:{parameter_type}}} AND {name} < {{{to}:{parameter_type}}}"
    return where, {from_: low, to: high}


def _bounds(config: TableConfig, column: SourceColumn, bounds: tuple[int, int]) -> tuple[str, str | int, str | int]:
    """The parameters' type, after the column's own so that the primary key prunes, and both values."""
    family = _family(config, column)
    if family == "integer":
        return "UInt64", *bounds
    low, high = (datetime.fromtimestamp(bound, UTC) for bound in bounds)
    name, arguments = bare_type(column.type)
    if family == "days":
        return name, f"{low:%Y-%m-%d}", f"{high:%Y-%m-%d}"
    parameter_type = "DateTime('UTC')" if family == "seconds" else f"DateTime64({arguments[0]}, 'UTC')"
    return parameter_type, f"{low:%Y-%m-%d %H:%M:%S}", f"{high:%Y-%m-%d %H:%M:%S}"


def _partition_index(config: TableConfig, facts: SourceFacts) -> str:
    column = _column(config, facts, config.partition.column, "partition column")
    name, step = quote_identifier(column.name), step_of(config.partition)
    return {
        "integer": f"toInt64(intDiv({name}, {step}))",
        "days": f"toInt64(toInt32({name}))",
        "seconds": f"toInt64(intDiv(toUnixTimestamp({name}), {step}))",
        "ticks": f"intDiv(toUnixTimestamp64Micro(toDateTime64({name}, 6, 'UTC')), {step * _MICROSECONDS})",
    }[_family(config, column)]


def _newest_version(config: TableConfig, facts: SourceFacts) -> str:
    """SQL of the newest version: microseconds since the epoch for times, the number itself for integers."""
    if not facts.version_column:
        return ""
    column = _column(config, facts, facts.version_column, "version column")
    newest = f"maxOrNull({quote_identifier(column.name)})"
    name, _ = bare_type(column.type)
    if name in _INTEGERS:
        return newest
    if name in {"Date", "Date32"}:
        return f"toInt64(toInt32({newest})) * {_SECONDS_PER_DAY * _MICROSECONDS}"
    if name in {"DateTime", "DateTime64"}:
        return f"toUnixTimestamp64Micro(toDateTime64({newest}, 6, 'UTC'))"
    raise BadConfig(
        f"{config.name}: version column {column.name} is {column.type}; "
        "an integer of at most 64 bits, Date or DateTime can say which row is newer"
    )


def _family(config: TableConfig, column: SourceColumn) -> _Family:
    """How the partition column counts; refuses a column that its rule cannot cut."""
    name, _ = bare_type(column.type)
    kind = config.partition.kind
    if kind == "integer" and name in _INTEGERS:
        return "integer"
    if kind == "daily" and name in {"Date", "Date32"}:
        return "days"
    if kind != "integer" and name == "DateTime":
        return "seconds"
    if kind != "integer" and name == "DateTime64":
        return "ticks"
    wanted = {
        "integer": "an integer of at most 64 bits",
        "daily": "Date, Date32, DateTime or DateTime64",
        "hourly": "DateTime or DateTime64",
    }[kind]
    raise BadConfig(
        f"{config.name}: partition column {column.name} is {column.type}, but partitions that are {kind} need {wanted}"
    )


def _column(config: TableConfig, facts: SourceFacts, name: str, what: str) -> SourceColumn:
    for column in facts.columns:
        if column.name == name:
            return column
    raise BadConfig(f"{config.name}: {what} {name} does not exist at the source; correct it in config")


def _ordered(config: TableConfig, facts: SourceFacts) -> str:
    first = config.partition.column
    rest = [expression for expression in facts.sorting_key if unquote(expression) != first]
    return f"ORDER BY {', '.join([quote_identifier(first), *dict.fromkeys(rest)])}"
