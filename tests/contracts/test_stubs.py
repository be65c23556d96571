"""Every stub of the seam has one implementation, of the same name and form, and workers register it."""

import inspect
import re
from dataclasses import replace
from typing import Any, get_type_hints

import pytest
from temporalio import activity

from activities.cdc import Cdc
from activities.contracts import cdc as cdc_contract
from activities.contracts import export as contract
from activities.contracts import mirrors as mirror_contract
from activities.contracts.cdc import CdcActivities
from activities.contracts.export import ExportActivities
from activities.contracts.mirrors import MirrorActivities
from activities.contracts.queues import WORK, QueueActivities
from activities.contracts.verify import VERIFY_WORKFLOW, VerifyActivities
from activities.core.faults import BadRequest
from activities.core.queues import QueueNames
from activities.export import Export
from activities.mirrors import Mirrors
from activities.queues import FindQueues
from activities.verify import Verify
from worker.config_cdc import Pipeline
from worker.config_mirrors import Mirror
from worker.config_models import Temporal
from worker.kinds import served
from worker.registered import WORKFLOWS
from worker.serving import open_rooms, open_workers
from workflows import policies
from workflows.export_table import ExportTable
from workflows.request_export import RequestExport
from workflows.verify_table import VerifyTable

ROOMS = {
    ExportActivities: Export,
    VerifyActivities: Verify,
    CdcActivities: Cdc,
    MirrorActivities: Mirrors,
    QueueActivities: FindQueues,
}
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


PAIR = {"changelog_table": "shop.changes", "mirror_table": "shop.orders", "primary_keys": ["id"]}
BUFFER = {"host": "127.0.0.1", "port": 1, "database": "d", "user": "u"}


@pytest.fixture
def whole(fleet):
    """The settings of an environment that has work of every kind: a source, two pipelines, a mirror."""
    settings = fleet.settings()
    more = {
        "cdc": {name: Pipeline.model_validate({"buffer": {**BUFFER, "schema": name}}) for name in ("shop", "bank")},
        "mirrors": {"shop.orders": Mirror.model_validate(PAIR)},
    }
    environment = settings.environment(fleet.name).model_copy(update=more)
    return replace(settings, environments={fleet.name: environment})


async def test_one_process_serves_every_queue_of_its_environment_with_each_stub_where_its_work_waits(fleet, whole):
    serving = served(whole, fleet.name)
    async with (
        open_rooms(whole, fleet.name, fleet.temporal, serving) as rooms,
        open_workers(whole, fleet.name, fleet.temporal, serving, rooms) as workers,
    ):
        found = {worker.task_queue: worker.config() for worker in workers}
    works = {
        fleet.queue: "control",
        f"{fleet.queue}-default": "export",
        fleet.cdc_queue: "cdc",
        fleet.merge_queue: "merge",
        fleet.upkeep_queue: "upkeep",
        f"{fleet.upkeep_queue}-verify": "verify",
        f"{fleet.upkeep_queue}-mirrors": "mirrors",
    }
    assert list(found) == list(works)
    assert set(works.values()) == set(WORK)
    for queue, config in found.items():
        assert [activity_name(method) for method in config["activities"]] == list(WORK[works[queue]])
        assert all(type(method.__self__) is STUBS[method.__name__][1] for method in config["activities"])
        assert tuple(config["workflows"]) == WORKFLOWS.get(works[queue], ())
    slots = {queue: config["tuner"]._get_activities_max() for queue, config in found.items()}
    # Of two pipelines: captures, ingests, two copies and announcements of both, and what people ask for.
    assert list(slots.values()) == [16, 8, 14, 4, 4, 4, 4]


def test_every_stub_waits_in_one_kind_of_queue_as_the_table_of_policies_says():
    waiting = [name for work in WORK.values() for name in work]
    assert set(waiting) == set(STUBS)
    assert {name for name in waiting if waiting.count(name) > 1} == {"find_queues"}
    rows = re.findall(r"^\| (\w+) +\| ([\w, ]+?) +\|", policies.__doc__ or "", re.MULTILINE)[1:]
    assert {name: set(kinds.split(", ")) for name, kinds in rows} == {
        name: {work for work, names in WORK.items() if name in names} for name in waiting
    }


