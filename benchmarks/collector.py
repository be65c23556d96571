"""A collector of telemetry on loopback, in a process of its own: takes what OTLP/HTTP sends, and scrapes metrics.

It parses nothing: what is measured is the worker, not a collector.
"""

import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"
SCRAPE_SECONDS = 1.0


@dataclass(frozen=True)
class Sink:
    """How a worker is told of the collector."""

    port: int
    listen: int

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of a worker that sends everything."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{self.port}",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "otlp,prometheus",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        }

    @property
    def worker_words(self) -> tuple[str, ...]:
        """Its arguments."""
        return ("--listen", f"{HOST}:{self.listen}")

    @property
    def received(self) -> int:
        """Requests of the worker, and scrapes that it answered."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/count", timeout=5) as answer:
            return int(answer.read())


@contextmanager
def running() -> Iterator[Sink]:
    """Start one."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        listen = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, str(listen)], stdout=subprocess.PIPE, text=True)
    if process.stdout is None:
        raise RuntimeError("a process without its pipe")
    with process.stdout:
        try:
            yield Sink(int(process.stdout.readline()), listen)
        finally:
            process.terminate()
            process.wait()


class _Takes(BaseHTTPRequestHandler):
    count = {"traces": 0, "metrics": 0, "scrapes": 0}  # noqa: RUF012 - shared by all requests on purpose

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.path.rsplit("/", 1)[-1]
        self.count[kind] = self.count.get(kind, 0) + 1
        self._answer(b"")

    def do_GET(self) -> None:
        """How much of each kind came; 0 as long as one is missing."""
        whole = sum(self.count.values()) if all(self.count.values()) else 0
        self._answer(str(whole).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _scrape(port: int) -> None:
    pause = threading.Event()
    while not pause.wait(SCRAPE_SECONDS):
        with (
            suppress(OSError),  # no worker just now
            urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=5) as answer,
        ):
            _Takes.count["scrapes"] += len(answer.read()) > 0


if __name__ == "__main__":
    server = ThreadingHTTPServer((HOST, 0), _Takes)
    threading.Thread(target=_scrape, args=(int(sys.argv[1]),), daemon=True).start()
    print(server.server_address[1], flush=True)
    server.serve_forever()
