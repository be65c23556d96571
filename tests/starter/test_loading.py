"""A command loads what it needs, so that one which only asks Temporal answers at once."""

import subprocess
import sys

import pytest

ASKING = ("adopt", "backfill", "cdc", "export", "schedules", "temporal", "upkeep", "verify")
HEAVY = ("aioboto3", "clickhouse_connect", "nats", "numpy", "psycopg", "pyarrow", "pyiceberg")
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


@pytest.mark.parametrize(("commands", "found"), [(ASKING, []), (("tables",), list(HEAVY))], ids=["asking", "looking"])
def test_a_command_that_only_asks_temporal_loads_no_driver_and_no_lake_library(commands, found):
    assert loaded(*commands) == found
