"""What others published becomes part of its table, where it lies, and the daily export goes on from there."""

import asyncio
import signal
from dataclasses import asdict

import pyarrow as pa
import pytest
from temporalio.client import WorkflowFailureError

from support.evidence import source_rows, table_rows
from support.fleet import eventually
from support.leftovers import NOON, delete_before, keys, next_second, prefix_of_table
from support.published import MILLIS, UPDATED, adopt, day_table, parquet, publish, reasons, start_adoption

DAYS = (18, 19, 20)


def day_file(fleet, day, **options):
    return {f"2024/3/{day}.parquet": parquet(day_table(fleet.network, day, **options))}


@pytest.fixture
async def published(fleet):
    """Three days at the source, under the profile of the public files, and the same as others published them."""
    await fleet.make_days(days=3, rows=10, profile="as_published")
    for day in DAYS:
        publish(fleet, day_file(fleet, day))
    return fleet


async def test_after_adopting_the_daily_export_goes_on_and_only_what_is_newer_is_exported(published):
    fleet = published
    async with fleet.worker():
        first = await adopt(fleet)
        assert (first.status, first.adopted, first.rows, first.refused) == ("complete", 3, 30, 0)
        again = await adopt(fleet)
        assert (again.status, again.adopted, again.already_there, again.snapshots) == ("complete", 0, 3, [])
        export = await fleet.request()
        assert (export.status, export.present) == ("nothing_to_do", 3)
        export = await fleet.request(from_="2024-03-18", to="2024-03-20")
        assert (export.status, export.present) == ("nothing_to_do", 3)

        await fleet.insert("events", NOON, 5, updated="2024-05-01 00:00:00", offset=900)
        export = await fleet.request()
        assert (export.status, export.stale, export.exported) == ("complete", 1, 1)
        # Our replacement is no news. The file of others that it replaced is still public, which they should know.
        after = await adopt(fleet)
        assert (after.adopted, after.already_there) == (0, 3)
        assert {key: reason for key, (reason, _) in reasons(after, fleet).items()} == {"2024/3/20.parquet": "duplicate"}
        await fleet.loop_ended()
    replaced = [key for key, _ in fleet.files() if key.startswith("2024/3/20-")]
    assert [key for key, _ in fleet.files()] == ["2024/3/18.parquet", "2024/3/19.parquet", *replaced]
    assert len(replaced) == 1
    assert len(table_rows(fleet)) == 20 + len([row for row in await source_rows(fleet) if row[0] >= 900 or row[0] < 10])
    adopted, exported = await fleet.events()
    assert [one["partition"] for one in adopted["partitions"]] == ["2024-03-18", "2024-03-19", "2024-03-20"]
    assert [one["objectKey"] for one in adopted["partitions"]] == [
        f"{prefix_of_table(fleet)}2024/3/{day}.parquet" for day in DAYS
    ]
    assert adopted["snapshotId"] == first.snapshots[0]
    assert [one["partition"] for one in exported["partitions"]] == ["2024-03-20"]


async def test_a_dry_run_says_what_would_be_refused_and_why_and_writes_nothing(fleet):
    await fleet.make_days(days=6, rows=10, profile="as_published")
    good, network = day_table(fleet.network, 20), fleet.network
    publish(
        fleet,
        {
            "2024/3/20.parquet": parquet(good),
            "2024/3/20-00c0ffee.parquet": parquet(good),
            "2024/3/19.parquet": parquet(good),
            "2024/3/18.parquet": parquet(good)[:-9],
            "2024/3/17.parquet": parquet(day_table(network, 17, extra={"legacy": pa.array(range(10))})),
            "2024/3/16.parquet": parquet(day_table("other", 16)),
            "2024/3/15.parquet": parquet(day_table(network, 15, extra={"name": pa.array([b"a"] * 10)})),
            "2024/3/14.parquet": parquet(day_table(network, 14, extra={"number": pa.array([2**63] * 10, pa.uint64())})),
            "2024/3/13.parquet": parquet(day_table(network, 13).slice(0, 0)),
            "2024/03/12.parquet": parquet(day_table(network, 12)),
            "2024/3/21.parquet": parquet(day_table(network, 21)),
            "2024/2/29.parquet": b"not looked into",
            "metadata/snap-1.avro": b"of the public copy",
        },
    )
    expected = {
        "2024/03/12.parquet": "no_partition",
        "2024/2/29.parquet": "unexpected",
        "2024/3/13.parquet": "empty",
        "2024/3/14.parquet": "value",
        "2024/3/15.parquet": "type",
        "2024/3/16.parquet": "wrong_network",
        "2024/3/17.parquet": "unknown_column",
        "2024/3/18.parquet": "unreadable",
        "2024/3/19.parquet": "wrong_partition",
        "2024/3/20-00c0ffee.parquet": "replacement",
        "2024/3/21.parquet": "unexpected",
    }
    async with fleet.worker():
        dry = await adopt(fleet, dry_run=True)
        assert {key: reason for key, (reason, _) in reasons(dry, fleet).items()} == expected
        assert dry.refused == len(expected)
        assert (dry.status, dry.adopted, dry.rows) == ("dry_run", 1, 10)
        assert fleet.table() is None
        code, said, errors = await fleet.command("adopt", "events", "-n", fleet.network)
        assert (code, errors) == (3, "")
        assert f"1 files with 10 rows became part of {fleet.network}.events, 11 refused (1 empty" in said
        unfolded = "".join(said.split())
        for one in dry.refusals:
            assert f"{one.key}:{one.reason}:{''.join(one.why.split())}" in unfolded
        real = await adopt(fleet)
        ran = {"status": "partial", "message": real.message, "snapshots": [], "rows": 0, "bytes": 0}
        assert asdict(real) == asdict(dry) | ran | {"adopted": 0, "already_there": 1, "lacking": {}}
        ranged = await adopt(fleet, from_="2024-03-19", to="2024-03-20")
        assert (ranged.already_there, ranged.not_asked, ranged.refused) == (1, 8, 3)
        # What nobody adopts is exported, beside it when its key is taken.
        export = await fleet.request(from_="2024-03-15", to="2024-03-20")
        assert (export.status, export.exported, export.present) == ("complete", 5, 1)
        held = await adopt(fleet, from_="2024-03-19", to="2024-03-19")
        assert reasons(held, fleet)["2024/3/19.parquet"][0] == "duplicate"
        await fleet.loop_ended()
    assert table_rows(fleet) == [row for row in await source_rows(fleet) if row[0] < 60]


