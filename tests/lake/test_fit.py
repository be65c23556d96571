"""A file is read under its table's types only where that cannot change a value."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from activities.core.types import parse_iceberg
from activities.lake.fit import misfits
from activities.lake.footers import read_footer

NOW = datetime(2024, 3, 20, tzinfo=UTC)


def wrong(kind, value, iceberg):
    out = io.BytesIO()
    pq.write_table(pa.table({"x": pa.array([value], kind)}), out)
    footer = read_footer("some/key.parquet", out.getvalue(), len(out.getvalue()))
    return misfits(footer, {"x": parse_iceberg(iceberg), "absent": parse_iceberg("int")})


LEGAL = [
    (pa.int32(), 1, "int"),
    (pa.int32(), 1, "long"),
    (pa.uint16(), 1, "int"),
    (pa.uint32(), 1, "long"),
    (pa.uint64(), 1, "long"),
    (pa.float32(), 1, "double"),
    (pa.decimal128(9, 2), Decimal(1), "decimal(18, 2)"),
    (pa.string(), "a", "string"),
    (pa.string(), "a", "binary"),
    (pa.binary(4), b"abcd", "fixed[4]"),
    (pa.date32(), date(2024, 3, 20), "date"),
    (pa.timestamp("ms", "UTC"), NOW, "timestamptz"),
    (pa.timestamp("us", "UTC"), NOW, "timestamptz"),
    (pa.list_(pa.int32()), [1], "list<long>"),
    (pa.map_(pa.string(), pa.int32()), [("a", 1)], "map<string, long>"),
    (pa.struct({"a": pa.int32()}), {"a": 1}, "struct<a: long, b: string>"),
]
REFUSED = [
    (pa.int64(), 1, "int", "x is INT64 in the file and int in the table"),
    (pa.uint32(), 1, "int", "x is INT32 Int(bitWidth=32, isSigned=false) in the file and int in the table"),
    (pa.float64(), 1, "float", "x is DOUBLE"),
    (pa.decimal128(18, 2), Decimal(1), "decimal(9, 2)", "x is FIXED_LEN_BYTE_ARRAY Decimal(precision=18, scale=2)"),
    (pa.decimal128(9, 3), Decimal(1), "decimal(9, 2)", "x is FIXED_LEN_BYTE_ARRAY Decimal(precision=9, scale=3)"),
    (pa.binary(), b"a", "string", "x is BYTE_ARRAY"),
    (pa.binary(4), b"abcd", "fixed[5]", "x is FIXED_LEN_BYTE_ARRAY"),
    (pa.timestamp("ns", "UTC"), NOW, "timestamptz", "x is INT64 Timestamp"),
    (pa.timestamp("us"), datetime(2024, 3, 20), "timestamptz", "x is INT64 Timestamp"),  # noqa: DTZ001 - that is the point
    (pa.int64(), 1, "timestamptz", "x is INT64 in the file"),
    (pa.list_(pa.int64()), [1], "list<int>", "x.list.element is INT64"),
    (pa.struct({"a": pa.int32(), "c": pa.int32()}), {"a": 1, "c": 1}, "struct<a: int>", "x.c is no field of the table"),
    (pa.int32(), 1, "list<int>", "x is no field of the table"),
]


@pytest.mark.parametrize(("kind", "value", "iceberg"), LEGAL)
def test_what_reads_right_fits(kind, value, iceberg):
    assert wrong(kind, value, iceberg) == []


@pytest.mark.parametrize(("kind", "value", "iceberg", "said"), REFUSED)
def test_what_would_read_wrong_is_named(kind, value, iceberg, said):
    [found] = wrong(kind, value, iceberg)
    assert found.startswith(said)
