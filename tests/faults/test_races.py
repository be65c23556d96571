"""Two requests, two loops, many threads: one file per partition, one event per snapshot."""

import asyncio
import contextlib
from collections import Counter

import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from activities.core.commits import NewFile
from activities.core.empties import known_empty
from activities.core.partitions import index_of
from activities.core.tables import PartitionRule
from activities.lake.commit import commit_files
from activities.lake.files import data_file
from activities.partition import stored_footer
from support.direct import Hands, metadata_files
from support.evidence import source_rows, table_rows
from support.fleet import eventually
from support.gate import gate_at
from worker.lake import open_lake
from worker.running import running
from worker.serving import EXPORTS, export_rooms
from worker.wiring import open_export

DAYS = 4
ROWS = 20
WRITERS = 6


async def assert_one_of_each(fleet):
    """One file per partition, every row once, and every snapshot and partition in exactly one event, in order."""
    days = sorted(f"2024/3/{21 - day}.parquet" for day in range(1, DAYS + 1))
    assert [name for name, _ in fleet.files()] == days
    assert table_rows(fleet) == await source_rows(fleet)
    snapshots = [str(snapshot.snapshot_id) for snapshot in fleet.table().snapshots()]
    events = await fleet.events()
    assert [event["snapshotId"] for event in events] == snapshots
    assert [event["_id"] for event in events] == [f"{fleet.table().metadata.table_uuid}-{one}" for one in snapshots]
    announced = Counter(partition["partition"] for event in events for partition in event["partitions"])
    assert announced == {f"2024-03-{21 - day}": 1 for day in range(1, DAYS + 1)}


async def test_two_requests_for_the_same_range_that_race_leave_one_file_per_partition_and_one_event_each(fleet):
    await fleet.make_days(days=DAYS, rows=ROWS)
    asked = {"from_": "2024-03-17", "to": "2024-03-20"}
    async with fleet.worker():
        one, other = await asyncio.gather(fleet.request(**asked), fleet.request(**asked))
        await fleet.loop_ended()
    assert sorted([one.status, other.status]) == ["complete", "nothing_to_do"]
    assert one.exported + other.exported == DAYS
    assert one.rows + other.rows == DAYS * ROWS
    await assert_one_of_each(fleet)


