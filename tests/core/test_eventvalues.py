"""Every value of every type arrives as PostgreSQL's own text of it, however an event brings it."""

import json
import struct
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.core.changelogs import ChangelogRules
from activities.core.eventquery import MISFIT_STATES
from activities.core.sourcetables import SourceColumn, SourceTable
from support.eventbuffer import EventBuffer, RawJson, one_column, rolled_back

TYPES: dict[str, list[str]] = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "0", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "real": ["1.1", "'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "1.4e-45", "3.4028235e38", "0.1"],
    "double precision": [
        "1.1",
        "'NaN'",
        "'Infinity'",
        "'-Infinity'",
        "'-0'",
        "5e-324",
        "1.7976931348623157e308",
        "1e23",
    ],
    "numeric(10,2)": ["12345678.91", "-0.01", "0", "1.5"],
    "numeric(38,0)": ["99999999999999999999999999999999999999", "-1"],
    "numeric(38,38)": ["0.12345678901234567890123456789012345678"],
    "numeric": ["1.500", "'NaN'", "'Infinity'", "1e-30", "123456789012345678901234567890.123"],
    "text": [
        "''",
        "' '",
        "'NULL'",
        "e'two\\nlines\\r\\nand a \\t tab'",
        "'a \"quote\", a comma'",
        "'\\.'",
        "'\\N'",
        "'ä😀\u200d'",
    ],
    "character varying(9)": ["''", "'with  two'"],
    "character(5)": ["'ab'", "''"],
    "name": ["'a name'"],
    "bytea": ["''", "'\\x00ff5c0a22'", "'\\x2c'"],
    "uuid": ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"],
    "json": ["'{\"a\" : [1,  null]}'", "'\"text\"'", "'5'", "'null'", "'\"5\"'"],
    "jsonb": ['\'{"a": [1, null], "ü": "\\u00fc"}\'', "'\"text\"'", "'5'", "'null'", "'\"5\"'", "'true'"],
    "date": ["'0001-01-01'", "'9999-12-31'", "'1969-12-31'"],
    "time without time zone": ["'00:00'", "'23:59:59.999999'"],
    "time with time zone": ["'24:00:00+13'", "'00:00:00.5-00:30'"],
    "timestamp without time zone": ["'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.9'"],
    "timestamp with time zone": [
        "'0001-01-01 00:00:00+00'",
        "'9999-12-31 23:59:59.999999+00'",
        "'2026-03-29 02:30:00+02'",
    ],
    "interval": ["'1 year -2 days 03:00:00.5'", "'0'"],
    "inet": ["'::1/64'", "'10.0.0.1'"],
    "money": ["'-1234.5'"],
    "bit varying(4)": ["'0101'", "''"],
    "int4range": ["'[1,5)'", "'empty'"],
    "tsvector": ["'a fat cat'"],
    "mood": ["'fine'", "'so, so'", "'it''s \"bad\"'"],
    "positive": ["7"],
    "price": ["7.5", "-3"],
    "pair": ["(1, 'x, \"y\"')", "(null, '')"],
    "box": ["'(1,1),(0,0)'"],
}
ARRAYS: dict[str, list[str]] = {
    "integer[]": ["'{}'", "'{1,NULL,-3}'", "'[0:1]={1,2}'"],
    "boolean[]": ["'{t,f,NULL}'"],
    "double precision[]": ["'{NaN,-0,1.1,Infinity,1e-320}'"],
    "numeric(6,2)[]": ["'{1.5,NULL,-1234.56}'"],
    "numeric[]": ["'{1.500,NaN}'"],
    "text[]": ["""array['', 'NULL', null, 'a"b', 'c,d', '{e}', 'f\\g', e'h\\ni', 'ä😀']"""],
    "character(3)[]": ["'{a,NULL}'"],
    "bytea[]": ["array['\\x00ff'::bytea, null, '']"],
    "uuid[]": ["array['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid]"],
    "date[]": ["'{0001-01-01,NULL,9999-12-31}'"],
    "timestamp with time zone[]": ["array['2026-03-29 02:30:00+02'::timestamptz, null]"],
    "jsonb[]": ["""array['{"a": [1]}'::jsonb, null, '3']"""],
    "mood[]": ["""array['so, so', 'it''s "bad"', null]::mood[]"""],
    "pair[]": ["array[row(1, 'x, \"y\"')::pair]"],
    "positive[]": ["'{1,2}'"],
    "tags": ["'{a,NULL}'"],
    "box[]": ["'{(1,1),(0,0);(2,2),(1,1)}'"],
}
KINDS = {
    "mood": ("enum", ""),
    "pair": ("composite", ""),
    "positive": ("domain", "integer"),
    "price": ("domain", "numeric(12,2)"),
    "tags": ("domain", "text[]"),
    "int4range": ("range", ""),
}
NATURAL_DIFFERS = {
    "real": "jsonb has no -0",
    "double precision": "jsonb has no -0",
    "double precision[]": "jsonb has no -0",
    "json": "a JSON text that is a text itself must come as PostgreSQL's text",
    "jsonb": "as json",
    "pair": "to_jsonb writes objects of composites",
    "pair[]": "as pair",
    "box[]": "the whole array's JSON text",
}
"""Types of which not every value has the same text when it comes as `to_jsonb` writes it."""


