"""Mirrors that are cut into partitions: rows that move from one to another, and cuts that change."""

from datetime import UTC, datetime

import pytest
from pyiceberg.transforms import BucketTransform

from support.mirrors import gone, opened, put, update

FIELDS = {"id": "long", "region": "string", "at": "timestamptz", "name": "string"}


def at(day):
    return datetime(2024, 3, day, tzinfo=UTC)


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
