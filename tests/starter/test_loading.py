"""A command loads what it needs, so that most of them answer at once."""

import subprocess
import sys

import pytest

from support.loading import HEAVY

ASKING = ("adopt", "backfill", "cdc", "export", "maintain", "schedules", "temporal", "upkeep", "verify")
_LOAD = """
import sys
from starter.main import build
for name in sys.argv[1].split():
    build([name])
print(*sorted(set(sys.argv[2].split()) & sys.modules.keys()))
"""


def loaded(*commands: str) -> list[str]:
    """What of the heavy libraries is there once the commands are."""
    command = [sys.executable, "-c", _LOAD, " ".join(commands), " ".join(HEAVY)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()


@pytest.mark.parametrize(
    ("commands", "found"),
    [
        (ASKING, []),
        (("watch",), ["nats"]),
        (("seed",), ["clickhouse_connect"]),
        (("sql",), ["numpy", "pyarrow", "pyiceberg"]),
    ],
    ids=["asking Temporal", "listening", "seeding", "reading the lake"],
)
def test_a_command_loads_the_libraries_that_it_needs_and_no_others(commands, found):
    assert loaded(*commands) == found


def test_the_libraries_that_this_looks_for_are_those_that_commands_use():
    assert loaded("tables", "demo") == list(HEAVY)
