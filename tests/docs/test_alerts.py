"""Every alert has a runbook. What documents have people type is held to what there is in test_documents.py."""

import re
from pathlib import Path

import pytest
import yaml

from support.fences import blocks
from support.promql import parsed

ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load((ROOT / "deploy" / "grafana" / "rules" / "icefleet.yaml").read_text(encoding="utf-8"))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
HEADINGS = ["How to look", "How to mend", "When to wake somebody"]


def kebab(alert):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", alert.removeprefix("Icefleet")).lower()


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_how_bad_it_is_what_it_is_and_where_its_runbook_is(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{kebab(alert)}.md"
    text = (ROOT / rule["annotations"]["runbook_url"]).read_text(encoding="utf-8")
    assert text.startswith(f"# {alert}: ")


@pytest.mark.parametrize("alert", ALERTS)
def test_the_runbook_of_an_alert_says_how_to_look_and_to_mend_and_when_to_wake_somebody(alert):
    text = (ROOT / "docs" / "runbooks" / f"{kebab(alert)}.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert "icefleet " in "".join(blocks(text, "console"))
    assert [parsed(query) for query in blocks(text, "promql")]