def source_column(kind: str) -> SourceColumn:
    made, base = KINDS.get(kind.removesuffix("[]"), ("base", ""))
    return SourceColumn("c", kind, kind=made, base=base)


def column_of(buffer: EventBuffer, kind: str, values: list[str]) -> tuple[SourceTable, list[str | None], list[Any]]:
    """A table of one value in each row and a NULL at the end, with PostgreSQL's texts of them, and `to_jsonb`'s."""
    run = buffer.connection.execute
    run(f"CREATE TABLE t (id bigint PRIMARY KEY, c {kind})".encode())
    for number, value in enumerate([*values, "NULL"]):
        run(f"INSERT INTO t VALUES ({number}, {value})".encode())
    rows = run(
        "SELECT CASE WHEN c IS DISTINCT FROM NULL THEN format('%s', c) END, to_jsonb(c)::text FROM t ORDER BY id"
    ).fetchall()
    told = one_column(source_column(kind))
    return told, [text for text, _ in rows], [natural for _, natural in rows]


def elements_of(buffer: EventBuffer, texts: list[str | None], kind: str) -> list[list[str | None] | None]:
    """What the arrays hold, each element as PostgreSQL's text of it; booleans as words."""
    words = {"t": "true", "f": "false"} if kind == "boolean[]" else {}
    rows = buffer.connection.execute(
        "SELECT c IS NULL, ARRAY(SELECT CASE WHEN x IS DISTINCT FROM NULL THEN format('%s', x) END FROM unnest(c) x) "
        "FROM t ORDER BY id"
    ).fetchall()
    assert len(rows) == len(texts)
    return [None if null else [words.get(one, one) for one in found] for null, found in rows]


def values_in(rows: list[list[str | None]]) -> list[str | None]:
    return [row[6] for row in rows]


@pytest.mark.parametrize("kind", TYPES)
def test_every_value_arrives_as_its_text(buffer, kind):
    """As an event with PostgreSQL's text, as one with `to_jsonb`'s value, and by the first copy."""
    told, texts, naturals = column_of(buffer, kind, TYPES[kind])
    for number, text in enumerate(texts):
        buffer.put(told, {"id": str(number), "c": text})
    assert values_in(buffer.read(told)) == texts
    assert buffer.read_slowly == []
    assert values_in(buffer.copy(told)) == texts
    if kind in NATURAL_DIFFERS:
        return
    last = buffer.put(told, {"id": 0, "c": None})
    for number, natural in enumerate(naturals):
        buffer.put(told, RawJson(f'{{"id": {number}, "c": {natural or "null"}}}'))
    assert values_in(buffer.read(told, first=last)) == texts


@pytest.mark.parametrize("kind", ARRAYS)
def test_every_array_arrives_as_the_texts_of_its_elements(buffer, kind):
    told, texts, naturals = column_of(buffer, kind, ARRAYS[kind])
    listed = kind != "box[]"
    expected = elements_of(buffer, texts, kind) if listed else texts
    for number, text in enumerate(texts):
        buffer.put(told, {"id": str(number), "c": text})

    def lists(rows):
        return [None if cell is None else json.loads(cell) if listed else cell for cell in values_in(rows)]

    assert lists(buffer.read(told)) == expected
    assert lists(buffer.copy(told)) == expected
    if kind not in NATURAL_DIFFERS:
        last = buffer.put(told, {"id": 0, "c": None})
        for number, natural in enumerate(naturals):
            buffer.put(told, RawJson(f'{{"id": {number}, "c": {natural or "null"}}}'))
        assert lists(buffer.read(told, first=last)) == expected


@pytest.mark.parametrize(
    ("natural", "expected"),
    [({"a": [1, None]}, '{"a": [1, null]}'), ([1, "x"], '[1, "x"]'), (5, "5"), (True, "true"), ('"text"', '"text"')],
)
def test_a_json_value_that_is_no_text_may_come_as_it_is(buffer, natural, expected):
    told = one_column(SourceColumn("c", "jsonb"))
    buffer.put(told, {"id": 1, "c": natural})
    assert values_in(buffer.read(told)) == [expected]


