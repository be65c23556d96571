"""Checksums of rows: the same for the same rows however they come, another one for any other rows."""

import math
import random
import re
import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from activities.core.faults import UnsupportedType
from activities.core.iceberg_types import parse_iceberg
from activities.lake import checksums
from activities.lake.checksums import Checksum, checksum

STRUCT = pa.struct([("a", pa.int64()), ("b", pa.string())])
COLUMNS: dict[str, tuple[pa.DataType, str, st.SearchStrategy[Any]]] = {
    "number": (pa.int64(), "long", st.integers(-(2**63), 2**63 - 1)),
    "flag": (pa.bool_(), "boolean", st.booleans()),
    "single": (pa.float32(), "float", st.floats(width=32)),
    "double": (pa.float64(), "double", st.floats()),
    "text": (pa.string(), "string", st.text(max_size=4)),
    "bytes": (pa.binary(4), "fixed[4]", st.binary(min_size=4, max_size=4)),
    "money": (pa.decimal128(20, 2), "decimal(20, 2)", st.decimals(-(10**17), 10**17, places=2)),
    "day": (pa.date32(), "date", st.dates(date(1900, 1, 1), date(2299, 12, 31))),
    "time": (pa.timestamp("us", "UTC"), "timestamptz", st.datetimes(timezones=st.just(UTC))),
    "clock": (pa.time64("us"), "time", st.times()),
    "words": (pa.list_(pa.string()), "list<string>", st.lists(st.none() | st.text(max_size=2), max_size=3)),
    "labels": (
        pa.map_(pa.string(), pa.int64()),
        "map<string, long>",
        st.lists(st.tuples(st.text(max_size=2), st.none() | st.integers(0, 3)), max_size=2),
    ),
    "pair": (
        STRUCT,
        "struct<a: long, b: string>",
        st.fixed_dictionaries({"a": st.none() | st.integers(0, 3), "b": st.none() | st.text(max_size=2)}),
    ),
}
TYPES = {name: parse_iceberg(kind) for name, (_, kind, _) in COLUMNS.items()}
SCHEMA = pa.schema([(name, kind) for name, (kind, _, _) in COLUMNS.items()])
rows_of = st.lists(st.fixed_dictionaries({name: st.none() | values for name, (_, _, values) in COLUMNS.items()}))


def batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


def one(values: list[Any], kind: pa.DataType, iceberg: str) -> Checksum:
    arrays = [pa.array(values, kind)]
    return checksum([pa.RecordBatch.from_arrays(arrays, ["value"])], {"value": parse_iceberg(iceberg)})


