"""Rows become Parquet: each value as PostgreSQL wrote it, each day a file, memory bounded by a row group."""

import itertools
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from activities.core.faults import UnsupportedType
from activities.core.iceberg_types import parse_iceberg
from activities.lake import rows
from activities.lake.changelog import system_types
from activities.lake.rows import ChangelogFiles, csv_table
from activities.lake.schema import fields_schema
from support.changelogs import SYSTEM, csv_columns, kinds, line, lines

UUID_TEXT = "0f0e0d0c-0b0a-4908-8706-050403020100"
VALUES = [
    ("int", ["-2147483648", "", "2147483647"], [-(2**31), None, 2**31 - 1]),
    ("long", ["-9223372036854775808", "", "9223372036854775807"], [-(2**63), None, 2**63 - 1]),
    ("float", ["1e-45", "Infinity", "3.4028235e+38"], [1.401298464324817e-45, float("inf"), 3.4028234663852886e38]),
    ("double", ["5e-324", "-Infinity", "-0"], [5e-324, float("-inf"), -0.0]),
    ("boolean", ["t", "", "f"], [True, None, False]),
    ("string", ['""', "", '"a ""b"",\n\\N é😀"'], ["", None, 'a "b",\n\\N é😀']),
    ("decimal(38, 5)", ["-123456789012345678901234567890123.45678", "", "1"], None),
    ("decimal(9, 0)", ["999999999", "", "0"], [Decimal(999999999), None, Decimal(0)]),
    ("date", ["0001-01-01", "", "9999-12-31"], [date(1, 1, 1), None, date(9999, 12, 31)]),
    ("time", ["00:00:00", "", "23:59:59.999999"], [time(), None, time(23, 59, 59, 999999)]),
    (
        "timestamp",
        ["0001-01-01 00:00:00.5", "", "9999-12-31 23:59:59.999999"],
        [datetime.fromisoformat("0001-01-01T00:00:00.5"), None, datetime.fromisoformat("9999-12-31T23:59:59.999999")],
    ),
    ("timestamptz", ["1969-12-31 23:59:59.999999+00", "", "2024-03-20 12:00:00+00"], None),
    ("uuid", [UUID_TEXT, "", UUID_TEXT.upper()], [UUID(UUID_TEXT), None, UUID(UUID_TEXT)]),
    ("binary", ["\\x00ff", "", "\\x"], [b"\x00\xff", None, b""]),
    ("binary", ["", "", ""], [None, None, None]),
    ("list<int>", ['"[""1"",null,""-2""]"', "", "[]"], [[1, None, -2], None, []]),
    ("list<string>", ['"[""a,b"",""""]"', '"[null]"', "[]"], [["a,b", ""], [None], []]),
    ("list<boolean>", ['"[""true"",""false"",null]"', "", "[]"], [[True, False, None], None, []]),
    ("list<double>", ['"[""NaN"",""-Infinity""]"', "", "[]"], None),
    ("list<uuid>", [f'"[""{UUID_TEXT}"",null]"', "", "[]"], [[UUID(UUID_TEXT), None], None, []]),
    ("list<binary>", ['"[""\\\\x00ff"",""\\\\x""]"', "", "[]"], [[b"\x00\xff", b""], None, []]),
    (
        "list<decimal(20, 2)>",
        ['"[""123456789012345678.25""]"', "", "[]"],
        [[Decimal("123456789012345678.25")], None, []],
    ),
    (
        "list<timestamp>",
        ['"[""2024-03-20 12:00:00.5""]"', "", "[]"],
        [[datetime.fromisoformat("2024-03-20T12:00:00.5")], None, []],
    ),
    (
        "list<timestamptz>",
        ['"[""2024-03-20 12:00:00.5+00""]"', "", "[]"],
        None,
    ),
    ("list<date>", ['"[""2024-03-20"",null]"', "", "[]"], [[date(2024, 3, 20), None], None, []]),
    ("list<time>", ['"[""12:00:00.5""]"', "", "[]"], [[time(12, 0, 0, 500000)], None, []]),
]


def schema_of(fields):
    return fields_schema({**system_types(SYSTEM), **kinds(fields)})


def made_of(fields, *pieces, **options):
    """Each file's table, read back, in the order in which the files were made."""
    with ChangelogFiles(schema_of(fields), SYSTEM, **options) as files:
        for piece in pieces:
            files.add(piece, csv_columns(kinds(fields)))
        made = files.finish()
        return made, [pq.read_table(file.path) for file in made]


@pytest.mark.parametrize(("kind", "texts", "values"), VALUES, ids=[f"{n} {value[0]}" for n, value in enumerate(VALUES)])
def test_every_value_is_in_the_file_as_postgresql_wrote_it(kind, texts, values):
    piece = "".join(line(number, text) for number, text in enumerate(texts, 1)).encode()
    [made], [table] = made_of({"value": kind}, piece)
    found = table.column("value").to_pylist()
    if values is None:
        assert [None if one is None else str(one) for one in found] == {
            "decimal(38, 5)": ["-123456789012345678901234567890123.45678", None, "1.00000"],
            "timestamptz": ["1969-12-31 23:59:59.999999+00:00", None, "2024-03-20 12:00:00+00:00"],
            "list<timestamptz>": [str([datetime(2024, 3, 20, 12, 0, 0, 500000, ZoneInfo("UTC"))]), None, "[]"],
            "list<double>": ["[nan, -inf]", None, "[]"],
        }[kind]
    else:
        assert [repr(one) for one in found] == [repr(one) for one in values]
    assert made.rows == len(texts) == made.metadata.num_rows
    assert table.column("cdc_sequence_number").to_pylist() == [f"{n:016x}{0:016x}" for n in range(1, len(texts) + 1)]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("int", "2147483648"),
        ("decimal(5, 2)", "1.234"),
        ("decimal(5, 2)", "1234.50"),
        ("date", "infinity"),
        ("timestamptz", "infinity"),
        ("time", "24:00:00"),
        ("boolean", "yes"),
        ("uuid", "0f0e0d0c"),
        ("binary", "\\x0g"),
        ("list<int>", "{1}"),
        ("list<int>", '"[""x""]"'),
        ("int", "1,2"),
    ],
)
def test_a_value_that_is_none_of_its_type_fails_the_piece(kind, text):
    with pytest.raises(UnsupportedType, match=r"column value: |columns, got"):
        csv_table(line(1, text).encode(), csv_columns({"value": parse_iceberg(kind)}))


