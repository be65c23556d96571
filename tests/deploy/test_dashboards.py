"""Dashboards: what Grafana would refuse, or people would stumble over."""

import itertools
import json
from pathlib import Path

import pytest
import yaml

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
COLUMNS = 24
BOARDS = {file.name: json.loads(file.read_text(encoding="utf-8")) for file in FILES}


def cells(panel):
    """The cells of the grid that a panel covers."""
    at = panel["gridPos"]
    return set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))


def test_there_is_one_of_the_fleet_of_exports_of_mirrors_and_of_one_table():
    assert set(BOARDS) == {"fleet.json", "exports.json", "mirrors.json", "table.json"}
    assert len({board["uid"] for board in BOARDS.values()}) == len({board["title"] for board in BOARDS.values()}) == 4


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_have_their_own_place_and_number(board):
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    covered = [cell for panel in panels for cell in cells(panel)]
    assert len(covered) == len(set(covered))
    assert all(0 <= x < COLUMNS for x, _ in covered)
    # No gap of a whole line, in which people would look for something.
    assert {y for _, y in covered} == set(range(max(y for _, y in covered) + 1))


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_panel_says_what_it_shows_in_which_unit_and_of_which_environment(board):
    titles = [panel["title"] for panel in board["panels"]]
    assert all(titles)
    assert len(set(titles)) == len(titles)
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH")[: len(panel["targets"])]
        for target in panel["targets"]:
            assert 'environment="$environment"' in target["expr"], panel["title"]
            assert target["datasource"] == panel["datasource"]
            assert target["legendFormat"] or panel["type"] == "table"


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_variable_that_is_used_can_be_chosen(board):
    names = [variable["name"] for variable in board["templating"]["list"]]
    of_one_table = ["network", "table"] if board["uid"] == "icefleet-table" else []
    assert names == ["datasource", "environment", *of_one_table]
    assert all(variable["type"] in {"datasource", "query"} for variable in board["templating"]["list"])
    assert all(f"${name}" in json.dumps(board["panels"]) for name in names[1:])


def test_grafana_is_told_where_dashboards_and_metrics_are():
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text())
    assert [(one["type"], one["isDefault"]) for one in sources["datasources"]] == [("prometheus", True)]
    providers = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "icefleet.yaml").read_text())
    assert [(one["type"], one["options"]["path"]) for one in providers["providers"]] == [
        ("file", "/etc/grafana/dashboards")
    ]
