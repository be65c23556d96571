"""What the command line says of itself, and of a command line that cannot be."""

import re

import pytest
from typer.testing import CliRunner, Result

from starter.main import COMMANDS, build

CDC = ("install", "uninstall", "status", "dead-letters", "requeue", "drop", "pause", "resume")
MIRRORS = ("list", "show", "merge", "pause", "resume", "rebuild-index", "compact", "verify")
LEAVES = [
    ("demo",),
    ("seed",),
    ("worker",),
    ("export",),
    ("adopt",),
    ("backfill", "start"),
    ("backfill", "list"),
    ("backfill", "show"),
    ("backfill", "pause"),
    ("backfill", "resume"),
    ("backfill", "parallelism"),
    ("backfill", "skip"),
    ("backfill", "cancel"),
    ("tables",),
    ("coverage",),
    ("verify",),
    ("compare",),
    ("orphans",),
    ("upkeep",),
    ("maintain",),
    *(("cdc", name) for name in CDC),
    *(("mirrors", name) for name in MIRRORS),
    *(("schedules", name) for name in ("apply", "diff", "list", "pause", "resume", "trigger", "delete")),
    ("watch",),
    ("sql",),
    ("config", "check"),
    *(("temporal", name) for name in ("init", "promote")),
    ("local", "up"),
    ("local", "status"),
    ("local", "logs"),
    ("local", "down"),
    ("local", "reset"),
]


def run(*words: str) -> Result:
    return CliRunner().invoke(build(words), list(words), env={"COLUMNS": "160", "TERM": "dumb"})


def test_the_help_names_every_command():
    said = run("--help")
    assert said.exit_code == 0
    for name in COMMANDS:
        assert re.search(rf"^\W*{name} ", said.output, re.MULTILINE), name


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_the_help_of_every_command_shows_an_example(words):
    said = run(*words, "--help")
    assert said.exit_code == 0
    examples = [line for line in said.output.splitlines() if "Usage:" not in line]
    wanted = "make demo" if words == ("demo",) else f"icefleet {' '.join(words)}"
    assert any(wanted in line for line in examples), said.output


def test_the_help_of_an_export_says_what_its_exit_codes_mean():
    said = " ".join(run("export", "--help").output.split())
    codes = "0 all is there, 1 failed, 2 cannot be, 3 some partitions failed, or got rows meanwhile, 130 withdrawn"
    assert codes in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["exprot"], "No such command 'exprot'"),
        (["export"], "Missing argument"),
        (["export", "blocks"], "--network"),
        (["tables", "--jsn"], "--jsn"),
        (["watch", "--count", "-1"], "--count"),
        (["watch", "two words"], "'two words' is no table"),
        (["watch", "mainnet..blocks"], "'mainnet..blocks' is no table"),
        (["export", "blocks", "-n", "mainnet", "--allow-shrink"], "say --force too"),
        (["export", "blocks", "-n", "mainnet", "--date", "2024-03-20", "--to", "2024-03-21"], "either --date"),
    ],
)
def test_a_command_line_that_cannot_be_names_what_is_wrong_and_ends_with_2(words, named):
    said = run(*words)
    assert said.exit_code == 2
    assert named in said.output
