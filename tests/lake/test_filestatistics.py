"""What a manifest says of a file lets no reader pass over a row, whatever the values are; or it says nothing."""

import io
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.conversions import from_bytes
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

from activities.core.iceberg_types import parse_iceberg
from activities.lake.filestatistics import statistics_of
from activities.lake.footers import Footer
from activities.lake.schema import fields_schema


def statistics(kind, values, **options):
    """Of a file with one column, whose id is 1."""
    schema = fields_schema({"value": parse_iceberg(kind)})
    metadata = new_table_metadata(schema, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, "s3://icefleet/table", {})
    out = io.BytesIO()
    pq.write_table(pa.table({"value": values}), out, **options)
    footer = Footer("some/key.parquet", pq.read_metadata(out), len(out.getvalue()))
    return statistics_of(metadata, footer)


@pytest.mark.parametrize(
    ("longest", "bound"),
    [
        ("x" * 15 + "\ud7ff" + "more", "x" * 15 + "\ue000"),
        ("x" * 14 + "\ud7ff" + "\U0010ffff" + "more", "x" * 14 + "\ue000"),
        ("x" * 14 + "\ud7ff" + "y" + "more", "x" * 14 + "\ud7ff" + "z"),
        ("x" * 15 + "\ud7ff", "x" * 15 + "\ud7ff"),
        ("\U0010ffff" * 17, None),
    ],
)
def test_a_text_that_is_cut_in_a_bound_is_followed_by_one_that_can_be_written(longest, bound):
    upper = statistics("string", pa.array(["a", longest]))["upper_bounds"].get(1)
    assert (upper and upper.decode()) == bound
    assert bound is None or bound >= longest


@pytest.mark.parametrize(
    ("kind", "values", "first", "far"),
    [
        ("date", pa.date32(), 0, 3_500_000),
        ("timestamp", pa.timestamp("us"), 0, 10**18),
        ("timestamptz", pa.timestamp("us", "UTC"), -(10**17), 0),
    ],
)
def test_days_that_python_cannot_say_are_counted_and_have_no_bounds(kind, values, first, far):
    width = pa.int32() if kind == "date" else pa.int64()
    column = pa.array([first, None, far], width).cast(values)
    found = statistics(kind, column, row_group_size=1)
    assert (found["record_count"], found["null_value_counts"], found["value_counts"]) == (3, {1: 1}, {1: 3})
    assert (found["lower_bounds"], found["upper_bounds"]) == ({}, {})


def test_other_days_have_bounds():
    found = statistics("date", pa.array([date(1, 1, 1), date(9999, 12, 31)]))
    [low, high] = (from_bytes(parse("date"), found[f"{end}_bounds"][1]) for end in ("lower", "upper"))
    assert (low, high) == (-719162, 2932896)


def parse(kind):
    return fields_schema({"value": parse_iceberg(kind)}).find_type(1)
