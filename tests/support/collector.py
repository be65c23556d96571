"""A collector of OTLP over HTTP, and what is in the traces that it was sent."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class SeenSpan:
    """One span as it was sent."""

    name: str
    trace: str
    id: str
    parent: str
    """Empty of one that begins its trace."""
    links: tuple[str, ...]
    """Traces that it is linked to."""
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    start: int
    end: int
    failed: bool


class Collector:
    """What has come so far."""

    def __init__(self) -> None:
        self.spans: list[SeenSpan] = []
        self.headers: list[dict[str, str]] = []
        self.port = 0
        self.raw = b""
        """All spans, as they came."""

    def variables(self, **more: str) -> dict[str, str]:
        """What a process needs to send its spans here, soon."""
        here = f"http://127.0.0.1:{self.port}"
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": here, "OTEL_BSP_SCHEDULE_DELAY": "200", **more}

    def of(self, trace: str) -> list[SeenSpan]:
        """The spans of one trace, by when they began."""
        return sorted((span for span in self.spans if span.trace == trace), key=lambda span: span.start)

    def named(self, name: str, trace: str = "") -> list[SeenSpan]:
        """The spans of that name, of one trace or of all, by when they began."""
        found = self.of(trace) if trace else sorted(self.spans, key=lambda span: span.start)
        return [span for span in found if span.name == name]

    def path(self, span: SeenSpan) -> list[str]:
        """The names of the spans from this one up to where its trace began."""
        by_id = {one.id: one for one in self.of(span.trace)}
        names = [span.name]
        while span.parent:
            span = by_id[span.parent]
            names.append(span.name)
        return names

    def roots(self) -> list[str]:
        """What traces began with, in that order."""
        return [span.name for span in sorted(self.spans, key=lambda one: one.start) if not span.parent]

    def broken_links(self) -> list[SeenSpan]:
        """Spans whose parent has not come, or is of another trace."""
        ids = {(span.trace, span.id) for span in self.spans}
        return [span for span in self.spans if span.parent and (span.trace, span.parent) not in ids]

    def twice(self) -> list[Any]:
        """Ids that came more than once, and steps of workflows and attempts of activities that did."""
        ids = [span.id for span in self.spans]
        steps = [(one.name, str(sorted(one.attributes.items()))) for one in self.spans if _of_temporal(one)]
        return [*_doubled(ids), *_doubled(steps)]


def _of_temporal(span: SeenSpan) -> bool:
    return "temporalRunID" in span.attributes


def _doubled(every: Sequence[Any]) -> list[Any]:
    return sorted({one for one in every if every.count(one) > 1})


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of loopback."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/metrics":  # what is told of them is another test's
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            assert self.path == "/v1/traces"
            assert self.headers["Content-Type"] == "application/x-protobuf"
            collector.headers.append(dict(self.headers))
            collector.raw += body
            collector.spans += _spans(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _spans(sent: ExportTraceServiceRequest) -> Iterator[SeenSpan]:
    for resource in sent.resource_spans:
        said = _attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield SeenSpan(
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    links=tuple(link.trace_id.hex() for link in span.links),
                    attributes=_attributes(span.attributes),
                    resource=said,
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                )


def _attributes(sent: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in sent}
