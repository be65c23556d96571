"""A worker in a process of its own whose metrics can be asked for.

Run as `python -m support.scraped ENVIRONMENT FILE`, it writes into the file where.
"""

import asyncio
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import STDOUT, Popen
from typing import Any

import aiohttp

from support.fleet import Fleet, eventually
from worker.metrics import Metrics, set_up_metrics


class Scraped:
    """Where a worker's metrics are."""

    def __init__(self, file: Path, log: Path) -> None:
        self._file = file
        self._log = log

    async def url(self) -> str:
        """Once it has started."""
        try:
            return str(await eventually(lambda: self._file.exists() and self._file.read_text(), seconds=60))
        except AssertionError as never:
            raise AssertionError(self._log.read_text()) from never

    async def text(self) -> str:
        """What Prometheus would get."""
        url = await self.url()
        async with aiohttp.ClientSession(raise_for_status=True) as client, client.get(url) as answer:
            return await answer.text()


@contextmanager
def scraped_worker(fleet: Fleet) -> Iterator[Scraped]:
    """All workers of a fleet in one process."""
    mark = uuid.uuid4().hex[:6]
    file, log = fleet.directory / f"metrics-{mark}", fleet.directory / f"scraped-{mark}.log"
    path = ":".join(sys.path)
    with log.open("wb") as output:
        command = [sys.executable, "-m", "support.scraped", fleet.name, str(file)]
        process = Popen(command, env={**fleet.variables(), "PYTHONPATH": path}, stdout=output, stderr=STDOUT)
    try:
        yield Scraped(file, log)
    finally:
        process.kill()
        process.wait()


def serve(told: Metrics) -> str:
    """Answer every request with the metrics, in a thread; answers where."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = told.render()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/metrics"


def main(environment: str, file: str) -> None:
    """Run until killed."""
    from worker.config import load_settings  # noqa: PLC0415 - only the process of the worker
    from worker.main import run_worker  # noqa: PLC0415 - loads every client

    told = set_up_metrics(environment, scraped=True)
    Path(file).write_text(serve(told))
    asyncio.run(run_worker(load_settings(), environment, runtime=told.runtime))


if __name__ == "__main__":
    main(*sys.argv[1:])