@contextlib.asynccontextmanager
async def second_namespace(fleet, name="other"):
    """A client of another namespace of the same Temporal, in which the table's loop id is free."""
    address = f"127.0.0.1:{fleet.stack.ports['temporal']}"
    command = await asyncio.create_subprocess_exec(
        *(str(word) for word in (temporal_program(), "operator", "namespace", "create", "-n", name)),
        *("--address", address),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await command.wait() == 0
    for attribute in ("IcefleetEnvironment", "IcefleetTable", "IcefleetNetwork"):
        command = await asyncio.create_subprocess_exec(
            *(str(temporal_program()), "operator", "search-attribute", "create", "-n", name, "--address", address),
            *("--name", attribute, "--type", "Keyword"),
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert await command.wait() == 0
    yield await Client.connect(address, namespace=name)


def temporal_program():
    from deploy.local.parts import program  # noqa: PLC0415 - only this test starts a program itself

    return program("temporal")


async def test_two_loops_forced_to_run_at_once_leave_one_file_per_partition_and_one_event_per_snapshot(fleet):
    """The id that keeps a second loop away is worth nothing in another namespace."""
    await fleet.make_days(days=DAYS, rows=ROWS)
    fleet.set_export(partitions_per_commit=2)
    async with contextlib.AsyncExitStack() as stack:
        elsewhere = await stack.enter_async_context(second_namespace(fleet))
        context = await stack.enter_async_context(open_export(fleet.settings(), fleet.name, elsewhere))
        await stack.enter_async_context(fleet.worker())
        workers = fleet.workers(EXPORTS, export_rooms(context), temporal=elsewhere)
        await stack.enter_async_context(running(workers))
        payload = {"environment": fleet.name, "network": fleet.network, "table": "events"}

        async def started():
            with contextlib.suppress(RPCError):  # a namespace takes a moment to be known
                return await elsewhere.start_workflow(
                    "RequestExport", payload, id=f"second-{fleet.name}", task_queue=fleet.queue
                )

        # Both loops have planned the same partitions before either of them may write.
        async with gate_at("before-upload") as gate:
            one = await fleet.start()
            other = await eventually(started)
            await eventually(lambda: gate.passed >= 4)
        reports = [await asyncio.wait_for(one.result(), 60), await asyncio.wait_for(other.result(), 60)]
        await fleet.loop_ended()
        await eventually(lambda: events_of(fleet, count=2))
    first, second = reports[0], reports[1]
    assert first.status == second["status"] == "complete"
    assert first.exported + second["exported"] == DAYS
    assert first.already_there + second["already_there"] == DAYS
    await assert_one_of_each(fleet)


async def events_of(fleet, count):
    return len(await fleet.events()) >= count


async def test_two_pages_that_commit_the_same_partitions_at_once_leave_one_file_for_each(fleet):
    await fleet.make_days(days=DAYS, rows=ROWS)
    async with fleet.context() as one, fleet.context() as other:
        hands = [Hands(fleet, one), Hands(fleet, other)]
        plans = [await hand.plan() for hand in hands]
        exported = await asyncio.gather(*(h.export_all(plan) for h, plan in zip(hands, plans, strict=True)))
        assert exported[0][0].key == exported[1][0].key
        reports = await asyncio.gather(*(hand.commit(files) for hand, files in zip(hands, exported, strict=True)))
        announced = await asyncio.gather(*(hand.announce() for hand in hands), return_exceptions=True)
    assert sorted(report.committed for report in reports) == [0, DAYS]
    assert sorted(report.already_there for report in reports) == [0, DAYS]
    assert any(not isinstance(report, BaseException) for report in announced)
    await assert_one_of_each(fleet)


async def test_many_threads_that_commit_overlapping_partitions_leave_one_file_for_each(fleet):
    """Each of six writers has four neighbouring partitions of nine, under keys of its own."""
    await fleet.make_hours(hours=WRITERS + 3, rows=5)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        plan = await hands.plan(oldest_first=True)
        config = context.find_table("events", fleet.network)
        by_writer, footers = [], {}
        for writer in range(WRITERS):
            files = []
            for planned in plan.todo[writer : writer + 4]:
                index = index_of(config.partition, planned.partition)
                exported = await hands.export(planned)
                key = f"{exported.key}-{writer}"
                await context.store.create(key, await context.store.tail(exported.key, exported.bytes), "copy")
                path = context.store.path(key)
                footers[path] = await stored_footer(context, key, exported.bytes)
                files.append(NewFile(index, path, "missing"))
            by_writer.append(files)

        def describe(table, file):
            return data_file(table, config.partition, file.index, file.path, footers[file.path], "updated")

        def write(files):
            lake = open_lake(fleet.settings().environment(fleet.name))
            return commit_files(lake, f"{fleet.network}.events", config.partition, files, describe, summary={})

        commits = await asyncio.gather(*(asyncio.to_thread(write, files) for files in by_writer))
    landed = [commit for commit in commits if commit.snapshot_id is not None]
    assert sum(len(commit.plan.files) for commit in commits) == WRITERS + 3
    assert {commit.snapshot_id for commit in landed} == {one.snapshot_id for one in fleet.table().snapshots()}
    hours = [name.split(".parquet")[0] for name, _ in fleet.files()]
    assert sorted(hours) == sorted({f"2024/3/20/{hour}" for hour in range(24 - WRITERS - 3, 24)})
    assert table_rows(fleet) == await source_rows(fleet)
    assert metadata_files(fleet)[1] == set()


async def test_two_replacements_of_one_file_that_race_leave_one_of_them(fleet):
    await fleet.make_days(days=1, rows=ROWS)
    async with fleet.context() as one, fleet.context() as other:
        await Hands(fleet, one).run()
        hands = [Hands(fleet, one, request_id="one"), Hands(fleet, other, request_id="other")]
        exported = [await hand.export_all(await hand.plan(force=True)) for hand in hands]
        assert exported[0][0].key != exported[1][0].key
        reports = await asyncio.gather(*(hand.commit(files) for hand, files in zip(hands, exported, strict=True)))
    assert sorted(report.committed for report in reports) == [0, 1]
    assert len(fleet.files()) == 1
    assert len(fleet.table().snapshots()) == 2
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_loop_under_another_id_is_shown_the_door(fleet):
    await fleet.make_days(days=1, rows=1)
    payload = {"environment": fleet.name, "network": fleet.network, "table": "events"}
    async with fleet.worker():
        wrong = await fleet.temporal.start_workflow(
            "ExportTable", payload, id=f"mine-{fleet.name}", task_queue=fleet.queue
        )
        with pytest.raises(Exception, match="Workflow execution failed") as failed:
            await asyncio.wait_for(wrong.result(), 10)
    assert "RequestExport" in str(failed.value.cause)
    assert fleet.table() is None


async def test_a_file_whose_rows_came_back_before_the_commit_stays(fleet):
    await fleet.make_days(days=1, rows=10)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await hands.run()
        await fleet.run_sql(f"DELETE FROM {fleet.database}.events WHERE number >= 0")
        plan = await hands.plan(from_="2024-03-20", force=True, allow_shrink=True)
        assert [planned.reason for planned in plan.todo] == ["vanished"]
        await fleet.insert("events", "toDateTime('2024-03-20 12:00:00', 'UTC')", 7)
        report = await hands.commit([], vanished=plan.todo)
    assert (report.removed, report.snapshot_id) == (0, "")
    assert fleet.files() == [("2024/3/20.parquet", 10)]
    rule = PartitionRule("daily", "at")
    assert index_of(rule, "2024-03-20") not in known_empty(fleet.table().properties["icefleet.empty"])