def same(value: Any) -> Any:
    """A value such that equal ones are those that must not be told apart: any NaN is one, and the zeros are two."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("d", value)
    if isinstance(value, bool | int):
        return type(value), value
    if isinstance(value, list | tuple):
        return [same(item) for item in value]
    return {key: same(item) for key, item in value.items()} if isinstance(value, dict) else value


@settings(max_examples=40)
@given(rows_of, st.randoms(use_true_random=False), st.integers(1, 3))
def test_neither_the_order_of_rows_nor_how_they_are_cut_into_batches_changes_it(rows, chance, width):
    expected = checksum([batch(rows)], TYPES)
    shuffled = chance.sample(rows, len(rows))
    # Slices of a longer batch: their arrays begin somewhere inside of their buffers.
    longer = batch([*rows[:1], *shuffled])
    slices = [longer.slice(len(rows[:1]) + start, width) for start in range(0, len(rows), width)]
    cut = [one.slice(0, min(one.num_rows, width)) for one in slices]
    assert checksum(cut, TYPES) == expected
    assert expected.rows == len(rows)


@settings(max_examples=40)
@given(rows_of.filter(bool), st.data())
def test_a_lost_an_added_or_a_changed_row_changes_it(rows, data):
    expected = checksum([batch(rows)], TYPES)
    position = data.draw(st.integers(0, len(rows) - 1))
    assert checksum([batch(rows[:position] + rows[position + 1 :])], TYPES) != expected
    assert checksum([batch([*rows, rows[position]])], TYPES) != expected
    name = data.draw(st.sampled_from(sorted(COLUMNS)))
    value = data.draw(st.none() | COLUMNS[name][2])
    assume(same(value) != same(rows[position][name]))
    changed = [*rows[:position], {**rows[position], name: value}, *rows[position + 1 :]]
    assert checksum([batch(changed)], TYPES).total != expected.total


@settings(max_examples=40)
@given(rows_of.filter(lambda rows: len(rows) > 1), st.data())
def test_two_equal_changes_do_not_cancel_each_other(rows, data):
    """Under an exclusive or, a row that is there twice would look as if it were not there at all."""
    first, second = data.draw(st.permutations(range(len(rows))))[:2]
    assume(same(rows[first]) != same(rows[second]))
    twice = [rows[first] if index == second else row for index, row in enumerate(rows)]
    assert checksum([batch(twice)], TYPES) != checksum([batch(rows)], TYPES)
    doubled = [*rows, rows[first], rows[first]]
    assert checksum([batch(doubled)], TYPES).total != checksum([batch(rows)], TYPES).total


@pytest.mark.parametrize(
    ("values", "one_kind", "other_kind", "iceberg"),
    [
        ([0, 2**32 - 1, None], pa.uint32(), pa.int64(), "long"),
        ([0, 2**16 - 1], pa.uint16(), pa.int32(), "int"),
        ([2**64 - 1, 0], pa.uint64(), pa.decimal128(20, 0), "decimal(20, 0)"),
        ([b"0xab", None], pa.binary(4), pa.binary(), "string"),
        (["ab", "", "é", None], pa.string(), pa.dictionary(pa.int32(), pa.string()), "string"),
        (["ab", "é"], pa.string(), pa.large_string(), "string"),
        ([1_710_000_000_004], pa.timestamp("ms", "UTC"), pa.timestamp("ms"), "timestamptz"),
        ([1_710_000_000], pa.timestamp("s", "Asia/Tokyo"), pa.timestamp("s", "UTC"), "timestamptz"),
        ([Decimal("1.50"), None], pa.decimal128(5, 2), pa.decimal256(40, 2), "decimal(9, 2)"),
        ([1.5, math.nan, -0.0, None], pa.float32(), pa.float64(), "double"),
        ([[1, None], [], None], pa.list_(pa.uint16()), pa.large_list(pa.int64()), "list<int>"),
        ([bytes(16), None], pa.uuid(), pa.binary(16), "uuid"),
    ],
)  # fmt: skip
def test_the_physical_type_of_a_value_makes_no_difference(values, one_kind, other_kind, iceberg):
    assert one(values, one_kind, iceberg) == one(values, other_kind, iceberg)


def test_seconds_and_days_that_clickhouse_writes_as_numbers_are_times_and_dates():
    now = datetime(2024, 3, 20, 1, 2, 3, tzinfo=UTC)
    micros = one([datetime(2024, 3, 20, 1, 2, 3, 4000, UTC)], pa.timestamp("us", "UTC"), "timestamptz")
    assert micros == one([datetime(2024, 3, 20, 1, 2, 3, 4000, UTC)], pa.timestamp("ms", "UTC"), "timestamptz")
    seconds = one([int(now.timestamp())], pa.uint32(), "timestamptz")
    assert seconds == one([now], pa.timestamp("us", "UTC"), "timestamptz")
    assert one([19802], pa.uint16(), "date") == one([date(2024, 3, 20)], pa.date32(), "date")


def test_any_not_a_number_is_one_value_and_the_zeros_are_two():
    odd = struct.unpack("d", struct.pack("Q", 0xFFF8000000000123))[0]
    assert one([odd], pa.float64(), "double") == one([math.nan], pa.float64(), "double")
    assert one([-0.0], pa.float64(), "double") != one([0.0], pa.float64(), "double")


@pytest.mark.parametrize(
    ("left", "right", "kind", "iceberg"),
    [
        ([""], [None], pa.string(), "string"),
        ([[]], [None], pa.list_(pa.string()), "list<string>"),
        ([[None]], [[""]], pa.list_(pa.string()), "list<string>"),
        ([["ab", ""]], [["a", "b"]], pa.list_(pa.string()), "list<string>"),
        ([{"a": None, "b": None}], [None], STRUCT, "struct<a: long, b: string>"),
        ([0], [None], pa.int64(), "long"),
        ([False], [None], pa.bool_(), "boolean"),
    ],
)
def test_nothing_an_empty_value_and_how_a_value_is_cut_are_told_apart(left, right, kind, iceberg):
    assert one(left, kind, iceberg) != one(right, kind, iceberg)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (("xy", ""), ("x", "y")),
        (("x\x01", ""), ("x", "\x01")),
        (("", None), (None, "")),
        (("\x01", None), ("", "\x00")),
    ],
)
def test_a_value_is_not_taken_for_its_neighbours_in_the_next_column(left, right):
    types = {"a": parse_iceberg("string"), "b": parse_iceberg("string")}
    schema = pa.schema([("a", pa.string()), ("b", pa.string())])
    one, other = (pa.RecordBatch.from_pylist([dict(zip("ab", row, strict=True))], schema) for row in (left, right))
    assert checksum([one], types) != checksum([other], types)


@pytest.mark.parametrize(
    ("values", "kind", "iceberg"),
    [
        (["5"], pa.string(), "long"),
        ([2**64 - 1], pa.uint64(), "long"),
        ([1.5], pa.float64(), "long"),
        (["2024-03-20"], pa.string(), "timestamptz"),
        ([0], pa.timestamp("us"), "date"),
        (["1.5"], pa.string(), "decimal(9, 2)"),
        (["2024-03-20"], pa.string(), "date"),
        ([5], pa.int64(), "string"),
    ],
)
def test_a_value_that_is_not_of_its_type_is_refused_with_its_column(values, kind, iceberg):
    with pytest.raises(UnsupportedType, match=re.escape(f"column value ({kind}) cannot be read as {iceberg}: ")):
        one(values, kind, iceberg)


def test_a_wide_batch_is_taken_in_pieces_with_the_same_result(monkeypatch):
    chance = random.Random(7)
    rows = [{"text": chance.choice(["", "a" * 500]), "number": chance.randrange(9)} for _ in range(200)]
    types = {"text": parse_iceberg("string"), "number": parse_iceberg("long")}
    wide = pa.RecordBatch.from_pylist(rows)
    whole = checksum([wide], types)
    monkeypatch.setattr(checksums, "PIECE_BYTES", 1000)
    assert len(list(checksums._pieces(wide))) > 10
    assert checksum([wide], types) == whole
