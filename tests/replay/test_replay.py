"""Histories of yesterday still fit today's workflow code (case 30): loops that run while workers are renewed go on."""

import base64
import json
import re
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from worker.interceptors import FleetInterceptor
from worker.registered import SANDBOX, WORKFLOWS

EVERY = [found for kind in WORKFLOWS.values() for found in kind]
HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))
SECRET = re.compile(r"secret|password|credential|access.?key|bearer", re.IGNORECASE)


def cases_of(workflow: str) -> set[str]:
    return {re.sub(r"-\d+$", "", file.stem.removeprefix(f"{workflow}-")) for file in HISTORIES if workflow in file.stem}


def payloads_of(text: str) -> list[str]:
    found = re.findall(r'"data": "([A-Za-z0-9+/=]+)"', text)
    return [base64.b64decode(payload).decode("utf-8", "replace") for payload in found]


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
    assert {file.stem.split("-")[0] for file in HISTORIES} == {found.__name__ for found in EVERY}


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
async def test_a_recorded_history_replays_with_the_code_of_today(file):
    text = file.read_text()
    # Both workflows look at the id that they run under.
    started = json.loads(text)["events"][0]["workflowExecutionStartedEventAttributes"]
    history = WorkflowHistory.from_json(started["workflowId"], text)
    # Workers trace, so replays do as well: what an interceptor adds must not matter either.
    replayer = Replayer(workflows=EVERY, workflow_runner=SANDBOX, interceptors=[FleetInterceptor()])
    await replayer.replay_workflow(history)


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
def test_a_recorded_history_holds_no_credential_and_nothing_of_the_machine(file):
    text = file.read_text()
    for said in (text, *payloads_of(text)):
        assert SECRET.findall(said) == []
        assert str(Path(__file__).parents[2]) not in said
    assert '"stackTrace"' not in text


def test_the_histories_stay_small():
    assert sum(file.stat().st_size for file in HISTORIES) < 2_100_000
    assert all(json.loads(file.read_text())["events"] for file in HISTORIES)
