"""The SQL that reads a changelog's rows: PostgreSQL converts and checks every value, and writes CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from activities.core import quickvalues
from activities.core.changelogs import ChangelogRules, lsn_text
from activities.core.drift import ChangelogColumns, ColumnState
from activities.core.iceberg_types import IcebergType, ListOf, Primitive
from activities.core.pgvalues import (
    RANGES,
    Converter,
    Refuse,
    identifier,
    literal,
    record_type,
    refuse_by,
    texts,
)
from activities.core.sourcetables import SourceTable

MISFIT_STATES = ("22", "54", "IF")
"""How an SQLSTATE begins when a row cannot be written; whatever else fails does so for other reasons."""

COPY = "COPY (\n{select}\n) TO STDOUT (FORMAT csv, ENCODING 'UTF8')"
_SEGMENT = """SELECT
  {values}
FROM (
  SELECT e.id, e.operation, e.commit_lsn, e.ordinal, e.committed_at, e.unchanged, e.old_row,
    CASE e.operation WHEN 'delete' THEN e.old_row WHEN 'truncate' THEN NULL ELSE e.new_row END AS doc
  FROM {buffer}.events e
  WHERE {where}
  ORDER BY e.commit_lsn, e.ordinal, e.id OFFSET 0
) e{record}
ORDER BY e.commit_lsn, e.ordinal, e.id"""
"""The inner query is fenced off, so that it is sorted before anything is converted."""
_QUICK = """SELECT
  {values}
FROM (
  SELECT e.*{fields}
  FROM (
    SELECT e.operation, e.commit_lsn, e.ordinal, e.committed_at, e.unchanged, e.old_row,
      CASE e.operation WHEN 'delete' THEN e.old_row WHEN 'truncate' THEN NULL ELSE e.new_row END || '{{}}' AS doc
    FROM {buffer}.events e
    WHERE {where}
    ORDER BY e.id OFFSET 0
  ) e OFFSET 0
) e{record}"""
"""Adding nothing to the document takes it out of where it is stored, once for all columns."""
_WHERE = """e.source_schema = {schema} AND e.source_table = {table}
    AND e.id > {first} AND e.id <= {last} AND e.operation <> 'schema'{copied}
    AND e.id NOT IN (
      SELECT d.event_id FROM {buffer}.dead_letters d WHERE d.event_id > {first} AND d.event_id <= {last})"""
_RECORD = "\nCROSS JOIN LATERAL jsonb_to_record({document}) AS r({columns})"
_DOCUMENT = "CASE WHEN jsonb_typeof(e.doc) = 'object' THEN e.doc END"
_SEQUENCE = "encode(pg_lsn_send(e.commit_lsn), 'hex') || encode(int8send(e.ordinal), 'hex')"
_COMMITTED = """CASE WHEN e.committed_at < '{low}' OR e.committed_at > '{high}'
    THEN {refused}::timestamptz ELSE e.committed_at END"""
_OPERATION = """CASE
    WHEN e.operation = 'truncate' THEN e.operation
    WHEN jsonb_typeof(e.doc) IS DISTINCT FROM 'object' THEN {no_row}
    WHEN e.doc - {names} <> '{{}}' THEN {unknown}
    WHEN NOT e.doc ?& {key} THEN {no_key}
    WHEN e.operation <> 'delete' AND NOT e.doc ?& {names} AND {absent} IS NOT NULL THEN {missing}{moved}
    ELSE e.operation END"""
_MOVED = "\n    WHEN e.operation = 'update' AND ({differs}) THEN {refused}"
_ABSENT = """(SELECT string_agg(n, ', ') FROM (VALUES {columns}) AS live(n, since)
      WHERE NOT e.doc ? n AND n <> ALL (e.unchanged) AND since COLLATE "C" <= {sequence})"""
_STRANGE = "(SELECT string_agg(n, ', ') FROM jsonb_object_keys(e.doc) AS n WHERE n <> ALL ({names}))"
_UNCHANGED = """CASE WHEN e.unchanged = '{{}}' THEN NULL WHEN NOT e.unchanged <@ {names} THEN {refused}
    ELSE (SELECT json_agg(field ORDER BY place) FROM unnest(e.unchanged) WITH ORDINALITY AS u(name, place)
      JOIN (VALUES {pairs}) AS live(name, field) USING (name))::text END"""

_MISFITS = """SELECT m.event_id, m.cause FROM {buffer}.misfits(ARRAY(
  SELECT e.id FROM {buffer}.events e WHERE e.source_schema = {schema} AND e.source_table = {table}
    AND e.id > {first} AND e.id <= {last} ORDER BY e.id), {whole}, {names}, {parts}) AS m"""


@dataclass(frozen=True)
class CsvColumn:
    """A column of the CSV.

    NULL is an unquoted nothing, the empty string two quotes. Booleans are `t` and `f`; bytes hex digits after a
    backslash and `x`; floats as short as they can be, or `NaN`, `Infinity`, `-Infinity`; decimals plain; dates and
    times in ISO form, with `+00` at the end if the type has a zone. A list is a JSON array of nulls and strings, and
    each string is written as a column of the element's type would be, but booleans as `true` and `false`.
    """

    field: str
    type: IcebergType


@dataclass(frozen=True)
class EventQuery:
    """A COPY statement and what it writes; the first five columns are ours."""

    sql: str
    columns: tuple[CsvColumn, ...]
    probes: tuple[str, ...] = ()
    """Of a copy: queries that fail as it does, each for one column that may have a value that cannot be written."""


@dataclass(frozen=True)
class SegmentEvents:
    """Events of one table in a buffer, for which one state of the columns holds, and what becomes of them."""

    schema: str
    """The buffer's."""
    table: SourceTable
    """Whose events they are; it says nothing else."""
    columns: ChangelogColumns
    """The state that holds for all of them: a step of `plan_drift`."""
    types: Mapping[str, IcebergType]
    """Those of fields after the batch."""
    rules: ChangelogRules
    first_id: int
    last_id: int
    """`first_id < id <= last_id`."""
    copied_lsn: int | None = None
    """Events before it are left out."""

    @property
    def csv_columns(self) -> tuple[CsvColumn, ...]:
        """What queries of all values write."""
        return csv_columns(self.columns, self.types, self.rules)


