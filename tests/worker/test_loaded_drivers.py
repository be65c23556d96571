"""A worker loads what it serves needs, and no driver of what others do."""

import subprocess
import sys

import pytest

from support.loading import HEAVY

SERVE = """
import asyncio, sys
from pathlib import Path
import starter.worker, worker.main
from worker.config import load_settings
from worker.kinds import served
from worker.serving import open_rooms

def loaded():
    return " ".join(sorted(set(sys.argv[3].split()) & sys.modules.keys()))

async def main(before):
    settings = load_settings(Path(sys.argv[1]))
    async with open_rooms(settings, "local", None, served(settings, "local", [sys.argv[2]])):
        if sys.argv[2] == "merge":
            import worker.bus, worker.mirror_wakes
        print(before, loaded(), sep="\\n")

asyncio.run(main(loaded()))
"""
BUFFER = "{host: 127.0.0.1, database: shop, user: icefleet, password_env: TEST_SECRET_KEY}"
MIRROR = "{changelog_table: cdc.orders_changelog, mirror_table: shop.orders, primary_keys: id}"


@pytest.fixture
def config(whole_config, monkeypatch):
    """A config with every kind of work."""
    for name in ("TEST_ACCESS_KEY", "TEST_SECRET_KEY"):
        monkeypatch.setenv(name, "k")
    path = whole_config / "environments.yaml"
    cdc = f"  local:\n    cdc: {{shop: {{buffer: {BUFFER}}}}}\n"
    path.write_text(path.read_text().replace("  local:\n", cdc, 1))
    (whole_config / "mirrors.yaml").write_text(f"mirrors: {{local: [{MIRROR}]}}\n")
    return whole_config


@pytest.mark.parametrize(
    ("kind", "spared"),
    [
        ("control", {"psycopg"}),
        ("cdc", {"clickhouse_connect"}),
        ("merge", {"clickhouse_connect", "psycopg"}),
    ],
)
def test_a_worker_loads_drivers_only_for_what_it_serves_and_only_then(config, kind, spared):
    """Control needs that of sources as exports do: a commit asks for the columns."""
    command = [sys.executable, "-c", SERVE, str(config), kind, " ".join(HEAVY)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    before, serving = said.splitlines()
    assert (before, set(HEAVY) - set(serving.split())) == ("", spared)