async def test_an_adoption_that_was_interrupted_goes_on_where_the_table_is_when_it_is_asked_for_again(fleet):
    fleet.set_export(partitions_per_plan=1)
    await fleet.make_days(days=3, rows=10, profile="as_published")
    for day in DAYS:
        publish(fleet, day_file(fleet, day))
    with fleet.worker_process(failpoint="after-commit:2") as process:
        first = await start_adoption(fleet)
        assert await asyncio.wait_for(asyncio.to_thread(process.wait), 60) == -signal.SIGKILL
    assert len(fleet.files()) == 2
    for left in (first, fleet.loop()):
        await left.terminate("its worker died")
    async with fleet.worker():
        report = await adopt(fleet)
        await fleet.loop_ended()
    assert (report.status, report.adopted, report.already_there, report.refused) == ("complete", 1, 2, 0)
    assert fleet.files() == [(f"2024/3/{day}.parquet", 10) for day in DAYS]
    assert len(await eventually(lambda: announced(fleet, 3))) == 3


async def announced(fleet, count):
    events = await fleet.events()
    return events if len(events) >= count else []


async def test_files_of_others_older_than_the_line_of_orphans_are_adopted_and_never_deleted(fleet):
    fleet.set_export(orphan_age_seconds=1)
    await fleet.make_days(days=3, rows=10, profile="as_published")
    async with fleet.worker() as context:
        await fleet.request(from_="2024-03-18", to="2024-03-18")
        publish(fleet, day_file(fleet, 19))
        ours = {"icefleet-recipe": "of an attempt that died"}
        publish(fleet, day_file(fleet, 20), **ours)
        publish(fleet, {"2024/3/1-00c0ffee.parquet": b"to be deleted"}, **ours)
        line = await next_second(context)
        page = await delete_before(fleet, context, line)
        assert (page.deleted, page.foreign) == (2, 1)
        publish(fleet, day_file(fleet, 20), **ours)
        report = await adopt(fleet, from_="2024-03-19")
        assert (report.status, report.adopted) == ("complete", 2), report
        page = await delete_before(fleet, context, await next_second(context))
        assert (page.deleted, page.foreign) == (0, 0)
    assert keys(fleet) == {f"2024/3/{day}.parquet" for day in DAYS}


async def test_a_redacted_column_that_shows_more_keeps_its_file_out_until_somebody_says_so(published):
    fleet = published
    fleet.add_table(
        "daily", "events", "at", network={"end_date": "2024-03-20"}, profile="as_published", redacted_columns=["name"]
    )
    async with fleet.worker():
        report = await adopt(fleet)
        assert (report.status, report.reasons, report.adopted) == ("partial", {"unredacted": 3}, 0)
        assert fleet.table() is None
        report = await adopt(fleet, unredacted=["name"])
        assert (report.status, report.adopted) == ("complete", 3)


async def test_a_request_that_cannot_be_is_refused_at_the_door(published):
    fleet = published
    async with fleet.worker():
        for fields, says in (
            ({"extra_columns": ["peer_id"]}, "peer_id may say who or where somebody is"),
            ({"unredacted": ["number"]}, "does not redact number"),
            ({"from_": "2024-3-1"}, "is not a date"),
            ({"until": "2024-03-01"}, "unknown field 'until'"),
        ):
            with pytest.raises(WorkflowFailureError) as failed:
                await adopt(fleet, **fields)
            assert failed.value.cause.type == "BadRequest"
            assert says in failed.value.cause.message


async def test_chunks_are_adopted_up_to_the_head_and_found_again_by_their_bounds(fleet):
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.blocks (updated DateTime, block UInt64, network String) "
        "ENGINE = ReplacingMergeTree(updated) ORDER BY (network, block)"
    )
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.blocks SELECT toDateTime('2024-04-01', 'UTC'), number, '{fleet.network}' "
        "FROM numbers(3500)"
    )
    fleet.add_table("chunked", "blocks", "block", partition={"coarse_chunks": 2}, profile="as_published")
    files = {}
    for start in (0, 1000, 3000):
        columns = {
            "updated": pa.array([UPDATED] * 1000, MILLIS),
            "block": pa.array(range(start, start + 1000), pa.uint64()),
            "network": pa.array([fleet.network] * 1000),
        }
        files[f"1000/{start}.parquet"] = parquet(pa.table(columns), write_statistics=["block"])
    publish(fleet, files, table="blocks")
    async with fleet.worker():
        report = await adopt(fleet, "blocks")
        assert (report.adopted, report.rows, report.reasons) == (2, 2000, {"open": 1})
        export = await fleet.request("blocks", from_=0, to=2999)
        assert (export.status, export.present, export.exported) == ("complete", 2, 1)
        assert (await adopt(fleet, "blocks", from_=0, to=1999)).already_there == 2
    assert fleet.files("blocks") == [(f"1000/{start}.parquet", 1000) for start in (0, 1000, 2000)]
