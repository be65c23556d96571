"""Every stub of the seam has one implementation, of the same name and form, and workers register it."""

import inspect
from dataclasses import replace
from typing import Any, get_type_hints

import pytest
from temporalio import activity
from temporalio.worker import Worker

from activities.cdc import Cdc
from activities.contracts import cdc as cdc_contract
from activities.contracts import export as contract
from activities.contracts import mirrors as mirror_contract
from activities.contracts.cdc import CdcActivities
from activities.contracts.export import ExportActivities
from activities.contracts.mirrors import MirrorActivities
from activities.contracts.verify import VERIFY_WORKFLOW, VerifyActivities
from activities.export import Export
from activities.mirrors import Mirrors
from activities.verify import Verify
from worker import main as worker_main
from worker.config_cdc import Pipeline
from worker.config_mirrors import Mirror
from worker.main import open_workers
from workflows.adopt_files import AdoptFiles
from workflows.backfill import Backfill
from workflows.delete_orphans import DeleteOrphans
from workflows.export_due import ExportDue
from workflows.export_table import ExportTable
from workflows.maintain_tables import MaintainTables
from workflows.request_export import RequestExport
from workflows.upkeep import Upkeep
from workflows.verify_table import VerifyTable

ROOMS = {ExportActivities: Export, VerifyActivities: Verify, CdcActivities: Cdc, MirrorActivities: Mirrors}
CDC = {name for name in vars(CdcActivities) if name[0] != "_"}
MIRRORS = {name for name in vars(MirrorActivities) if name[0] != "_"}
STUBS = {
    name: (stub, room)
    for seam, room in ROOMS.items()
    for name, stub in vars(seam).items()
    if callable(stub) and name[0] != "_"
}


def activity_name(method: Any) -> str | None:
    definition = activity._Definition.from_callable(method)
    return definition.name if definition else None


def test_every_stub_is_an_activity_under_its_own_name():
    assert STUBS, "the contract declares no activity"
    assert {name: activity_name(stub) for name, (stub, _) in STUBS.items()} == {name: name for name in STUBS}


@pytest.mark.parametrize("name", STUBS)
def test_the_implementation_of_a_stub_has_its_name_and_signature(name):
    stub, room = STUBS[name]
    implementation = vars(room)[name]
    assert activity_name(implementation) == name
    assert inspect.signature(implementation) == inspect.signature(stub)
    assert get_type_hints(implementation) == get_type_hints(stub)
    assert inspect.iscoroutinefunction(inspect.unwrap(implementation)), "a thread cannot hear a cancellation"


@pytest.mark.parametrize("name", STUBS)
def test_the_implementation_of_a_stub_is_described_like_the_stub(name):
    stub, room = STUBS[name]
    assert inspect.getdoc(vars(room)[name]) == inspect.getdoc(stub)


async def test_a_worker_registers_each_stub_once_and_every_workflow(fleet, monkeypatch):
    registered: dict[str, list[Any]] = {}

    class Recorder(Worker):
        def __init__(self, *args: Any, **options: Any) -> None:
            registered.update(options)
            super().__init__(*args, **options)

    monkeypatch.setattr(worker_main, "Worker", Recorder)
    async with fleet.worker():
        pass
    assert sorted(str(activity_name(method)) for method in registered["activities"]) == sorted(
        set(STUBS) - CDC - MIRRORS
    )
    assert all(type(method.__self__) is STUBS[method.__name__][1] for method in registered["activities"])
    assert list(registered["workflows"]) == [
        RequestExport,
        ExportDue,
        Backfill,
        DeleteOrphans,
        Upkeep,
        MaintainTables,
        AdoptFiles,
        ExportTable,
        VerifyTable,
    ]


async def test_a_process_serves_the_pipelines_of_its_environment_on_a_queue_of_their_own_with_room_for_all(fleet):
    settings = fleet.settings()
    environment = settings.environment(fleet.name)
    buffer = {"host": "127.0.0.1", "port": 1, "database": "d", "user": "u"}
    pipelines = {name: Pipeline.model_validate({"buffer": {**buffer, "schema": name}}) for name in ("shop", "bank")}
    with_pipelines = replace(settings, environments={fleet.name: environment.model_copy(update={"cdc": pipelines})})
    async with open_workers(with_pipelines, fleet.name, fleet.temporal) as workers:
        assert [worker.task_queue for worker in workers] == [fleet.queue, fleet.cdc_queue]
        config = workers[1].config()
    assert (
        type(environment.temporal).model_fields["cdc_task_queue"].default
        == cdc_contract.CDC_TASK_QUEUE
        == "icefleet-cdc"
    )
    assert {activity_name(method) for method in config["activities"]} == CDC
    assert all(type(method.__self__) is Cdc for method in config["activities"])
    assert list(config["workflows"]) == list(worker_main.CDC_WORKFLOWS)
    # Two pipelines: captures, ingests, two copies and announcements of both, and what people ask for.
    assert config["max_concurrent_activities"] == 14


async def test_a_process_serves_the_mirrors_of_its_environment_on_a_queue_of_their_own(fleet):
    settings = fleet.settings()
    environment = settings.environment(fleet.name)
    pair = {"changelog_table": "shop.changes", "mirror_table": "shop.orders", "primary_keys": ["id"]}
    mirrors = {"shop.orders": Mirror.model_validate(pair)}
    with_mirrors = replace(settings, environments={fleet.name: environment.model_copy(update={"mirrors": mirrors})})
    async with open_workers(with_mirrors, fleet.name, fleet.temporal) as workers:
        assert [worker.task_queue for worker in workers] == [fleet.queue, fleet.merge_queue]
        config = workers[1].config()
    assert (
        type(environment.temporal).model_fields["merge_task_queue"].default
        == mirror_contract.MERGE_TASK_QUEUE
        == "icefleet-merge"
    )
    assert {activity_name(method) for method in config["activities"]} == MIRRORS
    assert all(type(method.__self__) is Mirrors for method in config["activities"])
    assert list(config["workflows"]) == list(worker_main.MERGE_WORKFLOWS)
    assert config["max_concurrent_activities"] == 4


def test_workflows_are_known_by_the_names_that_people_type():
    assert RequestExport.__temporal_workflow_definition.name == contract.REQUEST_WORKFLOW == "RequestExport"  # type: ignore[attr-defined]
    assert ExportTable.__temporal_workflow_definition.name == contract.LOOP_WORKFLOW == "ExportTable"  # type: ignore[attr-defined]
    assert VerifyTable.__temporal_workflow_definition.name == VERIFY_WORKFLOW == "VerifyTable"  # type: ignore[attr-defined]
    names = [found.__temporal_workflow_definition.name for found in worker_main.CDC_WORKFLOWS]  # type: ignore[attr-defined]
    assert names == [
        *("InstallCapture", "UninstallCapture", "CaptureChanges", "IngestChangelog", "CopyTable", "SettleLetters"),
        "MaintainChangelog",
    ]
    names = [found.__temporal_workflow_definition.name for found in worker_main.MERGE_WORKFLOWS]  # type: ignore[attr-defined]
    assert names == ["MergeMirror", "MergeOnce", "VerifyMirror"]
    assert mirror_contract.mirror_id("local", "shop.orders") == "merge/local/shop.orders"
    assert cdc_contract.ingest_id("local", "shop") == "cdc/ingest/local/shop"
    assert cdc_contract.capture_id("local", "shop") == "cdc/capture/local/shop"
    assert contract.TASK_QUEUE == "icefleet-export"
    assert contract.loop_id("local", "mainnet", "blocks") == "export/local/mainnet.blocks"
