"""The contracts are what workflows load in their sandbox, again and again: they bring nothing heavy along."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    "pyarrow",
    "pyiceberg",
    "aiohttp",
    "numpy",
    "pydantic",
    "yaml",
    "boto3",
    "botocore",
    "nats",
    "clickhouse_connect",
}
OURS = {"activities.core", "activities.lake", "activities.clients", "activities.export", "worker", "starter", "deploy"}


@pytest.mark.parametrize(
    "module",
    [
        "activities.contracts.export",
        "activities.contracts.inputs",
        "activities.contracts.verify",
        "activities.contracts.cdc",
        "activities.contracts.mirrors",
    ],
)
def test_contracts_load_no_driver_and_no_other_room(module):
    script = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True, text=True)
    names = set(json.loads(loaded.stdout))
    assert module in names
    assert names & (HEAVY | OURS) == set()


def test_the_package_marker_of_the_activities_stays_empty():
    assert (ROOT / "activities" / "__init__.py").read_text() == ""
    assert (ROOT / "activities" / "contracts" / "__init__.py").read_text() == ""
