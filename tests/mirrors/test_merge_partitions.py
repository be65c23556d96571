"""Mirrors that are cut into partitions: rows that move from one to another, and cuts that change."""

import io
from datetime import UTC, datetime
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.transforms import BucketTransform, IdentityTransform

from activities.core.faults import BadConfig
from activities.lake.live import live_files
from activities.lake.mirrorfacts import mirror_facts
from support.mirrors import Row, gone, opened, put, truncated, update

FIELDS = {"id": "long", "region": "string", "at": "timestamptz", "name": "string"}


def at(day):
    return datetime(2024, 3, day, tzinfo=UTC)


async def test_another_partition_in_config_is_refused_until_the_table_is_cut_so_too(fleet):
    async with opened(fleet, FIELDS, partition=(("region", "identity"),), schema="permissive") as mirror:
        await mirror.write(put(1, region="eu", name="a"))
        await mirror.merge()
        mirror.configure(partition=(("id", "bucket[2]"),))
        await mirror.write(put(2, region="us", name="b"))
        with pytest.raises(BadConfig, match=r"by region \(identity\), and by id \(bucket\[2\]\) in mirrors.yaml"):
            await mirror.merge()
        with mirror.table().update_spec() as changing:
            changing.add_field("id", BucketTransform(2), "id_bucket")
        with pytest.raises(BadConfig, match=r"by region \(identity\), id \(bucket\[2\]\), and by id"):
            await mirror.merge()
        # Of a column that the changelog has no more config cannot say anything.
        with mirror.changelog().update_schema() as update_:
            update_.delete_column("region")
        await mirror.write(Row("insert", {"id": 3, "name": "c"}))
        await mirror.merge()
        assert mirror.read("id", "region", "name") == [(1, "eu", "a"), (2, None, "b"), (3, None, "c")]


@pytest.mark.parametrize("partition", [(("region", "identity"),), (("at", "day"), ("id", "bucket[3]"))])
async def test_an_update_that_changes_the_partition_moves_the_row_case_44(fleet, partition):
    async with opened(fleet, FIELDS, partition=partition) as mirror:
        await mirror.write(*(put(key, region="eu", at=at(1), name="a") for key in range(6)), put(9, name="nowhere"))
        await mirror.merge()
        await mirror.write(update(1, region="us", at=at(2), name="b"), update(9, region="us", at=at(1), name="b"))
        await mirror.write(update(2, region=None, at=None, name="b"), gone(3))
        report = await mirror.merge()
        assert (report.upserted, report.deleted) == (3, 1)
        mirror.check()
        mirror.check_index()
        # Each delete file lies in the partition of the file whose rows it deletes.
        files = {one["file_path"]: one["partition"] for one in mirror.table().inspect.data_files().to_pylist()}
        deletes = mirror.table().inspect.delete_files().to_pylist()
        assert deletes
        assert all(one["partition"] in files.values() for one in deletes)
        assert len(mirror.by_all_readers()) == 6


async def test_a_partition_spec_that_somebody_changed_is_used_from_then_on_and_old_files_stay_case_45(fleet):
    async with opened(fleet, FIELDS, partition=(("region", "identity"),)) as mirror:
        await mirror.write(*(put(key, region="eu", at=at(1), name="a") for key in range(6)))
        await mirror.merge()
        with mirror.table().update_spec() as changing:
            changing.remove_field("region")
            changing.add_field("id", BucketTransform(2), "id_bucket")
        await mirror.write(update(1, region="us", at=at(2), name="b"), gone(2), put(10, region="eu", name="c"))
        await mirror.merge()
        await mirror.write(update(1, region="eu", at=at(2), name="d"), update(10, region="us", name="d"), gone(3))
        report = await mirror.merge()
        assert (report.upserted, report.deleted) == (2, 1)
        mirror.check()
        mirror.check_index()
        assert {one["spec_id"] for one in mirror.table().inspect.data_files().to_pylist()} == {0, 1}
        assert len(mirror.by_all_readers()) == 5


A, B = UUID(int=1).bytes, UUID(int=2**127).bytes


async def cut_by(mirror, column):
    """As others may cut a mirror by a column that config may not name."""
    await mirror.merge()
    with mirror.table().update_spec() as changing:
        changing.add_field(column, IdentityTransform(), column)