INFINITE = {
    "date": ("'infinity'", "'-infinity'", "'0044-03-15 BC'", "'10000-01-01'"),
    "timestamp without time zone": ("'infinity'", "'-infinity'", "'0001-12-31 BC'", "'10000-01-01'"),
    "timestamp with time zone": ("'infinity'", "'-infinity'", "'0001-01-01 00:00+01'", "'9999-12-31 23:59-01'"),
    "time without time zone": ("'24:00:00'",),
}
CLAMPED = {
    "date": ("9999-12-31", "0001-01-01", "0001-01-01", "9999-12-31"),
    "timestamp without time zone": (
        "9999-12-31 23:59:59.999999",
        "0001-01-01 00:00:00",
        "0001-01-01 00:00:00",
        "9999-12-31 23:59:59.999999",
    ),
    "timestamp with time zone": (
        "9999-12-31 23:59:59.999999+00",
        "0001-01-01 00:00:00+00",
        "0001-01-01 00:00:00+00",
        "9999-12-31 23:59:59.999999+00",
    ),
    "time without time zone": ("23:59:59.999999",),
}


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("kind", INFINITE)
def test_what_lies_outside_the_years_1_to_9999_goes_by_the_declared_rule(buffer, kind, array):
    values = [f"array[{value}, NULL]::{kind}[]" if array else value for value in INFINITE[kind]]
    told, texts, _ = column_of(buffer, f"{kind}[]" if array else kind, values)
    numbers = [buffer.put(told, {"id": str(number), "c": text}) for number, text in enumerate(texts)]
    for rule, expected in (("clamp", CLAMPED[kind]), ("null", [None] * len(values))):
        rules = ChangelogRules(out_of_range=rule)
        wanted: list[Any] = [[one, None] for one in expected] if array else list(expected)
        for rows in (buffer.read(told, rules=rules), buffer.copy(told, rules)):
            found = values_in(rows)
            assert [json.loads(cell) if array and cell else cell for cell in found] == [*wanted, None]
    causes = dict(buffer.misfits(told))
    assert list(causes) == numbers[:-1]
    assert all(cause.startswith("column c: ") and "out of range" in cause for cause in causes.values())
    with (
        pytest.raises(psycopg.errors.InvalidTextRepresentation, match=r"column c: .* out of range"),
        rolled_back(buffer),
    ):
        buffer.copy(told)


STRANGE: dict[str, list[Any]] = {
    "integer": ["0x1F", "0x7FFFFFFF", "0xFFFFFFFF", " 7 ", "+7", "007", "1_000", "7.0", 7.0, 1e3, "-0x1", "", True],
    "bigint": ["0xFFFFFFFFFFFFFFFF", "9223372036854775808", 1e18, "1e3"],
    "numeric(6,2)": [
        "1e3",
        "1e4",
        "12345",
        "9999.99",
        "9999.994",
        "9999.999",
        "-1e4",
        ".5",
        "5.",
        "1.500",
        "0x10",
        "-0",
    ],
    "numeric(4,0)": ["9999", "1e4", "9999.0", "9999.9", 1e3, 1e4],
    "numeric(2,2)": ["0", "0.99", "1", "-1.00"],
    "real": ["1e39", "1e-50", "1e-45", "infinity", "+1", "0x1p3", 1e39, "nan"],
    "double precision": ["1e400", "1e-400", "-inf", " 1 ", "1_0", 5e-324],
    "date": [
        "0000-01-01",
        "20260203",
        "2026-2-3",
        "Feb 3 2026",
        "0044-03-15 BC",
        "10000-01-01",
        "2026-02-03 04:05",
        "x",
    ],
    "time without time zone": ["24:00:00", "23:59:60", "12:00", "12:00:00+02", "12:00:00.1234567", "040506", "4:05 PM"],
    "timestamp without time zone": [
        *("0000-01-01 00:00:00", "2026-02-03", "2026-02-03 04", "2026-02-03 04:05", "2026-02-03T04:05:06"),
        *("2026-02-03 04:05:06Z", "2026-02-03 04:05:06+02", "2026-02-03 24:00:00", "2026-02-03 04:05:06.1234567"),
        *("0044-03-15 00:00:00 BC", "9999-12-31 23:59:59.9999999", "2026-02-03 04:05:60", "2026-02-30 00:00:00"),
    ],
    "timestamp with time zone": [
        *("0000-01-01 00:00:00+00", "0001-01-01 00:00:00+01", "9999-12-31 23:59:59-01", "2026-02-03 04:05:06"),
        *("2026-02-03 04:05:06+15:59", "2026-02-03 04:05:06+16", "2026-02-03 04:05:06+23", "2026-02-03 04:05:06Z"),
        *("2026-02-03 04:05:06+01+00", "2026-02-03 24:00:00+00", "2026-02-03 04:05:06.1234567+00", "now", "x+00"),
        *("2026-02-03 04:05:06+00:00", "2026-02-03 04:05:06 America/New_York", "12026-02-03 04:05:06+00"),
    ],
    "boolean": ["yes", "t", "TRUE", "1", 1, True, " on ", ""],
    "uuid": [
        "{a0eebc999c0b4ef8bb6d6bb9bd380a11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a-0eebc999c0b4ef8bb6d6bb9bd380a11",
    ],
    "bytea": ["\\xDE AD", "\\001a", "abc", "\\x0"],
    "text": [5, True, {"a": [1]}, [1, "b"], "\u0001", "null", "'", "x\\"],
    "json": [{"a": 1}, "{", "", "1"],
    "integer[]": [[1, None], "{1,2}", "[0:1]={1,2}", "{}", [[1]], 5],
    "jsonb[]": [[{"a": 1}], '{"1"}'],
}
"""What another producer may write: some of it PostgreSQL understands."""


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("rule", ["refuse", "clamp"])
def test_values_that_nobody_writes_so_are_read_alike_quickly_and_slowly_or_not_at_all(buffer, kind, rule):
    """`read` holds the one against the other."""
    told = one_column(source_column(kind))
    for value in STRANGE[kind]:
        number = buffer.put(told, {"id": "1", "c": value})
        try:
            with buffer.connection.transaction():
                buffer.read(told, first=number - 1, last=number, rules=ChangelogRules(out_of_range=rule))
        except psycopg.Error as refused:
            if not (refused.sqlstate or "").startswith(MISFIT_STATES):
                raise


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20) | st.sampled_from(
    ["", "\\.", "\\N", "NULL", '"', '""', ",", "\r", "\n", "\r\n", "'", "\\", "{}", "{NULL}", " ", "\t", "\ufeff", "😀"]
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(width=32),
    "double precision": st.floats(),
    "numeric(38,10)": st.decimals(-(10**28) + 1, 10**28 - 1, places=10, allow_nan=False),
    "text": TEXT,
    "bytea": st.binary(max_size=20),
    "uuid": st.uuids(),
    "date": st.dates(),
    "timestamp without time zone": st.datetimes(),
    "text[]": st.lists(TEXT | st.none(), max_size=4),
    "bigint[]": st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), max_size=4),
}
COLUMNS = tuple(VALUES)
RANDOM = SourceTable(
    "public",
    "random",
    (SourceColumn("id", "bigint"), *(SourceColumn(f"c{i}", kind) for i, kind in enumerate(COLUMNS))),
    ("id",),
)