def segment_query(events: SegmentEvents) -> EventQuery:
    """The events in the order of (commit LSN, ordinal), but schema events.

    What cannot be written fails with one of `MISFIT_STATES`.
    """
    select = _select(events, _values(events), events.columns.live, events.first_id, events.last_id)
    return EventQuery(COPY.format(select=select), events.csv_columns)


def quick_query(events: SegmentEvents) -> EventQuery:
    """The same in less time, in the order of the ids; values may be written in other ways that Arrow reads alike.

    It answers whenever `segment_query` fails by failing, too, or with what is none of its column's type. Now and then
    it fails where that would not: then, and if ids are in another order than events, that is the query to ask.
    """
    return EventQuery(COPY.format(select=_quick(events)), events.csv_columns)


def misfits_query(events: SegmentEvents) -> str:
    """What of a segment cannot be written: event ids in their order, each with its cause.

    It tries parts of the segment, ever smaller ones around what fails; for each misfit it then tries column by column.
    """
    values, live = _values(events), events.columns.live
    whole = _select(events, values, live, "$1", "$2")
    parts = {
        one.source.name: _select(events, [value], (one,), "$1", "$2")
        for one, value in zip(live, values[len(events.rules.system.names) :], strict=True)
    }
    return _MISFITS.format(
        buffer=identifier(events.schema),
        schema=literal(events.table.schema),
        table=literal(events.table.name),
        first=events.first_id,
        last=events.last_id,
        whole=literal(whole),
        names=texts(list(parts)),
        parts=texts(list(parts.values())),
    )


def csv_columns(
    columns: ChangelogColumns, types: Mapping[str, IcebergType], rules: ChangelogRules
) -> tuple[CsvColumn, ...]:
    """What a query of such columns writes: ours, then theirs."""
    text = Primitive("string")
    kinds: tuple[IcebergType, ...] = (text, text, text, Primitive("timestamptz"), ListOf(text))
    ours = (CsvColumn(name, kind) for name, kind in zip(rules.system.names, kinds, strict=True))
    return (*ours, *(CsvColumn(column.field, types[column.field]) for column in columns.live))


def _converter(events: SegmentEvents) -> Converter:
    return Converter(events.rules.out_of_range, refuse_by(events.schema), typed=False)


def _values(events: SegmentEvents) -> list[str]:
    """The selected expressions: ours, then those of the live columns."""
    converter = _converter(events)
    return [
        *_ours(events),
        *(converter.column(one, _of_record(one), events.types[one.field]) for one in events.columns.live),
    ]


