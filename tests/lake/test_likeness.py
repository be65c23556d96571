"""What two files differ in by their schemas, and how the columns of both can be compared."""

import re

import pyarrow as pa
import pytest

from activities.lake.likeness import likeness


def alike(left: pa.DataType, right: pa.DataType) -> tuple[str, str]:
    """The common type, and what is said to differ."""
    found = likeness(pa.schema([("value", left)]), pa.schema([("value", right)]))
    return str(found.types.get("value", "")), "; ".join(found.differences)


@pytest.mark.parametrize(
    ("left", "right", "common"),
    [
        (pa.uint32(), pa.int64(), "long"),
        (pa.bool_(), pa.uint8(), "long"),
        (pa.uint64(), pa.decimal128(20, 0), "decimal(38, 0)"),
        (pa.uint64(), pa.int64(), "decimal(38, 0)"),
        (pa.decimal128(9, 2), pa.decimal128(20, 2), "decimal(38, 2)"),
        (pa.float32(), pa.float64(), "double"),
        (pa.timestamp("ms", "UTC"), pa.timestamp("us", "UTC"), "timestamptz"),
        (pa.binary(66), pa.string(), "binary"),
        (pa.list_(pa.uint32()), pa.list_(pa.int64()), "list<long>"),
        (pa.map_(pa.string(), pa.uint8()), pa.map_(pa.string(), pa.int32()), "map<binary, long>"),
        (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int64())]), "struct<a: long>"),
    ],
)
def test_another_type_that_holds_the_same_values_is_named_and_compared(left, right, common):
    found, said = alike(left, right)
    assert found == common
    assert re.fullmatch("column value is .* on the left and .* on the right", said)
    assert alike(right, left)[0] == common
    assert alike(left, left)[1] == ""


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pa.string(), pa.int64()),
        (pa.date32(), pa.timestamp("us", "UTC")),
        (pa.decimal128(9, 2), pa.decimal128(9, 3)),
        (pa.list_(pa.string()), pa.string()),
        (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())])),
        (pa.list_(pa.int8()), pa.list_(pa.string())),
    ],
)
def test_types_without_a_common_one_are_named_and_left_out(left, right):
    found, said = alike(left, right)
    assert found == ""
    assert said.endswith("on the right, which cannot be compared")


def test_whether_a_column_may_be_null_and_where_it_stands_makes_no_difference():
    left = pa.schema(
        [pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.list_(pa.field("item", pa.string())))]
    )
    right = pa.schema([pa.field("b", pa.list_(pa.field("element", pa.string(), nullable=False))), ("a", pa.int64())])
    assert likeness(left, right).differences == ()


def test_columns_of_one_side_are_named():
    found = likeness(pa.schema([("a", pa.int8()), ("c", pa.int8())]), pa.schema([("b", pa.int8()), ("c", pa.int8())]))
    assert found.differences == ("column a is only on the left", "column b is only on the right")
    assert list(found.types) == ["c"]
