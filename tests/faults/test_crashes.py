"""A worker is killed as a power cut would: another one finishes, and nobody can tell from the result.

Every crash has a fleet of its own, and all of them happen at once: what takes time is waiting for heartbeats to fail
to come.
"""

import asyncio
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from activities.contracts.export import ExportReport
from support.evidence import Rows, make_bulky, objects, open_uploads, source_rows, table_rows
from support.fleet import Fleet

LETHAL = [
    "before-upload",
    "during-upload",
    "after-upload",
    "before-commit",
    "after-commit",
    "before-announce",
    "after-announce",
]
ROWS = 8_000
"""Rows of a day, of which one does not fit into one part of an upload."""
PATIENCE = 120
"""Seconds that only keep a test from hanging: seven workers start at once, on a machine that may have more to do."""


@dataclass(frozen=True)
class Aftermath:
    """What was there when the worker had died, and when another had finished."""

    exit_code: int
    objects_left: dict[str, tuple[str, str]]
    uploads_left: list[str]
    report: ExportReport
    objects: dict[str, tuple[str, str]]
    files: list[tuple[str, int]]
    source: Rows
    table: Rows
    snapshots: list[str]
    events: list[dict[str, Any]]


async def crash(stack: Any, directory: Path, failpoint: str) -> Aftermath:
    async with Fleet(stack, directory, export={"part_size_bytes": 5 * 2**20, "parallel_partitions": 1}) as fleet:
        table = await make_bulky(fleet, days=2, rows=ROWS)
        with fleet.worker_process(failpoint=failpoint) as process:
            request = await fleet.start(table)
            exit_code = await asyncio.wait_for(asyncio.to_thread(process.wait), PATIENCE)
        objects_left, uploads_left = objects(fleet), open_uploads(fleet)
        async with fleet.worker():
            report = await asyncio.wait_for(request.result(), PATIENCE)
            await fleet.loop_ended(table)
        return Aftermath(
            exit_code=exit_code,
            objects_left=objects_left,
            uploads_left=uploads_left,
            report=report,
            objects=objects(fleet),
            files=fleet.files(table),
            source=await source_rows(fleet, table, "text"),
            table=table_rows(fleet, table, "text"),
            snapshots=[str(snapshot.snapshot_id) for snapshot in fleet.table(table).snapshots()],
            events=await fleet.events(table),
        )


@pytest.fixture(scope="module")
async def aftermaths(stack: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Aftermath | BaseException]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
        directory = tmp_path_factory.mktemp("crashes")
        ended = await asyncio.gather(
            *(crash(stack, directory / failpoint, failpoint) for failpoint in LETHAL), return_exceptions=True
        )
    return dict(zip(LETHAL, ended, strict=True))


@pytest.fixture
def aftermath(request: pytest.FixtureRequest, aftermaths: dict[str, Aftermath | BaseException]) -> Aftermath:
    found = aftermaths[request.param]
    if isinstance(found, BaseException):
        raise found
    assert found.exit_code == -signal.SIGKILL
    return found


@pytest.mark.parametrize("aftermath", LETHAL, indirect=True)
def test_after_a_kill_every_partition_is_there_exactly_once_with_the_rows_of_the_source(aftermath):
    assert aftermath.report.status == "complete"
    assert aftermath.report.exported + aftermath.report.already_there == 2
    assert aftermath.files == [("2024/3/19.parquet", ROWS), ("2024/3/20.parquet", ROWS)]
    assert aftermath.table == aftermath.source


@pytest.mark.parametrize("aftermath", LETHAL, indirect=True)
def test_after_a_kill_every_snapshot_is_announced_once(aftermath):
    assert len(aftermath.snapshots) == 1
    assert [event["snapshotId"] for event in aftermath.events] == aftermath.snapshots


@pytest.mark.parametrize("aftermath", LETHAL, indirect=True)
def test_after_a_kill_no_object_changes_and_none_is_left_over(aftermath):
    assert aftermath.objects_left.items() <= aftermath.objects.items()
    assert len(aftermath.objects) == 2


@pytest.mark.parametrize("aftermath", ["during-upload"], indirect=True)
def test_an_upload_whose_worker_was_killed_never_becomes_an_object(aftermath):
    assert aftermath.objects_left == {}
    assert len(aftermath.uploads_left) == 1