def _select(
    events: SegmentEvents, values: Sequence[str], read: Sequence[ColumnState], first: int | str, last: int | str
) -> str:
    """The values of events between two ids, given as numbers or parameters; `read` are the columns they need."""
    return _SEGMENT.format(
        values=",\n  ".join(values),
        buffer=identifier(events.schema),
        where=_where(events, first, last),
        record=_record(read),
    )


def _quick(events: SegmentEvents) -> str:
    """All values of events, as far as they are what events usually are."""
    converter, live = _converter(events), events.columns.live
    operation, *ours = _ours(events)
    values = [
        f"CASE WHEN {quickvalues.is_usual(live)} THEN e.operation ELSE {operation} END",
        *ours,
        *(
            quickvalues.value(converter, one, place, events.types[one.field])
            if quickvalues.is_text(one)
            else converter.column(one, _of_record(one), events.types[one.field])
            for place, one in enumerate(live)
        ),
    ]
    return _QUICK.format(
        values=",\n  ".join(values),
        fields=quickvalues.fields(live),
        buffer=identifier(events.schema),
        where=_where(events, events.first_id, events.last_id),
        record=_record([one for one in live if not quickvalues.is_text(one)]),
    )


def _ours(events: SegmentEvents) -> list[str]:
    refuse, low, high = refuse_by(events.schema), *RANGES["timestamptz"]
    late = refuse("committed_at is out of range: ", "e.committed_at")
    return [
        _operation(events.columns, refuse),
        _SEQUENCE,
        "e.commit_lsn",
        _COMMITTED.format(low=low, high=high, refused=late),
        _unchanged(events.columns, refuse),
    ]


def _where(events: SegmentEvents, first: int | str, last: int | str) -> str:
    return _WHERE.format(
        buffer=identifier(events.schema),
        schema=literal(events.table.schema),
        table=literal(events.table.name),
        first=first,
        last=last,
        copied="" if events.copied_lsn is None else f" AND e.commit_lsn >= '{lsn_text(events.copied_lsn)}'",
    )


def _of_record(column: ColumnState) -> str:
    return f"r.{identifier(column.source.name)}"


def _record(columns: Sequence[ColumnState]) -> str:
    """What `_of_record` speaks of, as a join."""
    record = ", ".join(f"{identifier(one.source.name)} {record_type(one)}" for one in columns)
    return _RECORD.format(document=_DOCUMENT, columns=record) if record else ""


def _operation(columns: ChangelogColumns, refuse: Refuse) -> str:
    """The operation, once the event as a whole is known to be what it should be.

    A column may be missing if it is younger than the event, as in one that was held back while the column was added.
    """
    names = texts([one.source.name for one in columns.live])
    since = ", ".join(f"({literal(one.source.name)}, {literal(one.since)})" for one in columns.live) or "('', '')"
    absent = _ABSENT.format(columns=since, sequence=_SEQUENCE)
    differs = " OR ".join(f"e.old_row->>{literal(name)} <> e.doc->>{literal(name)}" for name in columns.key)
    moved = refuse("an update that changes the key must come as a delete and an insert: ", "e.old_row")
    return _OPERATION.format(
        names=names,
        key=texts(columns.key),
        absent=absent,
        no_row=refuse("no row in the event: ", "e.operation"),
        unknown=refuse(
            "what was renamed at the source since is to be renamed in the letter's rows, key_columns and unchanged; "
            "columns that the table does not have: ",
            _STRANGE.format(names=names),
        ),
        no_key=refuse(f"the row must have its key ({', '.join(columns.key)}), and has ", "e.doc"),
        missing=refuse("columns that are missing in the row: ", absent),
        moved=_MOVED.format(differs=differs, refused=moved) if differs else "",
    )


def _unchanged(columns: ChangelogColumns, refuse: Refuse) -> str:
    """The fields of the columns that did not change, as a JSON list; NULL when there are none."""
    pairs = ", ".join(f"({literal(one.source.name)}, {literal(one.field)})" for one in columns.live) or "('', '')"
    return _UNCHANGED.format(
        names=texts([one.source.name for one in columns.live]),
        pairs=pairs,
        refused=refuse("unchanged has columns that the table does not have: ", "e.unchanged"),
    )
