"""Mirrors that are cut into partitions: rows that move from one to another, and cuts that change."""

from datetime import UTC, datetime

import pytest
from pyiceberg.transforms import BucketTransform

from activities.core.faults import BadConfig
from support.mirrors import Row, gone, opened, put, update

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