def parsed(kind: str, cell: str | None) -> Any:
    """A cell as Python's own value of it; floats with their sign, so that zeros differ and NaN equals itself."""
    if cell is None:
        return None
    readers: dict[str, Any] = {
        "bigint": int,
        "real": lambda text: repr(struct.unpack("f", struct.pack("f", float(text)))[0]),
        "double precision": lambda text: repr(float(text)),
        "numeric(38,10)": Decimal,
        "text": str,
        "bytea": lambda text: bytes.fromhex(text.removeprefix("\\x")),
        "uuid": UUID,
        "date": date.fromisoformat,
        "timestamp without time zone": datetime.fromisoformat,
        "text[]": json.loads,
        "bigint[]": lambda text: [None if one is None else int(one) for one in json.loads(text)],
    }
    return readers[kind](cell)


@settings(max_examples=25)
@given(rows=st.lists(st.tuples(*(one | st.none() for one in VALUES.values())), min_size=1, max_size=12))
def test_random_values_arrive_as_they_are(shared_buffer, rows):
    """Through a table of PostgreSQL: as events with its texts, and by the first copy."""
    with rolled_back(shared_buffer):
        buffer, run = shared_buffer, shared_buffer.connection.execute
        made = ", ".join(f"c{i} {kind}" for i, kind in enumerate(COLUMNS))
        run(f"CREATE TABLE random (id bigint, {made})".encode())
        marks = ", ".join(f"%s::{kind}" for kind in COLUMNS)
        for number, row in enumerate(rows):
            run(f"INSERT INTO random VALUES (%s, {marks})".encode(), [number, *row])
        texts = ", ".join(
            f"'c{i}', CASE WHEN c{i} IS NOT NULL THEN format('%%s', c{i}) END" for i in range(len(COLUMNS))
        )
        asked = f"SELECT jsonb_build_object('id', id, {texts}) FROM random ORDER BY id".replace("%%", "%")
        for (row,) in run(asked.encode()).fetchall():
            buffer.put(RANDOM, row)
        wanted = [[repr(one) if isinstance(one, float) else one for one in row] for row in rows]
        for found in (buffer.read(RANDOM), buffer.copy(RANDOM)):
            assert [int(line[5] or 0) for line in found] == list(range(len(rows)))
            assert [[parsed(*one) for one in zip(COLUMNS, line[6:], strict=True)] for line in found] == wanted
