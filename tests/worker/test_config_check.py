"""`icefleet config check`: what it prints, and how it exits."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from starter.config import app

SHIPPED = Path(__file__).parents[2] / "config"


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in ("ICEFLEET_CONFIG_DIR", "ICEFLEET_CONFIG_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ICEFLEET_LOCAL_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")


def check(*arguments: str):
    return CliRunner().invoke(app, ["check", *arguments])


def test_a_good_config_is_summed_up():
    ran = check("--config-dir", str(SHIPPED))
    assert ran.exit_code == 0
    lines = [line.split() for line in ran.stdout.splitlines() if line.strip()]
    assert ["local", "local.default", "238", "1", "6", "not", "set"] in lines
    assert ["canonical_execution_block", "integer", "by", "1000", "mainnet,", "holesky,", "sepolia"] in lines
    assert ["node_record_consensus", "daily", "disabled"] in lines


def test_problems_are_printed_with_file_and_line_and_exit_with_1(tmp_path):
    (tmp_path / "environments.yaml").write_text("environments:\n\tlocal: {}\n", encoding="utf-8")
    (tmp_path / "tables.yaml").write_text("groups: {}\ntabels: []\n", encoding="utf-8")
    ran = check("--config-dir", str(tmp_path))
    assert ran.exit_code == 1
    assert ran.stdout == ""
    assert ran.stderr.splitlines() == [
        f"{tmp_path}/environments.yaml:2: a tab; YAML is indented and separated with spaces",
        f"{tmp_path}/tables.yaml:2 tabels: unknown key; known: `groups`, `redaction_sets`, `sensitive_patterns`",
        "2 problems",
    ]


def test_the_chosen_environment_must_have_its_secrets(monkeypatch):
    ran = check("--config-dir", str(SHIPPED), "-e", "local")
    assert ran.exit_code == 1
    assert ran.stderr.splitlines()[-1] == "6 problems"
    assert "the variable ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD is set neither" in ran.stderr
    assert "`icefleet local up` writes it" in ran.stderr
    for name in ("CLICKHOUSE_PASSWORD", "POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "CATALOG_CREDENTIAL"):
        monkeypatch.setenv(f"ICEFLEET_LOCAL_{name}", "given")
    assert check("--config-dir", str(SHIPPED), "-e", "local").exit_code == 0


def test_an_environment_needs_the_password_of_the_cluster_that_feeds_it(tmp_path, monkeypatch):
    override = tmp_path / "override.yaml"
    override.write_text("export_mappings: [{source: staging.default, destination: local}]", encoding="utf-8")
    monkeypatch.setenv("ICEFLEET_CONFIG_OVERRIDE", str(override))
    for name in ("CLICKHOUSE_PASSWORD", "POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "CATALOG_CREDENTIAL"):
        monkeypatch.setenv(f"ICEFLEET_LOCAL_{name}", "given")
    ran = check("--config-dir", str(SHIPPED), "-e", "local")
    assert ran.exit_code == 1
    assert "environments.staging.clickhouse.default.password_env" in ran.stderr
    assert ran.stderr.splitlines()[-1] == "1 problem"


def test_an_unknown_environment_is_a_wrong_command_line():
    ran = check("--config-dir", str(SHIPPED), "-e", "prod")
    assert ran.exit_code == 2
    assert ran.stderr == "no environment 'prod'; known: `local`, `production`, `staging`\n"


def test_json_says_the_same_to_a_script(tmp_path):
    good = check("--config-dir", str(SHIPPED), "--json")
    report = json.loads(good.stdout)
    assert (good.exit_code, report["ok"], report["problems"]) == (0, True, [])
    assert report["environments"] == {"local": {"unset": 6}, "staging": {"unset": 6}, "production": {"unset": 6}}
    assert report["tables"]["canonical_execution_block"] == {
        "partition": "integer",
        "enabled": True,
        "networks": ["mainnet", "holesky", "sepolia"],
    }
    assert not report["tables"]["node_record_consensus"]["enabled"]
    bad = check("--config-dir", str(tmp_path / "nowhere"), "--json")
    assert bad.exit_code == 1
    assert json.loads(bad.stdout) == {
        "ok": False,
        "problems": [
            {
                "file": str(tmp_path / "nowhere"),
                "line": 0,
                "key": "",
                "message": "no such directory; name one with --config-dir or ICEFLEET_CONFIG_DIR",
            }
        ],
    }
