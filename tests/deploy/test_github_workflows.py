""".github/workflows: sound, and they say what the command line understands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from activities.core.faults import BadConfig
from starter.main import build
from worker.config import load_settings

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))


def workflow(name: str) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    text = (ROOT / f".github/workflows/{name}.yml").read_text(encoding="utf-8")
    return yaml.safe_load(re.sub(r"^on:", '"on":', text, flags=re.MULTILINE))


def scripts(file: Path) -> list[str]:
    jobs = workflow(file.stem)["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def commands() -> list[tuple[str, list[str]]]:
    """File and words of every call of the command line."""
    lines = [(file.stem, line) for file in FILES for script in scripts(file) for line in script.splitlines()]
    return [
        (name, shlex.split(line)[shlex.split(line).index(".venv/bin/icefleet") + 1 :])
        for name, line in lines
        if ".venv/bin/icefleet" in line
    ]


def test_an_auditor_of_workflows_finds_nothing():
    zizmor = str(Path(sys.executable).with_name("zizmor"))
    audit = subprocess.run(
        [zizmor, "--offline", "--no-progress", *map(str, FILES)], capture_output=True, text=True, check=False
    )
    assert (audit.returncode, "No findings to report" in audit.stdout + audit.stderr) == (0, True), audit.stdout


@pytest.mark.parametrize(("file", "words"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_in_them_is_one_of_ours_with_options_that_it_has(file, words):
    command = typer.main.get_command(build(words))
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {word for word in words if word.startswith("--") and word != "--"}
    if '"${options[@]}"' in " ".join(scripts(ROOT / f".github/workflows/{file}.yml")):
        used |= set(re.findall(r"\((--[a-z-]+)", " ".join(scripts(ROOT / f".github/workflows/{file}.yml"))))
        assert used == {"--wait", "--date", "--dry-run", "--network"}
    assert used <= known


def test_the_daily_one_starts_at_four_and_by_hand_with_date_and_environment():
    daily = workflow("export-daily")["on"]
    assert daily["schedule"] == [{"cron": "0 4 * * *"}]
    assert set(daily["workflow_dispatch"]["inputs"]) == {"environment", "date"}
    by_hand = workflow("export-manual")["on"]["workflow_dispatch"]["inputs"]
    assert set(by_hand) == {"environment", "table", "network", "date", "dry_run"}


def test_what_is_skipped_where_a_tool_is_missing_runs_in_ci():
    check = workflow("ci")["jobs"]["check"]
    needed = {
        name
        for file in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r'\btool\("([a-z]+)"\)', file.read_text())
    }
    assert set(check["env"]["TEST_TOOLS"].split()) == needed - {"sh"}
    assert "install --yes --no-install-recommends prometheus" in " ".join(scripts(ROOT / ".github/workflows/ci.yml"))


def test_the_image_of_a_release_is_built_before_a_change_lands():
    assert "pull_request" in workflow("ci")["on"]
    built = " ".join(scripts(ROOT / ".github/workflows/ci.yml"))
    assert "docker build --file deploy/Dockerfile --build-arg APP_VERSION=" in built
    assert "docker run --rm --read-only --tmpfs /tmp" in built


def test_every_run_at_random_and_the_large_one_are_made_every_night():
    targets = r"^(test-chaos|test-[a-z]+-random|test-large):"
    long = set(re.findall(targets, (ROOT / "Makefile").read_text(), re.MULTILINE))
    nightly = " ".join(scripts(ROOT / ".github/workflows/nightly.yml"))
    assert len(long) >= 5
    assert set(re.findall(r"make (test-[a-z-]+)", nightly)) == long


def test_no_input_reaches_a_shell_but_as_a_variable():
    assert [script for file in FILES for script in scripts(file) if "${{" in script] == []


def test_a_runner_needs_no_secret_of_an_environment_but_temporals(monkeypatch):
    for variable in ("CLICKHOUSE_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "CATALOG_CREDENTIAL", "NATS_CREDENTIALS"):
        monkeypatch.delenv(f"PRODUCTION_{variable}", raising=False)
    monkeypatch.setenv("PRODUCTION_TEMPORAL_API_KEY", "key")
    settings = load_settings(ROOT / "config")
    key = settings.environment("production", "temporal").temporal.api_key
    assert key is not None
    assert key.get_secret_value() == "key"
    with pytest.raises(BadConfig, match="PRODUCTION_S3_ACCESS_KEY"):
        settings.environment("production")
    given = {name for file in FILES for name in re.findall(r"secrets\.([A-Z_0-9]+)", file.read_text())}
    assert given == {"PRODUCTION_TEMPORAL_API_KEY", "STAGING_TEMPORAL_API_KEY"}
