"""A file of others is judged by its rows' place and by what it must not show, and described with bounds that hold."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.conversions import from_bytes
from pyiceberg.io import load_file_io
from pyiceberg.table import Table
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

from activities.core.columns import ExportColumn
from activities.core.evolution import TableShape
from activities.core.faults import ObjectRefused
from activities.core.orphans import PROPERTY
from activities.core.partitions import index_of
from activities.core.tables import NetworkRange, PartitionRule, TableConfig
from activities.core.types import parse_iceberg
from activities.lake.adopted import Judge, adopted_file
from activities.lake.files import existing_files, upper_bound
from activities.lake.footers import read_ends, read_footer
from activities.lake.schema import iceberg_schema, partition_spec
from support.published import MILLIS, UPDATED, day_table

DAILY = PartitionRule("daily", "at")
CONFIG = TableConfig(
    "events",
    "default",
    "local.default",
    DAILY,
    (NetworkRange("net", "2024-03-01"),),
    network_column="network",
    redacted_columns=("name",),
)
TYPES = {
    name: parse_iceberg(kind)
    for name, kind in {
        "updated": "timestamptz",
        "at": "timestamptz",
        "number": "long",
        "name": "string",
        "network": "string",
        "small": "int",
        "list": "list<long>",
    }.items()
}
DAY = index_of(DAILY, "2024-03-20")
JUDGE = Judge(replace(CONFIG, redacted_columns=()), "net", TableShape(TYPES), "updated")
NAIVE = pa.timestamp("us")


def file_of(table, **options):
    """A file's footer and body."""
    out = io.BytesIO()
    pq.write_table(table, out, store_schema=False, **options)
    return read_footer("some/key.parquet", out.getvalue(), len(out.getvalue())), out.getvalue()


def verdict(judge, table, **options):
    footer, body = file_of(table, **options)
    if refusal := judge.first_look(footer):
        return refusal.reason, refusal.why
    known, untold = judge.told(footer)
    known |= read_ends("some/key.parquet", body, untold)
    refusal = judge.second_look(DAY, known)
    return (refusal.reason, refusal.why) if refusal else ("", "")


def day(**extra):
    return day_table("net", 20, extra=extra)


def test_a_day_of_the_public_files_is_right():
    assert verdict(JUDGE, day()) == ("", "")
    assert verdict(JUDGE, day(), write_statistics=["number"]) == ("", "")
    assert verdict(JUDGE, day(), row_group_size=3) == ("", "")


LATE = pa.array([datetime(2024, 3, 20, tzinfo=UTC)] * 9 + [datetime(2024, 3, 21, tzinfo=UTC)], MILLIS)
EARLY = pa.array([datetime(2024, 3, 20)] * 9 + [datetime(2024, 3, 19, 23, 59, 59, 999999)], NAIVE)  # noqa: DTZ001 - that is the point
HOLED = pa.array([datetime(2024, 3, 20, tzinfo=UTC)] * 9 + [None], MILLIS)


@pytest.mark.parametrize("statistics", [True, ["number"]])
@pytest.mark.parametrize(
    ("extra", "reason", "says"),
    [
        ({"at": LATE}, "wrong_partition", "its key is that of 2024-03-20, and at goes from 2024-03-20 00:00:00"),
        ({"at": EARLY}, "wrong_partition", "from 2024-03-19 23:59:59.999999"),
        ({"at": HOLED}, "wrong_partition", "at is null in 1 rows"),
        ({"network": pa.array(["net"] * 9 + ["other"])}, "wrong_network", "network goes from 'net' to 'other'"),
        ({"network": pa.array(["net"] * 9 + [None])}, "wrong_network", "with 1 nulls"),
        ({"updated": pa.array([None] * 10, MILLIS)}, "no_version", "updated is null in every row"),
        ({"updated": None}, "no_version", "it has no column updated"),
        ({"at": None}, "missing_column", "it has no column at"),
        ({"network": None}, "missing_column", "it has no column network"),
        ({"legacy": pa.array([1] * 10)}, "unknown_column", "legacy: PyIceberg cannot read a table"),
        ({"name": pa.array([b"a"] * 10)}, "type", "name is BYTE_ARRAY in the file and string in the table"),
    ],
)
def test_each_reason_to_refuse_a_file(extra, reason, says, statistics):
    found, why = verdict(JUDGE, day(**extra), write_statistics=statistics)
    assert found == reason
    assert says in why


def test_a_file_without_rows_is_refused():
    assert verdict(JUDGE, day().slice(0, 0))[0] == "empty"