def test_a_process_may_serve_some_kinds_of_work_only(fleet, whole):
    def queues(*kinds: str) -> list[str]:
        return [one.queue for one in served(whole, fleet.name, kinds)]

    assert queues("control") == [fleet.queue]
    assert queues("export") == [f"{fleet.queue}-default"]
    assert queues("upkeep", "export.default") == [
        f"{fleet.queue}-default",
        fleet.upkeep_queue,
        f"{fleet.upkeep_queue}-verify",
        f"{fleet.upkeep_queue}-mirrors",
    ]
    assert queues("control", "export", "cdc", "merge", "upkeep") == queues()
    known = ["cdc", "control", "export", "export.default", "merge", "upkeep"]
    with pytest.raises(BadRequest) as wrong:
        queues("merge", "exports", "export.defualt", "cdc.shop")
    assert str(wrong.value).splitlines() == [
        "--serve exports: no such kind of work; did you mean `export`?",
        f"--serve export.defualt: no cluster 'defualt' feeds environment {fleet.name!r}; did you mean `default`?",
        f"--serve cdc.shop: no such kind of work; known: {', '.join(f'`{name}`' for name in known)}",
    ]
    with pytest.raises(BadRequest, match=r"no such work, since it has no mirror in mirrors\.yaml"):
        served(fleet.settings(), fleet.name, ["merge"])


def test_clusters_have_queues_of_their_own_and_those_of_other_environments_are_told_apart():
    names = QueueNames("production", "icefleet-export", "icefleet-upkeep")
    assert names.export("production.default") == "icefleet-export-default"
    assert names.export("staging.default") == "icefleet-export-staging.default"
    assert (names.verify, names.mirrors) == ("icefleet-upkeep-verify", "icefleet-upkeep-mirrors")


def test_queues_have_the_names_that_people_type():
    fields = Temporal.model_fields
    assert fields["task_queue"].default == contract.TASK_QUEUE == "icefleet-export"
    assert fields["cdc_task_queue"].default == cdc_contract.CDC_TASK_QUEUE == "icefleet-cdc"
    assert fields["merge_task_queue"].default == mirror_contract.MERGE_TASK_QUEUE == "icefleet-merge"
    assert fields["upkeep_task_queue"].default == "icefleet-upkeep"


def test_workflows_are_known_by_the_names_that_people_type():
    assert RequestExport.__temporal_workflow_definition.name == contract.REQUEST_WORKFLOW == "RequestExport"  # type: ignore[attr-defined]
    assert ExportTable.__temporal_workflow_definition.name == contract.LOOP_WORKFLOW == "ExportTable"  # type: ignore[attr-defined]
    assert VerifyTable.__temporal_workflow_definition.name == VERIFY_WORKFLOW == "VerifyTable"  # type: ignore[attr-defined]
    names = [found.__temporal_workflow_definition.name for found in WORKFLOWS["cdc"]]  # type: ignore[attr-defined]
    assert names == [
        *("InstallCapture", "UninstallCapture", "CaptureChanges", "IngestChangelog", "CopyTable", "SettleLetters"),
        "MaintainChangelog",
    ]
    names = [found.__temporal_workflow_definition.name for found in WORKFLOWS["merge"]]  # type: ignore[attr-defined]
    assert names == ["MergeMirror", "MergeOnce", "VerifyMirror"]
    assert mirror_contract.mirror_id("local", "shop.orders") == "merge/local/shop.orders"
    assert cdc_contract.ingest_id("local", "shop") == "cdc/ingest/local/shop"
    assert cdc_contract.capture_id("local", "shop") == "cdc/capture/local/shop"
    assert contract.TASK_QUEUE == "icefleet-export"
    assert contract.loop_id("local", "mainnet", "blocks") == "export/local/mainnet.blocks"
