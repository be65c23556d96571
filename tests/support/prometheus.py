"""A Prometheus of a test's own, which scrapes one worker and evaluates our rules every second."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from deploy.local.ports import free_port
from support.fleet import eventually

RULES = Path(__file__).parents[2] / "deploy" / "grafana" / "rules" / "icefleet.yaml"


class Prometheus:
    """Where it is."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def query(self, query: str) -> list[dict[str, Any]]:
        """The answer of one moment; an error of Prometheus is raised with what it says."""
        asked = f"{self._url}/api/v1/query"
        async with aiohttp.ClientSession() as client, client.get(asked, params={"query": query}) as answer:
            said = await answer.json()
        assert said["status"] == "success", (query, said)
        return list(said["data"]["result"])


@asynccontextmanager
async def prometheus(directory: Path, target: str) -> AsyncIterator[Prometheus]:
    """It runs once it has scraped `target`, a URL that ends with /metrics."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for group in groups["groups"]:
        group["interval"] = "1s"
    (directory / "rules.yaml").write_text(yaml.safe_dump(groups))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(directory / "rules.yaml")],
        "scrape_configs": [
            {"job_name": "icefleet", "static_configs": [{"targets": [target.split("/")[2]]}]},
        ],
    }
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port(())}"
    command = ["prometheus", f"--config.file={directory}/prometheus.yaml", f"--storage.tsdb.path={directory}/data"]
    with (directory / "prometheus.log").open("wb") as log:
        command.append(f"--web.listen-address={address}")
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    try:
        running = Prometheus(f"http://{address}")

        async def scraped() -> bool:
            try:
                return bool(await running.query("up == 1"))
            except aiohttp.ClientError:
                return False

        await eventually(scraped)
        yield running
    finally:
        process.terminate()
        await process.wait()
