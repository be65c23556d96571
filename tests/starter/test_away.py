"""A part that is away is one line on standard error that says where it was looked for, and exit code 1."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from starter.main import build


@dataclass(frozen=True)
class Said:
    exit_code: int
    stdout: str
    stderr: str


def run(*words: str) -> Said:
    if words[0] == "worker":  # it sets up the logs and traces of its whole process
        command = [str(Path(sys.executable).with_name("icefleet")), *words]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        return Said(ended.returncode, ended.stdout, ended.stderr)
    said = CliRunner().invoke(build(words), list(words))
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    return Said(said.exit_code, said.stdout, said.stderr)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("export", "canonical_execution_block", "-n", "mainnet"), "TEMPORAL"),
        (("verify", "canonical_execution_block", "-n", "mainnet"), "TEMPORAL"),
        (("compare", "local:mainnet.canonical_execution_block", "s3://icefleet"), "CATALOG"),
        (("upkeep", "canonical_execution_block", "-n", "mainnet"), "TEMPORAL"),
        (("temporal", "init"), "TEMPORAL"),
        (("schedules", "list"), "TEMPORAL"),
        (("schedules", "apply", "--yes"), "TEMPORAL"),
        (("tables",), "CATALOG"),
        (("coverage",), "CATALOG"),
        (("orphans", "canonical_execution_block"), "CATALOG"),
        (("sql", "SELECT 1"), "CATALOG"),
        (("seed",), "CLICKHOUSE"),
        (("watch",), "NATS"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_a_part_that_is_away_is_one_line_with_its_address(nothing_runs, words, part):
    said = run(*words)
    assert said.exit_code == 1
    assert said.stdout == ""
    [line] = said.stderr.splitlines()
    assert line.startswith("error: ")
    assert "127.0.0.1" in line
    assert str(nothing_runs[part]) in line


def test_a_worker_names_everything_that_is_away_at_once(nothing_runs):
    said = run("worker")
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr.startswith("error: ")
    for part in ("TEMPORAL", "CLICKHOUSE", "S3", "CATALOG", "NATS"):
        assert f":{nothing_runs[part]}" in said.stderr, part


@pytest.mark.parametrize(
    "words",
    [
        ("export", "canonical_execution_block", "-n", "mainnet"),
        ("verify", "canonical_execution_block", "-n", "mainnet"),
        ("compare", "stagin:", "s3://icefleet", "-t", "canonical_execution_block", "-n", "mainnet"),
        ("temporal", "init"),
        ("worker",),
        ("schedules", "diff"),
        ("schedules", "trigger", "--all"),
        ("tables",),
        ("coverage",),
        ("orphans",),
        ("sql", "SELECT 1"),
        ("watch",),
    ],
    ids=" ".join,
)
def test_an_unknown_environment_is_one_line_and_exit_code_2(nothing_runs, words):
    said = run(*words, "-e", "stagin")
    assert (said.exit_code, said.stdout) == (2, "")
    assert said.stderr == "error: no environment 'stagin'; did you mean `staging`?\n"


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("canonical_execution_blok",), "no table 'canonical_execution_blok' in config; did you mean"),
        (("canonical_execution_block", "-n", "nonet"), "table 'canonical_execution_block' has no network 'nonet'"),
        (("-n", "nonet"), "no table of environment local has a network 'nonet'"),
        (("--older-than", "a day"), "'a day' is no age: write a whole number and s, m, h or d, such as 24h"),
        (("--delete",), "--delete needs --older-than, such as --older-than 24h"),
        (("--delete", "--older-than", "0s"), "older than 0s is too young to go"),
        (("--delete", "--older-than", "2h"), "At least 270m (the longest that an attempt to export and one to commit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_orphans_that_cannot_be_meant_are_refused_before_anything_is_asked(nothing_runs, words, wrong):
    said = run("orphans", *words)
    assert (said.exit_code, said.stdout) == (2, "")
    [line] = said.stderr.splitlines()
    assert wrong in line


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("nonesuch",), "no table of environment local has 'nonesuch' in its name"),
        (("-n", "nonet"), "no table of environment local has a network 'nonet'"),
        (("--from", "2024-13-01"), "'2024-13-01' is not a date"),
        (("canonical_execution_block", "--from", "2024-03-01"), "'2024-03-01' bounds none of these tables"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_coverage_that_cannot_be_meant_is_refused_before_anything_is_asked(nothing_runs, words, wrong):
    said = run("coverage", *words)
    assert (said.exit_code, said.stdout) == (2, "")
    [line] = said.stderr.splitlines()
    assert wrong in line


@pytest.mark.parametrize("command", ["export", "adopt"])
@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("nope", "-n", "mainnet"), "no table 'nope' in config"),
        (("canonical_execution_block", "-n", "mainet"), "table 'canonical_execution_block' has no network 'mainet'"),
        (("canonical_execution_block", "-n", "mainnet", "--from", "2024-03-20"), "'2024-03-20' is not a value of"),
        (("beacon_api_eth_v1_events_block", "-n", "mainnet", "--to", "2024-13-01"), "'2024-13-01' is not a date"),
        (
            ("canonical_execution_block", "-n", "mainnet", "--from", "20", "--to", "10"),
            "the range ends before it starts: from 20 to 10; exchange the two",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_request_that_cannot_be_meant_is_refused_before_anything_is_started(nothing_runs, command, words, wrong):
    said = run(command, *words)
    assert (said.exit_code, said.stdout) == (2, "")
    [line] = said.stderr.splitlines()
    assert wrong in line


def test_an_environment_without_its_secrets_names_each_variable(nothing_runs):
    said = run("tables", "-e", "staging")
    assert (said.exit_code, said.stdout) == (1, "")
    assert "STAGING_CATALOG_CREDENTIAL" in said.stderr
    assert "STAGING_CLICKHOUSE_PASSWORD" in said.stderr


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("mainnet.blocks", "local:"), "'mainnet.blocks' is no side of a comparison: write <environment>:"),
        (("local:", "s3://icefleet", "-t", "canonical_*", "-t", "nonesuch*", "-n", "nonet*"), "name fits the pattern"),
        (("local:", "s3://icefleet", "-n", "mainet"), "no table has a network 'mainet'; did you mean `mainnet`?"),
        (("local:", "s3://icefleet", "--from", "2024-13-01"), "'2024-13-01' is not a date"),
        (("local:mainnet.blocks", "local:holesky.blocks"), "are different tables; compare one table"),
        (("local:mainnet.blocks", "local:", "-t", "other"), "leave them out"),
        (("local:mainnet.blocks", "local:", "-t", "bl*", "-n", "hole*"), "leave them out"),
        (("local:", "s3://icefleet", "-t", "blocks", "-n", "mainnet"), "no table 'blocks' in config"),
        (
            ("local:mainnet.canonical_execution_block", "local:", "--from", "2024-03-20"),
            "'2024-03-20' is not a value of block_number",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_comparison_that_cannot_be_meant_is_refused_before_anything_is_asked(nothing_runs, words, wrong):
    said = run("compare", *words)
    assert (said.exit_code, said.stdout) == (2, "")
    [line] = said.stderr.splitlines()
    assert wrong in line
