"""A file enters the table only with its partition proved; a look at the table opens no more than it must."""

import io
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import ManifestFile

from activities.core.faults import ObjectRefused, UnsupportedType
from activities.core.partitions import Span, index_of
from activities.core.tables import PartitionRule
from activities.lake.files import data_file, existing_files, live_files
from activities.lake.footers import read_footer
from support.direct import Hands

DAILY = PartitionRule("daily", "at")
DAY = index_of(DAILY, "2024-03-20")


def footer_of(at, *, updated=datetime(2024, 4, 1, tzinfo=UTC), extra=None, **options):
    """The footer of a file with one row for each value of `at`."""
    time = pa.timestamp("us", tz="UTC")
    columns = {
        "updated": pa.array([updated] * len(at), time),
        "at": pa.array(at, time),
        "number": pa.array(range(len(at)), pa.int64()),
        **(extra or {}),
    }
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, **options)
    return read_footer("some/key.parquet", out.getvalue(), len(out.getvalue()))


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
async def table(fleet):
    await fleet.make_days(days=1, rows=1, types={"number": "long"})
    async with fleet.context() as context:
        await Hands(fleet, context).plan()
    return fleet.table()


def describe(table, footer):
    return data_file(table, DAILY, DAY, "s3://icefleet/some/key.parquet", footer, "updated")


def test_a_file_within_its_partition_is_described_with_the_partition_said_explicitly(table):
    footer = footer_of([moment("2024-03-20T00:00:00"), moment("2024-03-20T23:59:59.999999")])
    file = describe(table, footer)
    assert (file.record_count, file.file_size_in_bytes, file.partition[0]) == (2, footer.size, DAY)


@pytest.mark.parametrize("outside", ["2024-03-19T23:59:59.999999", "2024-03-21T00:00:00"])
def test_a_row_outside_the_partition_is_refused(table, outside):
    with pytest.raises(ObjectRefused, match=r"for partition 2024-03-20 of table .*outside its partition"):
        describe(table, footer_of([moment("2024-03-20T12:00:00"), moment(outside)]))


def test_a_null_in_the_partition_column_is_refused(table):
    with pytest.raises(ObjectRefused, match="has nulls in at"):
        describe(table, footer_of([moment("2024-03-20T12:00:00"), None]))


def test_a_file_without_bounds_for_its_partition_column_is_refused(table):
    with pytest.raises(ObjectRefused, match="has no bounds for at; its partition cannot be proved"):
        describe(table, footer_of([moment("2024-03-20T12:00:00")], write_statistics=["updated", "number"]))


def test_a_file_without_bounds_for_its_version_is_refused(table):
    with pytest.raises(ObjectRefused, match="no bounds for version column updated"):
        describe(table, footer_of([moment("2024-03-20T12:00:00")], write_statistics=["at", "number"]))


def test_a_column_that_the_table_lacks_is_named(table):
    with pytest.raises(ObjectRefused, match=r"columns that table .*\.events lacks: surprise"):
        describe(table, footer_of([moment("2024-03-20T12:00:00")], extra={"surprise": pa.array([1])}))


def bounds_of(table, file, name):
    field = table.schema().find_field(name)
    return tuple(
        None if (raw := bounds.get(field.field_id)) is None else from_bytes(field.field_type, raw)
        for bounds in (file.lower_bounds, file.upper_bounds)
    )


def test_bounds_are_those_of_the_whole_file_or_none(table):
    day = [moment("2024-03-20T12:00:00")] * 2
    short = describe(table, footer_of(day, extra={"name": pa.array(["b", "a"])}, row_group_size=1))
    assert bounds_of(table, short, "name") == ("a", "b")
    # Parquet says nothing of a group with a very long text; what it says of the other one does not hold for the file.
    long = describe(table, footer_of(day, extra={"name": pa.array(["b", "z" * 10_000])}, row_group_size=1))
    assert bounds_of(table, long, "name") == (None, None)
    empty = describe(table, footer_of(day, extra={"name": pa.array(["b", None])}, row_group_size=1))
    assert bounds_of(table, empty, "name") == ("b", "b")


UNSIGNED = [(2**63 - 1, ""), (2**63, "holds 9223372036854775808"), (2**64 - 1, "holds 18446744073709551615")]


@pytest.mark.parametrize(("largest", "says"), UNSIGNED)
def test_an_unsigned_value_beyond_a_long_is_refused(table, largest, says):
    footer = footer_of([moment("2024-03-20T12:00:00")] * 2, extra={"number": pa.array([0, largest], pa.uint64())})
    if not says:
        assert bounds_of(table, describe(table, footer), "number") == (0, largest)
        return
    with pytest.raises(
        UnsupportedType, match=rf"table .*\.events: .*column number {says}, and a long ends at 2\^63-1; write"
    ):
        describe(table, footer)


def test_unsigned_values_of_which_nobody_knows_the_largest_are_refused(table):
    day = [moment("2024-03-20T12:00:00")] * 2
    with pytest.raises(UnsupportedType, match="column number has no largest value in the file's statistics"):
        describe(
            table, footer_of(day, extra={"number": pa.array([0, 1], pa.uint64())}, write_statistics=["at", "updated"])
        )
    nothing = pa.array([None, None], pa.uint64())
    assert describe(table, footer_of(day, extra={"number": nothing})).record_count == 2


async def test_chunks_are_found_by_their_bounds_in_coarse_partitions_and_other_manifests_stay_closed(
    fleet, monkeypatch
):
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.blocks (updated DateTime, block UInt64, network String) "
        "ENGINE = ReplacingMergeTree(updated) ORDER BY (network, block)"
    )
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.blocks SELECT toDateTime('2024-04-01', 'UTC'), number, '{fleet.network}' "
        "FROM numbers(6001)"
    )
    fleet.add_table("chunked", "blocks", "block", partition={"coarse_chunks": 2}, types={"block": "long"})
    async with fleet.context() as context:
        hands = Hands(fleet, context, table="blocks")
        plan = await hands.plan(oldest_first=True)
        assert [one.partition for one in plan.todo] == [str(first * 1000) for first in range(6)]
        files = await hands.export_all(plan)
        # One manifest for each pair of chunks.
        for first in range(0, 6, 2):
            await hands.commit(files[first : first + 2])
        rule = context.find_table("blocks", fleet.network).partition
    table = fleet.table("blocks")
    assert str(table.spec().fields[0].transform) == "truncate[2000]"
    opened = []
    fetch = ManifestFile.fetch_manifest_entry
    monkeypatch.setattr(
        ManifestFile,
        "fetch_manifest_entry",
        lambda self, *args, **more: opened.append(self) or fetch(self, *args, **more),
    )
    found = existing_files(table, rule, "updated")
    assert {index: file.rows for index, file in found.items()} == dict.fromkeys(range(6), 1000)
    assert len(opened) == 3
    for first, stop, manifests in ((0, 1, 1), (1, 3, 2), (3, 4, 1), (4, 6, 1), (6, 9, 0)):
        opened.clear()
        assert sorted(index for index, _ in live_files(table, rule, Span(first, stop))) == [*range(first, min(stop, 6))]
        assert len(opened) == manifests, (first, stop)