async def test_config_names_no_partition_in_which_engines_would_not_find_all_rows(fleet):
    fields = {"id": "long", "tenant": "uuid", "amount": "decimal(9, 2)", "x": "float"}
    cut = (("tenant", "bucket[4]"), ("amount", "truncate[10]"), ("x", "identity"))
    async with opened(fleet, fields, partition=cut) as mirror:
        with pytest.raises(BadConfig) as told:
            await mirror.merge()
        for part in (
            "tenant: DuckDB or ClickHouse would not",
            "by truncate[10] of decimal(9, 2)",
            "by identity of float",
        ):
            assert part in str(told.value)


async def test_rows_of_partitions_that_are_uuids_are_found_again_and_their_files_stay_together(fleet):
    async with opened(fleet, {"id": "long", "tenant": "uuid", "name": "string"}) as mirror:
        await cut_by(mirror, "tenant")
        await mirror.write(*(put(key, tenant=(A, B, None)[key % 3], name="a") for key in range(9)))
        await mirror.merge()
        # Manifests with what was there and with what is new, in one commit that takes several pieces.
        mirror.configure(batch_rows=2)
        await mirror.write(truncated(), *(put(key, tenant=(A, B, None)[key % 2], name="b") for key in range(5)))
        await mirror.write(update(0, tenant=B, name="c"), gone(1), update(2, tenant=A, name="c"))
        await mirror.drain()
        await mirror.compact(thorough=True)
        assert mirror.read("id", "name") == [(0, "c"), (2, "c"), (3, "b"), (4, "b")]
        mirror.check_index()
        assert {file.data.partition[0] for file in live_files(mirror.table()).values()} == {
            UUID(bytes=A),
            UUID(bytes=B),
        }


async def test_rows_of_days_that_python_cannot_say_are_merged_and_announced(fleet):
    async with opened(fleet, {"id": "long", "at": "timestamp"}, partition=(("at", "day"),)) as mirror:
        table, far = mirror.changelog(), 10**18
        shape = schema_to_pyarrow(table.schema(), include_field_ids=False)
        lines = [mirror._line(row) for row in mirror.numbered([put(1, at=far), put(2, at=0), put(3, at=-far // 10)])]
        columns = [
            pa.array([line.get(one.name) for line in lines], pa.int64() if one.name == "at" else one.type).cast(
                one.type
            )
            for one in shape
        ]
        sink, path = io.BytesIO(), f"{table.location()}/data/far.parquet"
        pq.write_table(pa.Table.from_arrays(columns, schema=shape), sink, write_statistics=False)
        with table.io.new_output(path).create() as out:
            out.write(sink.getvalue())
        table.add_files([path])
        await mirror.merge()
        made = mirror.table()
        assert sorted(mirror_facts(made, made.current_snapshot())[1]) == [
            f"at_day={-far // 10 // 86_400_000_000}",
            f"at_day={far // 86_400_000_000}",
            "at_day=1970-01-01",
        ]
        assert sorted(made.scan().to_arrow().column("at").cast(pa.int64()).to_pylist()) == [-far // 10, 0, far]
        mirror.check_index()


async def test_a_partition_is_called_so_that_all_engines_read_its_manifests(fleet):
    fields = {"id": "long", "größe": "string", "1 x": "int"}
    async with opened(fleet, fields, partition=(("größe", "identity"), ("1 x", "bucket[2]"))) as mirror:
        await mirror.write(*(put(key, **{"größe": "äß"[key % 2], "1 x": key}) for key in range(4)))
        await mirror.merge()
        assert [field.name for field in mirror.table().spec().fields] == ["gr_xF6_xDFe", "_x31_x20x_bucket"]
        assert len(mirror.by_all_readers()) == 4


async def test_rows_of_a_partition_that_is_no_number_stay_deleted(fleet):
    nan, fields = float("nan"), {"id": "long", "x": "double", "name": "string"}
    async with opened(fleet, fields) as mirror:
        await cut_by(mirror, "x")
        await mirror.write(*(put(key, x=(nan, 1.5)[key % 2], name="a") for key in range(6)))
        await mirror.merge()
        await mirror.write(gone(0), gone(1))
        await mirror.merge()
        await mirror.write(gone(2), put(6, x=nan, name="b"))
        await mirror.merge()
        await mirror.compact(thorough=True)
        assert mirror.read("id") == [(3,), (4,), (5,), (6,)]
        mirror.check_index()
        assert len(mirror.by_all_readers()) == 4
