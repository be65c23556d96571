"""docs/architecture.md draws what is there: every workflow, and no activity that does not exist."""

import re

from activities.contracts.cdc import CdcActivities
from activities.contracts.export import ExportActivities
from activities.contracts.mirrors import MirrorActivities
from activities.contracts.verify import VerifyActivities
from support.documents import ROOT
from worker.registered import WORKFLOWS

TEXT = (ROOT / "docs/architecture.md").read_text()
REGISTERED = {workflow.__name__ for kind in WORKFLOWS.values() for workflow in kind}
ACTIVITIES = {
    name
    for stubs in (ExportActivities, VerifyActivities, CdcActivities, MirrorActivities)
    for name, stub in vars(stubs).items()
    if callable(stub) and not name.startswith("_")
}


def test_the_table_of_workflows_is_that_of_the_workers():
    rows = TEXT.split("## Workflows")[1].split("\n## ")[0]
    named = {
        name for row in rows.splitlines() if row.startswith("| `") for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert named == REGISTERED


def test_diagrams_name_activities_that_exist():
    drawn = "".join(re.findall(r"```mermaid\n(.*?)```", TEXT, re.DOTALL))
    named = set(re.findall(r"\b[a-z]+_[a-z_]+\b", drawn))
    assert len(named) > 8
    assert sorted(named - ACTIVITIES) == []


def test_the_rooms_are_the_folders():
    rows = TEXT.split("## The rooms")[1].split("\n## ")[0]
    folders = re.findall(r"^\| `([\w/]+)/", rows, re.MULTILINE)
    assert len(folders) > 8
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []
