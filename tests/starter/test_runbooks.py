"""Runbooks: every alert has one, and what they have people type exists."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from starter.main import build
from support.fences import blocks
from support.promql import parsed

ROOT = Path(__file__).parents[2]
RUNBOOKS = sorted(set((ROOT / "docs" / "runbooks").glob("*.md")) - {ROOT / "docs" / "runbooks" / "README.md"})
RULES = yaml.safe_load((ROOT / "deploy" / "grafana" / "rules" / "icefleet.yaml").read_text(encoding="utf-8"))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
HEADINGS = ["How to look", "How to mend", "When to wake somebody"]
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def kebab(alert):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", alert.removeprefix("Icefleet")).lower()


def commands(text):
    """What people are to type of ours: in blocks, and in the middle of a line."""
    typed = [line.strip() for block in blocks(text, "console") for line in block.splitlines()]
    return [line for line in [*typed, *re.findall(r"`([^`\n]+)`", text)] if line.startswith("icefleet ")]


def refusal(command):
    """What our commands say against a command line; it is not run, since help was asked for as well."""
    words = [*shlex.split(command)[1:], "--help"]
    said = CliRunner().invoke(build(words), words)
    return said.output if said.exit_code else ""


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_how_bad_it_is_what_it_is_and_where_its_runbook_is(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{kebab(alert)}.md"
    text = (ROOT / rule["annotations"]["runbook_url"]).read_text(encoding="utf-8")
    assert text.startswith(f"# {alert}: ")


def test_there_is_no_runbook_without_an_alert():
    assert {file.stem for file in RUNBOOKS} == {kebab(alert) for alert in ALERTS}


@pytest.mark.parametrize("file", RUNBOOKS, ids=lambda file: file.stem)
def test_a_runbook_says_how_to_look_and_to_mend_and_when_to_wake_somebody(file):
    text = file.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert commands(text)
    for command in commands(text):
        assert refusal(command) == "", command
    assert blocks(text, "promql")
    for query in blocks(text, "promql"):
        parsed(query)
    for link in LINK.findall(text):
        assert (file.parent / link).is_file(), link


@pytest.mark.parametrize("command", ["icefleet tabels", "icefleet tables --sauce", "icefleet mirrors merge x --now"])
def test_a_command_that_is_not_there_would_be_noticed(command):
    assert "No such" in refusal(command)
