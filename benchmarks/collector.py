"""A collector of telemetry on loopback, in a process of its own: takes what OTLP/HTTP sends, and scrapes metrics.

It parses nothing while a worker runs: what is measured is the worker, not a collector. What came it keeps, to tell
afterwards whether everything did.
"""

import json
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

HOST = "127.0.0.1"
SECONDS = 15
"""Between two scrapes, as our Prometheus has it, and between two exports of metrics over OTLP."""


@dataclass(frozen=True)
class Received:
    """What has come so far."""

    spans: int
    metrics: int
    """Requests."""
    scrapes: int
    """Those that were answered."""


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
            "OTEL_METRIC_EXPORT_INTERVAL": str(1000 * SECONDS),
        }

    @property
    def worker_words(self) -> tuple[str, ...]:
        """Its arguments."""
        return ("--listen", f"{HOST}:{self.listen}")

    def received(self) -> Received:
        """All that came; ask while no worker runs, since the collector reads it only now."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/received", timeout=60) as answer:
            return Received(**json.load(answer))


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


_traces: list[bytes] = []
_metrics: list[int] = []
_scrapes: list[int] = []


class _Takes(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/traces"):
            _traces.append(body)
        else:
            _metrics.append(len(body))
        self._answer(b"")

    def do_GET(self) -> None:
        """How much of each kind came."""
        spans = sum(_spans_in(body) for body in _traces)
        self._answer(json.dumps({"spans": spans, "metrics": len(_metrics), "scrapes": len(_scrapes)}).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _spans_in(body: bytes) -> int:
    request = ExportTraceServiceRequest.FromString(body)
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def _scrape(port: int) -> None:
    pause = threading.Event()
    while not pause.wait(SECONDS):
        with (
            suppress(OSError),  # no worker just now
            urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=5) as answer,
        ):
            _scrapes.append(len(answer.read()))


if __name__ == "__main__":
    server = ThreadingHTTPServer((HOST, 0), _Takes)
    threading.Thread(target=_scrape, args=(int(sys.argv[1]),), daemon=True).start()
    print(server.server_address[1], flush=True)
    server.serve_forever()
