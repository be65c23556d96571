"""What Kubernetes and Prometheus ask of a worker over HTTP: does it live, is it ready, what does it measure.

A thread of its own answers, so that a loop which is busy for some seconds is not taken for dead.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar, Self

from temporalio.worker import Worker

from activities.core.faults import BadRequest

LOOPBACK = "127.0.0.1"
EVERYWHERE = "::"
"""Every address of the machine, of IPv6 and of IPv4: a pod may have either."""
STUCK_SECONDS = 60
"""A loop that has not turned for so long is dead: heartbeats of its activities were missed long ago."""
TURN_SECONDS = 1
METRICS = "text/plain; version=0.0.4; charset=utf-8"
PLAIN = "text/plain; charset=utf-8"

Answer = tuple[HTTPStatus, str, bytes]


class Monitor:
    """Answers `/livez`, `/readyz` and `/metrics` for as long as the context lasts; without an address nothing listens.

    Enter it in the loop that it is to watch.
    """

    def __init__(self, listen: str = "", *, render: Callable[[], bytes] | None = None) -> None:
        """`render` gives the metrics, as Prometheus reads them.

        Raises:
            BadRequest: `listen` is no `host:port`, `:port` or port; without a host it is loopback.
        """
        self._address = address_of(listen) if listen else None
        self._render = render
        self._server: ThreadingHTTPServer | None = None
        self._workers: Sequence[Worker] = ()
        self._turned = time.monotonic()
        self._next: asyncio.TimerHandle | None = None
        self.draining = False
        """Whether the process takes no more work."""

    @property
    def port(self) -> int:
        """Where it listens, also if any free port was asked for; 0 if it does not."""
        return int(self._server.server_address[1]) if self._server is not None else 0

    def watch(self, workers: Sequence[Worker]) -> None:
        """From now on the process is ready as long as these run."""
        self._workers = workers

    def __enter__(self) -> Self:
        if self._address is None:
            return self
        try:
            self._server = _Server(self._address, type("Handler", (_Handler,), {"monitor": self}))
        except OSError as taken:
            host, port = self._address
            raise BadRequest(f"--listen {host}:{port}: {taken.strerror or taken}; choose another address") from taken
        Thread(target=self._server.serve_forever, name="icefleet-monitor", daemon=True).start()
        self._turn()
        return self

    def __exit__(self, *_: object) -> None:
        if self._next is not None:
            self._next.cancel()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _turn(self) -> None:
        self._turned = time.monotonic()
        self._next = asyncio.get_running_loop().call_later(TURN_SECONDS, self._turn)

    def answer(self, path: str) -> Answer:
        """Status, content type and body."""
        if path == "/metrics" and self._render is not None:
            return HTTPStatus.OK, METRICS, self._render()
        wrong = {"/livez": self._dead, "/readyz": self._not_ready}.get(path)
        if wrong is None:
            return HTTPStatus.NOT_FOUND, PLAIN, b"there are /livez, /readyz and /metrics\n"
        why = wrong()
        return (HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK), PLAIN, f"{why or 'ok'}\n".encode()

    def _dead(self) -> str:
        still = time.monotonic() - self._turned
        return f"the event loop has stood still for {still:.0f} s" if still > STUCK_SECONDS else ""

    def _not_ready(self) -> str:
        if self.draining:
            return "draining: no more work is taken"
        if not self._workers:
            return "starting"
        stopped = [worker.task_queue for worker in self._workers if not worker.is_running]
        return f"not polling {', '.join(stopped)}" if stopped else self._dead()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        host, port = address
        if host == EVERYWHERE and not socket.has_dualstack_ipv6():
            host = "0.0.0.0"  # noqa: S104 - what was asked for, on a node that knows no IPv6
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:  # whatever the node has by default
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Handler(BaseHTTPRequestHandler):
    monitor: ClassVar[Monitor]
    timeout = 10
    """Seconds that a client may take over its request."""

    def do_GET(self) -> None:
        status, kind, body = self.monitor.answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Probes come every few seconds, and are no news."""


def address_of(listen: str) -> tuple[str, int]:
    """Host and port of `host:port`, `:port` or `port`.

    Raises:
        BadRequest: it is none of these.
    """
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) >= 2**16:
        raise BadRequest(f"--listen {listen}: expected HOST:PORT or :PORT, such as 0.0.0.0:9090")
    return host.strip("[]") or LOOPBACK, int(port)
