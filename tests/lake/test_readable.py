"""A file of others is adopted only where all three readers read it right: by its types, and at times its values."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from activities.core.types import parse_iceberg
from activities.lake.footers import read_footer
from activities.lake.readable import bounded_by_footer, leaves, type_of, unreadable

NOW = datetime(2024, 3, 20, tzinfo=UTC)
NAIVE = NOW.replace(tzinfo=None)


def footer_of(columns, **options):
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, store_schema=False, **options)
    return read_footer("some/key.parquet", out.getvalue(), len(out.getvalue()))


def judged(kind, value, iceberg, **options):
    footer = footer_of({"x": pa.array([value], kind)}, **options)
    refusal = unreadable(footer, {"x": parse_iceberg(iceberg), "absent": parse_iceberg("int")})
    return ("", "") if refusal is None else (refusal.reason, refusal.why)


READ = [
    (pa.uint16(), 2**16 - 1, "int"),
    (pa.uint32(), 2**31 - 1, "int"),
    (pa.uint32(), 2**31 - 1, "long"),
    (pa.uint64(), 2**63 - 1, "long"),
    (pa.int8(), -1, "long"),
    (pa.float32(), 0.5, "double"),
    (pa.decimal128(9, 2), Decimal(1), "decimal(18, 2)"),
    (pa.string(), "ä", "string"),
    (pa.binary(), b"\xff", "binary"),
    (pa.binary(4), b"abcd", "fixed[4]"),
    (pa.uuid(), b"a" * 16, "uuid"),
    (pa.date32(), date(2024, 3, 20), "date"),
    (pa.timestamp("ms", "UTC"), NOW, "timestamptz"),
    (pa.timestamp("ms"), NAIVE, "timestamptz"),
    (pa.timestamp("us"), NAIVE, "timestamptz"),
    (pa.list_(pa.uint32()), [2**32 - 1], "list<long>"),
    (pa.list_(pa.uint64()), [2**63 - 1], "list<long>"),
    (pa.map_(pa.string(), pa.uint32()), [("a", 2**32 - 1)], "map<string, long>"),
    (pa.struct({"a": pa.uint8()}), {"a": 1}, "struct<a: long, b: string>"),
]
REFUSED = [
    (pa.uint32(), 2**31, "int", "value", "x holds 2147483648, and an int ends at 2^31-1"),
    (pa.uint32(), 2**31, "long", "value", "x holds 2147483648, and PyIceberg filters it as an int"),
    (pa.uint64(), 2**63, "long", "value", "x holds 9223372036854775808, and a long ends at 2^63-1"),
    (pa.list_(pa.uint64()), [2**63], "list<long>", "value", "x.list.element holds 9223372036854775808"),
    (pa.struct({"a": pa.uint32()}), {"a": 2**31}, "struct<a: long>", "value", "x.a holds 2147483648"),
    (pa.int64(), 1, "int", "type", "x is INT64 in the file and int in the table"),
    (pa.uint64(), 1, "decimal(20, 0)", "type", "x is INT64 Int(bitWidth=64, isSigned=false) in the file and decimal"),
    (pa.uint8(), 1, "boolean", "type", "x is INT32"),
    (pa.binary(), b"a", "string", "type", "(to Parquet they are bytes and not text, which DuckDB shows escaped)"),
    (pa.list_(pa.binary()), [b"a"], "list<string>", "type", "DuckDB shows escaped"),
    (pa.binary(4), b"abcd", "string", "type", "DuckDB shows escaped"),
    (pa.string(), "abcd", "fixed[4]", "type", "x is BYTE_ARRAY String in the file and fixed[4] in the table"),
    (pa.string(), "abcd", "binary", "type", "which DuckDB cannot turn into bytes"),
    (pa.binary(8), b"a" * 8, "fixed[16]", "type", "x is FIXED_LEN_BYTE_ARRAY"),
    (pa.binary(16), b"a" * 16, "uuid", "type", "nobody knows the order of a UUID's bytes"),
    (pa.decimal128(9, 3), Decimal(1), "decimal(9, 2)", "type", "Decimal(precision=9, scale=3)"),
    (pa.uint16(), 1, "date", "type", "(PyIceberg and DuckDB take no number for a time)"),
    (pa.uint32(), 1, "timestamptz", "type", "take no number for a time"),
    (pa.int64(), 1, "timestamptz", "type", "take no number for a time"),
    (pa.timestamp("ns", "UTC"), NOW, "timestamptz", "type", "digits below a microsecond would be cut"),
    (pa.struct({"a": pa.int32(), "c": pa.int32()}), {"a": 1, "c": 1}, "struct<a: int>", "type", "x.c is no field"),
    (pa.int32(), 1, "list<int>", "type", "x is no field of the table"),
]


@pytest.mark.parametrize(("kind", "value", "iceberg"), READ)
def test_what_all_three_read_right_is_taken(kind, value, iceberg):
    assert judged(kind, value, iceberg) == ("", "")


@pytest.mark.parametrize(("kind", "value", "iceberg", "reason", "says"), REFUSED)
def test_what_one_of_them_reads_wrong_is_refused_and_says_so(kind, value, iceberg, reason, says):
    found, why = judged(kind, value, iceberg)
    assert found == reason
    assert says in why


@pytest.mark.parametrize(("kind", "iceberg"), [(pa.uint32(), "int"), (pa.uint32(), "long"), (pa.uint64(), "long")])
def test_values_of_which_nobody_knows_the_largest_are_refused(kind, iceberg):
    assert judged(kind, 1, iceberg, write_statistics=False)[0] == "value"
    assert judged(kind, None, iceberg) == ("", "")


def test_lists_are_read_by_either_name_of_their_elements():
    footer = footer_of({"x": pa.array([[[1]]], pa.list_(pa.list_(pa.int32())))}, use_compliant_nested_type=False)
    types = {"x": parse_iceberg("list<list<long>>")}
    assert unreadable(footer, types) is None
    [leaf], unknown = leaves(footer, types)
    assert (leaf.path, leaf.known, unknown) == (
        "x.list.element.list.element".replace("element", "item"),
        "x.list.element.list.element",
        [],
    )


def test_only_bounds_of_the_tables_own_type_are_taken_from_a_footer():
    columns = {"a": pa.array([NAIVE]), "b": pa.array([NOW], pa.timestamp("ms", "UTC")), "c": pa.array([1], pa.uint32())}
    types = {"a": parse_iceberg("timestamptz"), "b": parse_iceberg("timestamptz"), "c": parse_iceberg("int")}
    found, _ = leaves(footer_of(columns), types)
    assert {leaf.path: bounded_by_footer(leaf) for leaf in found} == {"a": False, "b": True, "c": False}


def test_a_column_that_the_table_lacks_is_named_with_the_way_out():
    refusal = unreadable(footer_of({"x": [1], "X": [1], "y": [1]}), {"x": parse_iceberg("long")})
    assert refusal is not None
    assert refusal.reason == "unknown_column"
    assert refusal.why.startswith("X, y: PyIceberg cannot read a table of which a file has more columns")
    assert "X differs from x in letter case; name them under 'extra_columns'" in refusal.why


EXTRA = {
    "int": pa.array([1], pa.uint16()),
    "long": pa.array([1], pa.uint32()),
    "double": pa.array([0.5]),
    "string": pa.array(["a"]),
    "binary": pa.array([b"a"]),
    "fixed[3]": pa.array([b"abc"], pa.binary(3)),
    "timestamptz": pa.array([NAIVE]),
    "date": pa.array([NOW.date()]),
    "decimal(9, 2)": pa.array([Decimal(1)], pa.decimal128(9, 2)),
    "boolean": pa.array([True]),
    None: pa.array([[1]]),
}


@pytest.mark.parametrize("wanted", EXTRA)
def test_an_extra_column_gets_the_type_under_which_it_is_read(wanted):
    footer = footer_of({"x": EXTRA[wanted]})
    kind = type_of(footer, "x")
    assert (None if kind is None else str(kind)) == wanted
    assert kind is None or unreadable(footer, {"x": kind}) is None
    assert type_of(footer, "y") is None
