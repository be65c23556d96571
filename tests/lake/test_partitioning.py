"""Rows go where Iceberg's own transforms say."""

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import parse_transform
from pyiceberg.types import NestedField
from pyiceberg.utils.datetime import date_to_days, datetime_to_micros, time_to_micros

from activities.core.faults import SchemaConflict
from activities.core.tables import PartitionRule
from activities.lake.partitioning import parts_of
from activities.lake.schema import fields_schema, partition_spec
from support.changelogs import kinds

MOMENTS = [
    datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2024, 2, 29, 13, 5, tzinfo=UTC),
    None,
    datetime(1583, 10, 15, 1, tzinfo=UTC),
]
VALUES = {
    "timestamptz": MOMENTS,
    "timestamp": [one and one.replace(tzinfo=None) for one in MOMENTS],
    "date": [one and one.date() for one in MOMENTS],
    "time": [time(1, 2, 3), None, time(0), time(23, 59, 59, 999999)],
    "int": [-1, 0, None, 7, 2**31 - 1],
    "long": [-(2**63) + 2, -10, 0, None, 7, 2**63 - 1],
    "decimal(9, 2)": [Decimal("-1.07"), Decimal("0.00"), None, Decimal("12.34")],
    "string": ["", "a", "ähnlich", None, "🦆🦆🦆", "abc"],
    "binary": [b"", b"abc", None],
    "uuid": [UUID(int=0).bytes, UUID(int=2**127 + 5).bytes, None],
    "boolean": [True, False, None],
}
CASES = [
    (kind, transform)
    for kind, values in VALUES.items()
    for transform in ("identity", "bucket[7]", "truncate[3]", "year", "month", "day", "hour")
    if parse_transform(transform).can_transform(fields_schema(kinds({"a": kind})).find_field("a").field_type)
]


def physical(value):
    match value:
        case datetime():
            return datetime_to_micros(value)
        case date():
            return date_to_days(value)
        case time():
            return time_to_micros(value)
    return value


def read_back(kind, value):
    """As PyIceberg reads it from a manifest."""
    return UUID(bytes=value) if kind == "uuid" and isinstance(value, bytes) else value


def found(table, schema, *transforms):
    fields = [PartitionField(place, 1000 + place, parse_transform(one), f"p{place}") for place, one in transforms]
    rows = {}
    for part in parts_of(table, schema, PartitionSpec(*fields)):
        for row in range(table.num_rows) if part.rows is None else part.rows.tolist():
            assert row not in rows
            rows[row] = part.values
    return [rows[row] for row in range(table.num_rows)]


@pytest.mark.parametrize(("kind", "transform"), CASES)
def test_each_value_is_where_its_transform_says(kind, transform):
    schema = fields_schema(kinds({"a": kind}))
    values = VALUES[kind] * 3
    table = pa.table({"a": values}, schema=schema_to_pyarrow(schema, include_field_ids=False))
    apply = parse_transform(transform).transform(schema.find_field("a").field_type)
    expected = [(None if value is None else read_back(kind, apply(physical(value))),) for value in values]
    assert found(table, schema, (1, transform)) == expected


def test_several_fields_are_told_apart_and_rows_keep_their_order():
    schema = Schema(*fields_schema(kinds({"a": "long", "b": "string"})).fields)
    assert isinstance(schema.fields[0], NestedField)
    numbers = np.random.default_rng(1).integers(0, 5, 1000)
    table = pa.table({"a": numbers, "b": [f"{number % 3}x" for number in numbers]})
    apart = found(table, schema, (1, "identity"), (2, "truncate[1]"), (1, "bucket[2]"))
    assert [values[:2] for values in apart] == [(number, str(number % 3)) for number in numbers.tolist()]
    every = parts_of(table, schema, PartitionSpec(PartitionField(1, 1000, parse_transform("identity"), "a")))
    assert all((np.diff(part.rows) > 0).all() for part in every)
    assert [part.rows for part in parts_of(table, schema, PartitionSpec())] == [None]
    assert parts_of(table.slice(0, 0), schema, PartitionSpec()) == []


def test_fields_of_structs_are_told_from_columns_of_their_name():
    schema = fields_schema(kinds({"region": "string", "at": "struct<zone: struct<region: string>>", "a.b": "int"}))
    zones = [{"zone": {"region": "eu"}}, {"zone": {"region": None}}, {"zone": None}, None, {"zone": {"region": "us"}}]
    rows = {"region": ["x"] * 5, "at": zones, "a.b": range(5)}
    table = pa.table(rows, schema=schema_to_pyarrow(schema, include_field_ids=False))
    inner = schema.find_field("at.zone.region").field_id
    assert found(table, schema, (inner, "identity")) == [("eu",), (None,), (None,), (None,), ("us",)]
    assert found(table, schema, (3, "truncate[2]"), (1, "identity")) == [
        *[(number, "x") for number in (0, 0, 2, 2, 4)],
    ]


@pytest.mark.parametrize(
    ("kind", "least"), [("int", -(2**31)), ("long", -(2**63)), ("decimal(9, 2)", Decimal("-9999999.99"))]
)
def test_a_number_that_cannot_be_cut_is_refused_with_the_way_out(kind, least):
    schema = fields_schema(kinds({"a": kind}))
    table = pa.table({"a": [5, least, None]}, schema=schema_to_pyarrow(schema, include_field_ids=False))
    assert found(table, schema, (1, "identity")) == [(5,), (least,), (None,)]
    assert len(found(table, schema, (1, "bucket[3]"))) == 3
    with pytest.raises(
        SchemaConflict, match=rf"cutting a by truncate\[7\] puts {least} below the smallest {re.escape(kind)}; take"
    ):
        found(table, schema, (1, "truncate[7]"))


def test_the_partition_field_of_an_export_has_a_name_of_ascii():
    schema = fields_schema(kinds({"größe am": "date"}))
    assert partition_spec(schema, PartitionRule("daily", "größe am")).fields[0].name == "gr_xF6_xDFe_x20am_day"
