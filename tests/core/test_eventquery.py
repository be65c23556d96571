"""What the segment of a buffer hands over is what its events say, and what cannot be handed over is refused."""

import json
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from activities.core.changelogs import sequence_number
from activities.core.drift import first_columns, plan_drift, types_of
from activities.core.eventquery import MISFIT_STATES
from activities.core.iceberg_types import parse_iceberg
from activities.core.sourcetables import SourceColumn, SourceTable
from support.eventbuffer import COMMITTED, FIRST, SCHEMA, EventBuffer, rolled_back


def table(*columns: str, key: tuple[str, ...] = ("id",), name: str = "t") -> SourceTable:
    parsed = [SourceColumn(*column.split(" ", 1)) for column in ("id bigint", *columns)]
    return SourceTable("public", name, tuple(parsed), key)


PLAIN = table("name text", "amount numeric(6,2)")


@pytest.mark.parametrize(
    ("kind", "value", "cause"),
    [
        ("integer", "2147483648", 'column c: value "2147483648" is out of range for type integer'),
        ("integer", "1.5", 'column c: invalid input syntax for type integer: "1.5"'),
        ("integer", {"a": 1}, "column c: invalid input syntax for type integer"),
        ("boolean", "perhaps", 'column c: invalid input syntax for type boolean: "perhaps"'),
        ("numeric(6,2)", "1.234", "column c: does not fit decimal(6, 2): 1.234"),
        ("numeric(6,2)", "12345", "column c: numeric field overflow"),
        ("numeric(6,2)", "NaN", "column c: does not fit decimal(6, 2): NaN"),
        ("numeric(6,2)", "Infinity", "column c: numeric field overflow"),
        ("numeric(6,2)[]", "{1,NaN}", "column c: does not fit decimal(6, 2): NaN"),
        ("numeric(6,2)[]", ["1.234"], "column c: does not fit decimal(6, 2): 1.234"),
        ("real", "1e39", 'column c: "1e39" is out of range for type real'),
        ("date", "2026-02-30", 'column c: date/time field value out of range: "2026-02-30"'),
        ("jsonb", "no json", "column c: no JSON: no json"),
        ("integer[]", "{{1,2},{3,4}}", "column c: an array of more than one dimension: {{1,2},{3,4}}"),
        ("text[]", [["a"], ["b"]], "column c: an array of more than one dimension: {{a},{b}}"),
        ("integer[]", "{1", 'column c: malformed array literal: "{1"'),
        ("integer[]", 5, "column c: expected JSON array"),
        ("bytea", "\\x0", "column c: invalid hexadecimal data: odd number of digits"),
        ("uuid", "x" * 500, f'column c: invalid input syntax for type uuid: "{"x" * 60}…"'),
        ("date", "'" + 'x\n"' * 500, "column c: invalid input syntax for type date: \"'" + 'x\n"' * 19 + 'x\n…"'),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_column_and_no_more_of_it_than_needed(buffer, kind, value, cause):
    """Case 63: the events beside it are not blamed."""
    told = table(f"c {kind}")
    buffer.put(told, {"id": 1, "c": None})
    wrong = buffer.put(told, {"id": 2, "c": value})
    buffer.put(told, {"id": 3, "c": None})
    with pytest.raises(psycopg.Error) as refused, rolled_back(buffer):
        buffer.read(told)
    assert refused.value.sqlstate.startswith(MISFIT_STATES)
    ((number, said),) = buffer.misfits(told)
    assert (number, said[: len(cause)]) == (wrong, cause)


ROWS = [
    ({"operation": "insert"}, "no row in the event: insert"),
    ({"operation": "update", "new": "text"}, "no row in the event: update"),
    ({"operation": "delete", "new": {"id": 1}}, "no row in the event: delete"),
    ({"operation": "insert", "new": {"id": 1, "name": "a", "amount": 1, "x": 1, "y": 2}}, "does not have: x, y"),
    ({"operation": "delete", "old": {"id": 1, "x": 1}}, "does not have: x"),
    ({"operation": "insert", "new": {"id": 1, "name": "a"}}, "columns that are missing in the row: amount"),
    ({"operation": "insert", "new": {"name": "a", "amount": 1}}, 'key (id), and has {"name": "a", "amount": 1}'),
    ({"operation": "delete", "old": {"name": "a"}}, 'the row must have its key (id), and has {"name": "a"}'),
    (
        {"operation": "update", "old": {"id": 2}, "new": {"id": 1, "name": "a", "amount": 1}},
        'an update that changes the key must come as a delete and an insert: {"id": 2}',
    ),
    (
        {"operation": "update", "new": {"name": "a", "amount": 1}, "unchanged": ("id",)},
        'the row must have its key (id), and has {"name": "a", "amount": 1}',
    ),
    (
        {"operation": "update", "new": {"id": 1, "amount": 1}, "unchanged": ("name", "nay")},
        "unchanged has columns that the table does not have: {name,nay}",
    ),
    (
        {"operation": "insert", "new": {"id": 1, "name": "a", "amount": 1}, "committed": "infinity"},
        "committed_at is out of range: infinity",
    ),
]


@pytest.mark.parametrize(("event", "cause"), ROWS)
def test_an_event_that_is_not_what_the_contract_says_is_refused(buffer, event, cause):
    """Case 63."""
    fine = {"id": 7, "name": "fine", "amount": "1.5"}
    buffer.put(PLAIN, fine)
    wrong = buffer.put(PLAIN, **event)
    buffer.put(PLAIN, fine)
    with pytest.raises(psycopg.Error) as refused, rolled_back(buffer):
        buffer.read(PLAIN)
    assert refused.value.sqlstate == "IF001"
    ((number, said),) = buffer.misfits(PLAIN)
    assert number == wrong
    assert said.endswith(cause)


def test_the_misfits_among_many_events_are_found_each_and_no_other(buffer):
    wrong = {}
    for number in range(300):
        bad = {3: "x", 4: "y", 150: "1.234", 299: "z"}.get(number)
        event = buffer.put(PLAIN, {"id": number, "name": "", "amount": bad or "1"})
        if bad:
            wrong[event] = bad
    found = buffer.misfits(PLAIN)
    assert [number for number, _ in found] == sorted(wrong)
    assert all(cause.startswith("column amount: ") and wrong[number] in cause for number, cause in found)
    assert buffer.misfits(PLAIN, first=min(wrong) + 1, last=max(wrong) - 1 - 149) == []


def test_the_first_five_columns_tell_operation_and_position(buffer):
    """Cases 10, 11 and 53."""
    row = {"id": "1", "name": None, "amount": None}
    buffer.put(PLAIN, row, lsn=0xFFFFFFFFFFFFFFFF)
    buffer.put(PLAIN, operation="truncate", lsn=0x16B374D848, ordinal=10)
    buffer.put(PLAIN, row, lsn=0x16B374D848, ordinal=9, operation="update")
    buffer.put(
        PLAIN, old={"id": "1"}, operation="delete", lsn=0x16B374D848, ordinal=11, committed="2026-01-01 00:00+02"
    )
    buffer.put(PLAIN, {"columns": []}, operation="schema", lsn=0x16B374D849)
    same = "00000016b374d848" + "0" * 14
    assert buffer.read(PLAIN) == [
        ["update", f"{same}09", "16/B374D848", COMMITTED, None, "1", None, None],
        ["truncate", f"{same}0a", "16/B374D848", COMMITTED, None, None, None, None],
        ["delete", f"{same}0b", "16/B374D848", "2025-12-31 22:00:00+00", None, "1", None, None],
        ["insert", "f" * 16 + "0" * 16, "FFFFFFFF/FFFFFFFF", COMMITTED, None, "1", None, None],
    ]
    assert buffer.read(PLAIN)[0][1] == sequence_number(0x16B374D848, 9)


def test_a_first_copy_is_inserts_of_the_position_before_the_stream(buffer):
    """Case 12: what the stream brings of the same row comes after."""
    buffer.connection.execute(
        "CREATE TABLE t AS SELECT g AS id, 'name' AS name, 1.5::numeric(6,2) AS amount FROM generate_series(1, 12) g"
    )
    rows = buffer.copy(PLAIN)
    assert [row[1] for row in rows] == [sequence_number(0x2A00000000, number) for number in range(1, 13)]
    assert {tuple(row[:1] + row[2:5]) for row in rows} == {("insert", "2A/0", COMMITTED, None)}
    assert [row[5:] for row in rows] == [[str(number), "name", "1.50"] for number in range(1, 13)]


def test_a_first_copy_has_the_rows_of_partitions_and_not_those_of_tables_that_inherit(buffer):
    run = buffer.connection.execute
    run("CREATE TABLE parent (id bigint)")
    run("CREATE TABLE child () INHERITS (parent)")
    run("CREATE TABLE split (id bigint) PARTITION BY LIST (id)")
    run("CREATE TABLE part PARTITION OF split DEFAULT")
    for number, name in enumerate(("parent", "child", "split")):
        run(f"INSERT INTO {name} VALUES ({number})".encode())
    copied = {name: [row[5] for row in buffer.copy(table(name=name))] for name in ("parent", "child", "split", "part")}
    assert copied == {"parent": ["0"], "child": ["1"], "split": ["2"], "part": ["2"]}


def test_only_the_segments_own_events_are_read(buffer):
    other = replace(PLAIN, name="T")
    row = {"id": 1, "name": "", "amount": None}
    early = buffer.put(PLAIN, row, lsn=0x10)
    buffer.put(other, {"strange": 1})
    numbers = [buffer.put(PLAIN, row | {"id": number}) for number in range(4)]
    dead = sql.SQL(
        "INSERT INTO {0}.dead_letters SELECT id, source_schema, source_table, operation, commit_lsn, ordinal, "
        "committed_at, key_columns, old_row, new_row, unchanged, received_at, NULL, 'why' FROM {0}.events WHERE id = %s"
    )
    buffer.connection.execute(dead.format(sql.Identifier(SCHEMA)), [numbers[1]])
    read = [row[5] for row in buffer.read(PLAIN, copied_lsn=0x11)]
    assert read == ["0", "2", "3"]
    assert [row[5] for row in buffer.read(PLAIN, first=early, last=numbers[2])] == ["0", "2"]
    assert buffer.misfits(PLAIN) == []


def test_columns_that_toast_left_out_are_listed_by_their_fields(buffer):
    """Case 52, also when the column is renamed later in the batch."""
    told = SourceTable(
        "public", "t", tuple(SourceColumn(n, "text", i) for i, n in enumerate(("id", "a", 'b"ü'), 1)), ("id",)
    )
    buffer.put(told, {"id": "1"}, operation="update", unchanged=('b"ü', "a"))
    buffer.put(told, {"id": "2", "a": None, 'b"ü': ""}, operation="update")
    assert [row[4:] for row in buffer.read(told)] == [['["b\\"ü", "a"]', "1", None, None], [None, "2", None, ""]]
    first = first_columns(told, buffer.rules, FIRST)
    later = replace(told, columns=(told.columns[0], replace(told.columns[1], name="renamed"), told.columns[2]))
    drift = plan_drift(first, types_of(first), [("1" * 32, later)])
    rows = buffer.read(told, drift.start, types=drift.types)
    assert rows[0][4] == '["b\\"ü", "renamed"]'


def test_an_event_may_lack_columns_that_are_younger_than_it(buffer):
    """Case 49: an event that was held back is older than a column that its table has got since."""
    first = first_columns(PLAIN, buffer.rules, FIRST)
    later = replace(PLAIN, columns=(*PLAIN.columns, SourceColumn("added", "integer")))
    drift = plan_drift(first, types_of(first), [(sequence_number(0x5000, 3), later)])
    row = {"id": 1, "name": "", "amount": None}
    buffer.put(PLAIN, row, lsn=0x5000, ordinal=2)
    assert [row[5:] for row in buffer.read(PLAIN, drift.columns, types=drift.types)] == [["1", "", None, None]]
    younger = buffer.put(PLAIN, row, lsn=0x5000, ordinal=4)
    asked = buffer.misfits(PLAIN, drift.columns, types=drift.types)
    assert asked == [(younger, "columns that are missing in the row: added")]


def test_rows_from_before_a_widening_have_the_wider_type(buffer):
    """Case 49: what is written as a double is what a reader makes of the float."""
    before = table("f real", "n integer", "fs real[]")
    after = table("f double precision", "n bigint", "fs double precision[]")
    first = first_columns(before, buffer.rules, FIRST)
    drift = plan_drift(first, types_of(first), [("1" * 32, after)])
    buffer.put(before, {"id": 1, "f": "1.1", "n": "5", "fs": "{1.1,NaN}"})
    ((*_, f, n, fs),) = buffer.read(before, drift.start, types=drift.types)
    assert (f, n, json.loads(fs)) == ("1.100000023841858", "5", ["1.100000023841858", "NaN"])
    buffer.connection.execute(
        "CREATE TABLE t AS SELECT 1::bigint AS id, 1.1::real AS f, 5 AS n, '{1.1,NaN}'::real[] AS fs"
    )


def test_names_may_be_anything_that_postgresql_allows(buffer):
    """Case 54, also for the names of the table and of the buffer."""
    names = ['a"b', "c'd", "e\\f", "{g}", "%s", "$1", "h i", "select", "ü😀", "E", "é", "x" * 63]
    columns = tuple(SourceColumn(name, "integer") for name in names)
    told = SourceTable('a"schema', "it's {0} \\ a %table", columns, tuple(names[:3]))
    row = {name: number for number, name in enumerate(names)}
    buffer.put(told, row)
    buffer.put(told, row, old=row, operation="update")
    buffer.put(told, {names[0]: 0} | row | {names[3]: "x"})
    expected = [str(number) for number in range(len(names))]
    assert [line[5:] for line in buffer.read(told, last=_last(buffer) - 1)] == [expected, expected]
    ((_, cause),) = buffer.misfits(told)
    assert cause == 'column {g}: invalid input syntax for type integer: "x"'
    make = sql.SQL("CREATE SCHEMA {0}; CREATE TABLE {0}.{1} AS SELECT {2}")
    selected = sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(number, sql.Identifier(name)) for name, number in row.items()
    )
    run = make.format(sql.Identifier(told.schema), sql.Identifier(told.name), selected)
    buffer.connection.execute(run)
    assert [line[5:] for line in buffer.copy(told)] == [expected]


def _last(buffer: EventBuffer) -> int:
    asked = sql.SQL("SELECT max(id) FROM {}.events").format(sql.Identifier(SCHEMA))
    return buffer.connection.execute(asked).fetchone()[0]


def test_a_table_without_key_and_one_without_columns_are_read(buffer):
    keyless = table("name text", key=())
    buffer.put(keyless, {"id": 1, "name": "b"}, old={"id": 2, "name": "a"}, operation="update")
    buffer.put(keyless, old={"id": 2, "name": "a"}, operation="delete")
    assert [row[5:] for row in buffer.read(keyless)] == [["1", "b"], ["2", "a"]]
    bare = SourceTable("public", "bare", (), ())
    buffer.put(bare, {})
    assert [row[:1] for row in buffer.read(bare)] == [["insert"]]
    assert buffer.misfits(bare) == []


def test_columns_that_were_dropped_are_left_out(buffer):
    state = first_columns(PLAIN, buffer.rules, FIRST)
    state = replace(state, columns=(state.columns[0], replace(state.columns[1], dropped=True), state.columns[2]))
    types = types_of(state) | {"id": parse_iceberg("long")}
    buffer.put(PLAIN, {"id": 1, "amount": 2})
    assert [row[5:] for row in buffer.read(PLAIN, state, types=types)] == [["1", "2.00"]]
