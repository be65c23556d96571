"""A fleet is upgraded while it works: what is under way goes on with the new version's code, nothing lost or twice."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

from deploy.local.parts import WORKER_READY, program
from support.backfills import start_backfill
from support.evidence import make_slow, source_rows, table_rows
from support.fleet import eventually
from support.mirrors import gone, opened, put, update

ROOT = Path(__file__).parents[2]
ROOMS = ("activities", "deploy", "proto", "starter", "worker", "workflows")
PATCHED = {
    # Where a loop stands in the middle of its work when its worker is upgraded: both gain a command there.
    "export_table.py": "        request.uploaded = 0\n        vanished =",
    "merge_mirror.py": "        asked, began = self._asked, workflow.time()\n",
}
PATCH = "        if workflow.patched('looks-again'):\n            await queues_of('{}')\n"
KEYS = 100


def next_version(directory, environment):
    """The code of the version after this one: loops have one more command, behind `workflow.patched`."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, directory / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name, place in PATCHED.items():
        file = directory / "workflows" / name
        text = file.read_text()
        assert text.count(place) == 1
        file.write_text(text.replace(place, PATCH.format(environment) + place))
    return os.pathsep.join([str(directory), str(directory / "proto")])


async def make_current(fleet, build):
    """What an operator types once workers of a version run."""
    process = await asyncio.create_subprocess_exec(
        *(str(program("temporal")), "worker", "deployment", "set-current-version", "--yes"),
        *("--deployment-name", fleet.name, "--build-id", build),
        *("--address", f"127.0.0.1:{fleet.stack.ports['temporal']}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode == 0 or said.decode()


async def becomes_current(fleet, build):
    """The server hears of a version's queues one after the other, and refuses until it knows those of the last one."""
    await eventually(lambda: current(fleet, build), every=0.5)


async def current(fleet, build):
    return await make_current(fleet, build) is True


def ready(fleet):
    return sum(WORKER_READY.encode() in log.read_bytes() for log in fleet.directory.glob("worker-*.log"))


async def lived(fleet, workflow_id):
    """Which builds took steps of a loop, whether the patch was met, and why tasks failed, over all its runs."""
    builds, patched, failed = set(), False, []
    async for run in fleet.temporal.list_workflows(f"WorkflowId = '{workflow_id}'"):
        handle = fleet.temporal.get_workflow_handle(run.id, run_id=run.run_id)
        async for event in handle.fetch_history_events():
            step = event.workflow_task_completed_event_attributes
            if event.HasField("workflow_task_completed_event_attributes"):
                builds.add(step.deployment_version.build_id or step.worker_deployment_version.rpartition(".")[2])
            patched |= event.HasField("marker_recorded_event_attributes")
            if event.HasField("workflow_task_failed_event_attributes"):
                failed.append(event.workflow_task_failed_event_attributes.failure.message)
    return builds, patched, failed


async def test_a_fleet_is_upgraded_in_the_middle_of_a_backfill_and_a_merge_and_nothing_is_lost_or_done_twice(
    fleet, tmp_path
):
    fleet.set_export(parallel_partitions=1, partitions_per_commit=1, pages_per_run=2)
    await fleet.make_days(days=8, rows=50)
    table = await make_slow(fleet)
    fleet.add_table("daily", table, "at", network={"start_date": "2024-03-13", "end_date": "2024-03-20"})
    versioned = {"ICEFLEET_DEPLOYMENT": fleet.name, "ICEFLEET_GRACE": "1"}
    async with opened(fleet) as mirror:
        pair = {"changelog_table": mirror.config.changelog, "mirror_table": mirror.config.mirror}
        fleet.set_mirrors({**pair, "primary_keys": ["id"], "batch_size": 5, "merge_interval": "1s"})
        for turn in range(3):
            await mirror.write(*((put, update)[turn > 0](key, name=f"{key} {turn}") for key in range(KEYS)))
        await mirror.write(*(gone(key) for key in range(0, KEYS, 2)))
        code = {"PYTHONPATH": next_version(tmp_path / "next", fleet.name)}
        with (
            fleet.worker_process(variables={**versioned, "APP_VERSION": "1"}) as old,
            fleet.worker_process(variables={**versioned, **code, "APP_VERSION": "2"}),
        ):
            await eventually(lambda: ready(fleet) == 2)
            await becomes_current(fleet, "1")
            asked = await start_backfill(fleet, table)
            await eventually(lambda: len(fleet.files(table)) >= 2 and commits(fleet, mirror) >= 2)
            await becomes_current(fleet, "2")
            under_way = len(fleet.files(table)) < 8 and sorted(mirror.read("id", "name")) != expected()
            old.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(old.wait, 20) == 0
            report = await asyncio.wait_for(asked.result(), 120)
            await eventually(lambda: sorted(mirror.read("id", "name")) == expected())
            mirror.check()
    assert under_way, "all was over before the upgrade"
    assert (report.status, report.exported, report.rows) == ("complete", 8, 400)
    assert [rows for _, rows in fleet.files(table)] == [50] * 8
    assert table_rows(fleet, table) == await source_rows(fleet)
    # A run that has passed the place without the new command goes on without it; the next run has it.
    assert await lived(fleet, f"export/{fleet.name}/{fleet.network}.{table}") == ({"1", "2"}, True, [])
    assert await lived(fleet, f"merge/{fleet.name}/{mirror.config.mirror}") == ({"1", "2"}, False, [])


def commits(fleet, mirror):
    """How many merges there were."""
    table = fleet.load(mirror.config.mirror)
    return 0 if table is None else len(table.snapshots())


def expected():
    return [(key, f"{key} 2") for key in range(1, KEYS, 2)]
