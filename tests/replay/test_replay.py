"""Histories of yesterday still fit today's workflow code (case 30): loops that run while workers are renewed go on."""

import base64
import json
import re
import tomllib
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from activities.contracts.queues import WORK
from support.releases import released
from worker.interceptors import FleetInterceptor
from worker.registered import SANDBOX, WORKFLOWS

EVERY = [found for kind in WORKFLOWS.values() for found in kind]
VERSIONS = sorted(
    (Path(__file__).parent / "histories").iterdir(), key=lambda place: [int(part) for part in place.name.split(".")]
)
"""Every version that has been released, and the one that is to be."""
HISTORIES = [file for place in VERSIONS for file in sorted(place.glob("*.json"))]
NEWEST = [file for file in HISTORIES if file.parent == VERSIONS[-1]]
IDS = [f"{file.parent.name}-{file.stem}" for file in HISTORIES]
SECRET = re.compile(r"secret|password|credential|access.?key|bearer", re.IGNORECASE)


def cases_of(workflow: str) -> set[str]:
    return {re.sub(r"-\d+$", "", file.stem.removeprefix(f"{workflow}-")) for file in NEWEST if workflow in file.stem}


def payloads_of(text: str) -> list[str]:
    found = re.findall(r'"data": "([A-Za-z0-9+/=]+)"', text)
    return [base64.b64decode(payload).decode("utf-8", "replace") for payload in found]


def test_there_are_histories_of_all_that_has_been_released_and_of_what_will_be():
    """Those of a release are what loops of users may hold, and stay: what comes next has a version of its own."""
    root = Path(__file__).parents[2]
    coming = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    assert {place.name for place in VERSIONS} == {*released(root), coming}
    assert VERSIONS[-1].name == coming
    assert coming not in released(root)


def test_there_is_a_history_of_every_workflow_and_typical_life():
    lives = {"plain", "stale-and-forced", "failures", "refused", "continued", "withdrawn", "loop-cancelled"}
    others = {"orphans", "adopting", "upkeep", "shrunk", "due", "verified", "backfilled", "backfill-cancelled"}
    assert cases_of("ExportTable") == lives | others
    assert cases_of("ExportDue") == {"due"}
    assert cases_of("VerifyTable") == {"verified"}
    assert cases_of("Backfill") == {"backfilled", "estimated", "backfill-cancelled"}
    assert cases_of("DeleteOrphans") == {"orphans"}
    assert cases_of("Upkeep") == {"upkeep"}
    assert cases_of("AdoptFiles") == {"adopting"}
    assert cases_of("IngestChangelog") == cases_of("CopyTable") == {"pipeline", "pipeline-continued"}
    assert cases_of("SettleLetters") == {"pipeline", "pipeline-continued"}
    assert cases_of("CaptureChanges") == cases_of("InstallCapture") == cases_of("UninstallCapture") == {"pipeline"}
    assert cases_of("MergeMirror") == cases_of("MergeOnce") == {"mirror", "mirror-continued"}
    assert cases_of("VerifyMirror") == {"mirror"}
    assert cases_of("RequestExport") == lives | {"at-the-door", "shrunk"}
    assert {file.stem.split("-")[0] for file in NEWEST} == {found.__name__ for found in EVERY}, "run `make histories`"


def history_of(file):
    text = file.read_text()
    # Both workflows look at the id that they run under.
    started = json.loads(text)["events"][0]["workflowExecutionStartedEventAttributes"]
    return WorkflowHistory.from_json(started["workflowId"], text)


@pytest.fixture(scope="module")
async def replayed():
    """Run → what its replay found, None where all was well: one worker replays them, as one does for all loops."""
    # Workers trace, so replays do as well: what an interceptor adds must not matter either.
    replayer = Replayer(workflows=EVERY, workflow_runner=SANDBOX, interceptors=[FleetInterceptor()])

    async def histories():
        for file in HISTORIES:
            yield history_of(file)

    async with replayer.workflow_replay_iterator(histories()) as results:
        found = [(result.history.run_id, result.replay_failure) async for result in results]
    assert len(dict(found)) == len(found) == len(HISTORIES)
    return dict(found)


@pytest.mark.parametrize("file", HISTORIES, ids=IDS)
def test_a_recorded_history_replays_with_the_code_of_today(replayed, file):
    if (wrong := replayed[history_of(file).run_id]) is not None:
        raise wrong


@pytest.mark.parametrize("file", HISTORIES, ids=IDS)
def test_a_recorded_history_holds_no_credential_and_nothing_of_the_machine(file):
    text = file.read_text()
    for said in (text, *payloads_of(text)):
        assert SECRET.findall(said) == []
        assert str(Path(__file__).parents[2]) not in said
    assert '"stackTrace"' not in text


def test_the_histories_stay_small():
    assert all(sum(file.stat().st_size for file in place.glob("*.json")) < 2_500_000 for place in VERSIONS)
    assert all(json.loads(file.read_text())["events"] for file in HISTORIES)


def test_work_waits_in_the_queue_that_the_contract_says():
    """What a loop schedules on its own queue is of its own kind; what it sends away goes where that kind is served."""
    away = {name for kind in ("export", "upkeep", "verify", "mirrors") for name in WORK[kind]}
    for file in NEWEST:
        if "-mirror" in file.stem:
            continue  # recorded with rooms that serve all from one queue
        own, sent = queues_of(json.loads(file.read_text())["events"])
        assert own.isdisjoint(away), file.name
        assert sent <= away, file.name


def queues_of(events):
    """Activities that were scheduled on their loop's own queue, and those that were sent to another one."""
    home = events[0]["workflowExecutionStartedEventAttributes"]["taskQueue"]["name"]
    own, sent = set(), set()
    for event in events:
        if (asked := event.get("activityTaskScheduledEventAttributes")) is not None:
            (own if asked["taskQueue"]["name"] == home else sent).add(asked["activityType"]["name"])
    return own, sent
