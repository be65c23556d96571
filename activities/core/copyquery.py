"""The SQL of a first copy: the rows of the source's own table, as the CSV that events become."""

from collections.abc import Mapping
from dataclasses import replace

from activities.core.changelogs import ChangelogRules, lsn_text
from activities.core.drift import ChangelogColumns
from activities.core.eventquery import COPY, EventQuery, csv_columns
from activities.core.iceberg_types import IcebergType
from activities.core.pgvalues import Converter, identifier, literal, refuse_by_cast
from activities.core.sourcetables import SourceTable

_TABLE = """SELECT
  {values}
FROM {name} AS t
WHERE t.tableoid = {named}::regclass OR (SELECT c.relkind = 'p' FROM pg_class AS c WHERE c.oid = {named}::regclass)"""
"""Rows of partitions are the table's own; those of tables that inherit from it are captured as theirs."""


def copy_query(
    table: SourceTable,
    columns: ChangelogColumns,
    types: Mapping[str, IcebergType],
    rules: ChangelogRules,
    lsn: int,
    committed_at: str,
) -> EventQuery:
    """The rows of the source table itself, as inserts of the position before `lsn` with ordinals from 1.

    `committed_at` is what PostgreSQL reads as a timestamptz. A value that does not fit fails with SQLSTATE 22P02 and a
    message that names its column.
    """
    before, converter = lsn - 1, Converter(rules.out_of_range, refuse_by_cast, typed=True)
    lenient = replace(converter, refuse=lambda *_: "NULL")

    def converted(by: Converter) -> list[str]:
        return [by.column(one, f"t.{identifier(one.source.name)}", types[one.field]) for one in columns.live]

    theirs = converted(converter)
    values = [
        "'insert'",
        f"'{before:016x}' || encode(int8send(row_number() OVER ()), 'hex')",
        f"'{lsn_text(before)}'",
        f"{literal(committed_at)}::timestamptz",
        "NULL",
        *theirs,
    ]
    name = f"{identifier(table.schema)}.{identifier(table.name)}"

    def select(values: str) -> str:
        return _TABLE.format(values=values, name=name, named=literal(name))

    refusing = [value for value, harmless in zip(theirs, converted(lenient), strict=True) if value != harmless]
    return EventQuery(
        COPY.format(select=select(",\n  ".join(values))),
        csv_columns(columns, types, rules),
        tuple(select(f"count({value})") for value in refusing),
    )