def test_a_row_without_a_commit_time_is_refused():
    piece = lines([1]).replace(b"2024-03-20 12:00:00.000001+00", b"")
    with pytest.raises(UnsupportedType, match="cdc_timestamp"):
        made_of({"id": "long", "name": "string"}, piece)


def test_each_day_has_a_file_and_rows_keep_their_order_in_it():
    pieces = [lines([number], f"2024-03-{20 + number % 2}") for number in range(6)]
    pieces.append(lines([6], "1969-12-31") + lines([7], "2024-03-21"))
    made, tables = made_of({"id": "long", "name": "string"}, *pieces)
    assert [file.day.isoformat() for file in made] == ["1969-12-31", "2024-03-20", "2024-03-21"]
    assert [table.column("id").to_pylist() for table in tables] == [[6], [0, 2, 4], [1, 3, 5, 7]]


def test_a_file_that_has_grown_large_is_followed_by_another_and_no_row_is_in_two(monkeypatch):
    monkeypatch.setattr(rows, "GROUP_BYTES", 20_000)
    pieces = [lines(range(start, start + 100)) for start in range(0, 3000, 100)]
    made, tables = made_of({"id": "long", "name": "string"}, *pieces, roll_bytes=10_000)
    assert len(made) > 2
    assert all(file.size < 20_000 for file in made)
    assert list(itertools.chain.from_iterable(table.column("id").to_pylist() for table in tables)) == list(range(3000))


def test_files_that_are_whole_can_be_taken_away_before_the_end(monkeypatch):
    monkeypatch.setattr(rows, "GROUP_BYTES", 1)
    with ChangelogFiles(schema_of({"id": "long", "name": "string"}), SYSTEM, roll_bytes=1) as files:
        files.add(lines([1]), csv_columns(kinds({"id": "long", "name": "string"})))
        [first] = files.rolled()
        assert pq.read_table(first.path).num_rows == 1
        assert (files.rolled(), files.finish()) == ([], [])
    assert not first.path.exists()


def test_rows_in_memory_never_exceed_a_row_group_and_a_piece(monkeypatch):
    monkeypatch.setattr(rows, "GROUP_BYTES", 100_000)
    with ChangelogFiles(schema_of({"id": "long", "name": "string"}), SYSTEM) as files:
        for start in range(0, 5000, 100):
            files.add(
                lines(range(start, start + 100), f"2024-03-{1 + start // 1000:02}"),
                csv_columns(kinds({"id": "long", "name": "string"})),
            )
            assert sum(file.waiting for file in files._open.values()) < 100_000


def test_events_of_many_days_do_not_open_as_many_files(monkeypatch):
    monkeypatch.setattr(rows, "MOST_OPEN", 3)
    made, tables = made_of(
        {"id": "long", "name": "string"}, *(lines([day], f"2024-03-{day:02}") for day in (1, 2, 3, 4, 5, 1))
    )
    assert sorted(
        (file.day.day, *table.column("id").to_pylist()) for file, table in zip(made, tables, strict=True)
    ) == [
        (1, 1),
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 4),
        (5, 5),
    ]


def test_a_field_that_a_piece_lacks_is_null_and_one_that_the_schema_lacks_is_refused():
    fields = {"id": "long", "extra": "uuid", "tags": "list<string>"}
    with ChangelogFiles(schema_of(fields), SYSTEM) as files:
        files.add(line(1, "7").encode(), csv_columns(kinds({"id": "long"})))
        files.add(line(2, "8", UUID_TEXT, "[]").encode(), csv_columns(kinds(fields)))
        with pytest.raises(UnsupportedType, match="gone"):
            files.add(line(3, "8").encode(), csv_columns(kinds({"gone": "long"})))
        [made] = files.finish()
        table = pq.read_table(made.path)
    assert table.select(["id", "extra", "tags"]).to_pylist() == [
        {"id": 7, "extra": None, "tags": None},
        {"id": 8, "extra": UUID(UUID_TEXT), "tags": []},
    ]


def test_files_hold_the_field_ids_of_the_schema_and_no_types_of_arrow():
    schema = schema_of({"id": "long", "tags": "list<int>"})
    with ChangelogFiles(schema, SYSTEM) as files:
        files.add(line(1, "7", "[]").encode(), csv_columns(kinds({"id": "long", "tags": "list<int>"})))
        [made] = files.finish()
        found = pq.read_schema(made.path)
    ids = {field.name: int(field.metadata[b"PARQUET:field_id"]) for field in found}
    assert ids == {field.name: field.field_id for field in schema.fields}
    element = found.field("tags").type.value_field
    assert int(element.metadata[b"PARQUET:field_id"]) == schema.find_field("tags").field_type.element_id
    assert found.metadata is None
    assert found.field("id").type == pa.int64()
