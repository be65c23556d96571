"""A worker in a process of its own whose metrics can be asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from deploy.local.ports import free_port
from support import forks
from support.fleet import Fleet, eventually


class Scraped:
    """Where a worker's metrics are."""

    def __init__(self, address: str, log: Path) -> None:
        self.url = f"http://{address}/metrics"
        self._log = log

    async def text(self) -> str:
        """What Prometheus would get."""
        async with aiohttp.ClientSession(raise_for_status=True) as client, client.get(self.url) as answer:
            return await answer.text()

    async def ready(self) -> None:
        """Wait until it has started."""

        async def answers() -> bool:
            try:
                return bool(await self.text())
            except aiohttp.ClientError:
                return False

        try:
            await eventually(answers, seconds=60)
        except AssertionError as never:
            raise AssertionError(self._log.read_text()) from never


@contextmanager
def scraped_worker(fleet: Fleet) -> Iterator[Scraped]:
    """All workers of a fleet in one process."""
    address = f"127.0.0.1:{free_port(())}"
    command = ["worker", "-e", fleet.name, "--listen", address]
    log = fleet.directory / "scraped.log"
    with log.open("wb") as output:
        process = forks.start(command, fleet.variables(), output, output)
    try:
        yield Scraped(address, log)
    finally:
        process.kill()
        process.wait()
