"""An activity that finishes after its replacement has committed changes no byte of any committed object, and no row."""

import asyncio

import pytest

from support.direct import COMMIT, Hands, metadata_files
from support.evidence import make_bulky, objects, open_uploads, source_rows, table_rows
from support.faultproxy import Hold, HttpFaults

ROWS = 20


@pytest.fixture
async def slow_s3(fleet):
    async with HttpFaults(fleet.stack.ports["s3"]) as proxy:
        yield proxy


@pytest.fixture
async def tables(fleet):
    """`events` with one day, and `bulky` with one that takes an upload in parts."""
    await fleet.make_days(days=1, rows=ROWS)
    await make_bulky(fleet, rows=12_000)


@pytest.fixture
async def zombie(fleet, slow_s3, tables):
    """Hands whose way to the object store can be held; everybody else's is free."""
    fleet.point(s3=slow_s3.port)
    async with fleet.context() as context:
        fleet.point(s3=fleet.stack.ports["s3"])
        yield Hands(fleet, context, request_id="zombie")


@pytest.fixture
async def replacement(fleet, zombie):
    async with fleet.context() as context:
        yield Hands(fleet, context, request_id="replacement")


def state_of(fleet, table="events"):
    """What nobody may change: every object by tag and time, the live files and rows, and the snapshots."""
    snapshots = [snapshot.snapshot_id for snapshot in fleet.table(table).snapshots()]
    return objects(fleet), fleet.files(table), snapshots


async def test_a_zombie_that_creates_its_object_after_the_commit_changes_nothing(fleet, zombie, replacement, slow_s3):
    [planned] = (await zombie.plan()).todo
    held = slow_s3.on(Hold(), method="PUT", path=r"/20\.parquet")
    exporting = asyncio.create_task(zombie.export(planned))
    await asyncio.wait_for(held.struck.wait(), 10)
    await replacement.run()
    before, rows = state_of(fleet), table_rows(fleet)
    held.fault.released.set()
    late = await exporting
    report = await zombie.commit([late])
    assert (late.adopted, report.committed, report.already_there, report.snapshot_id) == (True, 0, 1, "")
    assert state_of(fleet) == before
    assert table_rows(fleet) == rows == await source_rows(fleet)


async def test_a_zombie_that_completes_its_upload_in_parts_after_the_commit_changes_nothing(
    fleet, zombie, replacement, slow_s3
):
    zombie.table = replacement.table = "bulky"
    [planned] = (await zombie.plan()).todo
    held = slow_s3.on(Hold(), method="POST", path=r"/20\.parquet\?uploadId=")
    exporting = asyncio.create_task(zombie.export(planned))
    await asyncio.wait_for(held.struck.wait(), 20)
    await replacement.run()
    before = state_of(fleet, "bulky")
    held.fault.released.set()
    report = await zombie.commit([await exporting])
    assert (report.committed, report.already_there) == (0, 1)
    assert state_of(fleet, "bulky") == before
    assert open_uploads(fleet) == []


async def test_a_zombie_with_older_rows_than_its_replacement_changes_no_row(fleet, zombie, replacement, slow_s3):
    [planned] = (await zombie.plan()).todo
    held = slow_s3.on(Hold(), method="PUT", path=r"/20\.parquet")
    exporting = asyncio.create_task(zombie.export(planned))
    await asyncio.wait_for(held.struck.wait(), 10)
    await fleet.insert(
        "events", "toDateTime('2024-03-20 12:00:00', 'UTC')", 5, updated="2024-05-01 00:00:00", offset=900
    )
    await replacement.run()
    committed, files, snapshots = state_of(fleet)
    held.fault.released.set()
    ended = await asyncio.gather(exporting, return_exceptions=True)
    for late in ended:
        if not isinstance(late, BaseException):
            assert (await zombie.commit([late])).committed == 0
    assert committed.items() <= objects(fleet).items()
    assert state_of(fleet)[1:] == (files, snapshots)
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_zombie_that_replaces_a_file_after_a_newer_replacement_changes_no_row(fleet, zombie, replacement):
    await replacement.run()
    await fleet.insert(
        "events", "toDateTime('2024-03-20 12:00:00', 'UTC')", 5, updated="2024-05-01 00:00:00", offset=900
    )
    late = await zombie.export_all(await zombie.plan())
    await fleet.insert(
        "events", "toDateTime('2024-03-20 12:00:00', 'UTC')", 5, updated="2024-05-02 00:00:00", offset=950
    )
    assert (await replacement.run()).committed == 1
    before = state_of(fleet)
    report = await zombie.commit(late)
    assert (report.committed, report.already_there) == (0, 1)
    assert state_of(fleet) == before
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_zombie_whose_commit_arrives_after_the_replacement_s_is_refused_and_leaves_nothing(fleet, replacement):
    async with HttpFaults(fleet.stack.ports["catalog"]) as catalog:
        fleet.point(catalog=catalog.port)
        async with fleet.context() as context:
            zombie = Hands(fleet, context)
            exported = await zombie.export_all(await zombie.plan())
            held = catalog.on(Hold(), **COMMIT)
            committing = asyncio.create_task(zombie.commit(exported))
            await asyncio.wait_for(held.struck.wait(), 10)
            await replacement.run()
            before = state_of(fleet)
            held.fault.released.set()
            report = await committing
    assert (report.committed, report.already_there) == (0, 1)
    assert state_of(fleet) == before
    assert metadata_files(fleet)[1] == set()