def test_a_column_that_the_table_requires_is_there_and_never_null():
    judge = replace(JUDGE, shape=TableShape(TYPES, frozenset({"name"})))
    assert verdict(judge, day()) == ("", "")
    assert verdict(judge, day(name=None)) == ("missing_column", "it has no column name")
    assert verdict(judge, day(name=pa.array(["a"] * 9 + [None])))[0] == "value"


SEEN = [
    (pa.array(["Berlin"] * 10), "unredacted"),
    (pa.array([""] * 9 + ["Berlin"]), "unredacted"),
    (pa.array([""] * 10), ""),
    (pa.array(["REDACTED"] * 10), ""),
    (pa.array([None] * 10, pa.string()), ""),
    (None, ""),
]


@pytest.mark.parametrize(("values", "reason"), SEEN)
def test_what_config_redacts_may_not_show_unless_somebody_says_so(values, reason):
    judge = replace(JUDGE, config=CONFIG)
    assert verdict(judge, day(name=values))[0] == reason
    assert verdict(replace(judge, unredacted=frozenset({"name"})), day(name=values)) == ("", "")


def test_a_redacted_column_of_which_nobody_knows_what_it_shows_is_refused():
    found, why = verdict(
        replace(JUDGE, config=CONFIG), day(name=pa.array([""] * 10)), write_statistics=["at", "number"]
    )
    assert found == "unredacted"
    assert "its footer does not say what it holds" in why


@pytest.fixture
def table():
    columns = tuple(ExportColumn(name, "", kind) for name, kind in TYPES.items())
    schema = iceberg_schema(columns)
    metadata = new_table_metadata(schema, partition_spec(schema, DAILY), UNSORTED_SORT_ORDER, "s3://lake/t", {})
    return Table(("net", "events"), metadata, "", load_file_io(), None)


def described(table, content, **options):
    footer, body = file_of(content, **options)
    known, untold = JUDGE.told(footer)
    known |= read_ends("some/key.parquet", body, untold)
    return adopted_file(table, DAILY, DAY, "s3://icefleet/some/key.parquet", footer, known)


def bounds_of(table, file):
    return {
        field.name: tuple(
            None if (raw := bounds.get(field.field_id)) is None else from_bytes(field.field_type, raw)
            for bounds in (file.lower_bounds, file.upper_bounds)
        )
        for field in table.schema().fields
    }


MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = (datetime(2024, 3, 20, tzinfo=UTC) - EPOCH) // MICROSECOND
VERSION = (UPDATED - EPOCH) // MICROSECOND


@pytest.mark.parametrize("kind", [MILLIS, NAIVE])
@pytest.mark.parametrize("statistics", [True, ["small"]])
def test_bounds_of_what_planning_lives_by_are_exact_and_those_of_other_types_are_left_out(table, kind, statistics):
    times = {
        name: pa.array([value.replace(tzinfo=kind.tz and UTC) for value in day()[name].to_pylist()], kind)
        for name in ("at", "updated")
    }
    extra = {**times, "small": pa.array(range(10), pa.uint32()), "list": pa.array([[1]] * 10, pa.list_(pa.int64()))}
    file = described(table, day(**extra), write_statistics=statistics, use_compliant_nested_type=False)
    bounds = bounds_of(table, file)
    assert bounds["at"] == (FIRST, FIRST + 9 * 60_000_000)
    assert bounds["updated"] == (VERSION, VERSION)
    assert bounds["network"] == ("net", "net")
    assert bounds["small"] == (None, None)
    assert bounds["number"] == ((0, 9) if statistics is True else (None, None))
    assert upper_bound(table, file, "updated") == VERSION
    assert (file.record_count, file.partition[0]) == (10, DAY)
    number = table.schema().find_field("at").field_id
    assert file.null_value_counts[number] == 0


def test_an_object_of_our_own_is_not_committed_beyond_the_line_and_one_of_others_is(table):
    table.metadata.properties[PROPERTY] = "1000"
    footer, _ = file_of(day())
    known, _ = JUDGE.told(footer)
    old = replace(footer, made=999, ours=True)
    with pytest.raises(ObjectRefused, match="is being deleted as an orphan"):
        adopted_file(table, DAILY, DAY, "s3://icefleet/some/key.parquet", old, known)
    for right in (replace(old, ours=False), replace(old, made=1000)):
        assert adopted_file(table, DAILY, DAY, "s3://icefleet/some/key.parquet", right, known).record_count == 10
    assert existing_files(table, DAILY, "updated") == {}
