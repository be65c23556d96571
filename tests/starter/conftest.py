"""A local environment of which nothing runs."""

import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("CLICKHOUSE", "S3", "CATALOG", "NATS", "TEMPORAL")


@pytest.fixture
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Part → a port on which nobody listens; the repository's config looks for `local` there."""
    ports = {}
    for part in PARTS:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports[part] = probe.getsockname()[1]
    lines = [f"ICEFLEET_LOCAL_{part}_PORT={port}" for part, port in ports.items()]
    lines += ["ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD=p", "ICEFLEET_LOCAL_POSTGRES_PASSWORD=p"]
    lines += ["ICEFLEET_LOCAL_CATALOG_CREDENTIAL=k:s"]
    lines += ["ICEFLEET_LOCAL_S3_ACCESS_KEY=k", "ICEFLEET_LOCAL_S3_SECRET_KEY=s"]
    (tmp_path / "env").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("ICEFLEET_LOCAL_DIR", str(tmp_path))
    monkeypatch.setenv("ICEFLEET_CONFIG_DIR", str(ROOT / "config"))
    return ports
