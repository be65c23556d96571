"""Spans of what activities ask of the world, and the ids by which the asked parts can be told who is asking.

What is asked is never the current span, so that nothing has to be set back where a stream is closed. Below an activity
that is not recorded nothing is recorded either, and costs nothing; its ids are there all the same.
"""

import contextlib
from collections.abc import Iterator, Mapping

from opentelemetry import context, trace
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from activities.noted import Noted

_W3C = TraceContextTextMapPropagator()
_TRACER = trace.get_tracer("icefleet")


def start(name: str, **attributes: AttributeValue) -> Span:
    """A request that begins, to be ended by the caller (`end`); one with the current ids when nothing is recorded."""
    asking = trace.get_current_span()
    if not asking.is_recording():
        return NonRecordingSpan(asking.get_span_context())
    return Noted(_TRACER, name, asking, attributes)


def end(span: Span, failed: str = "") -> None:
    """The request has ended; `failed` names what with. Messages stay out: they may hold what was asked for."""
    if failed:
        span.set_status(Status(StatusCode.ERROR, failed))
    span.end()


@contextlib.contextmanager
def request(name: str, **attributes: AttributeValue) -> Iterator[Span]:
    """What is asked of another part, from its beginning to its end; not the current span inside."""
    span = start(name, **attributes)
    try:
        yield span
    except Exception as failed:
        end(span, type(failed).__name__)
        raise
    except BaseException:
        end(span, "cancelled")
        raise
    end(span)


@contextlib.contextmanager
def message(kind: SpanKind, subject: str, said: str) -> Iterator[Span]:
    """The sending or hearing of a message whose trace is `said` (a `traceparent`; empty: the current one).

    It is the current span inside. Where it is sent or heard is linked, when that belongs to another trace.
    """
    parent = context_of(said) if said else context.get_current()
    here = trace.get_current_span().get_span_context()
    theirs = trace.get_current_span(parent).get_span_context()
    links = [Link(here)] if here.is_valid and here.trace_id != theirs.trace_id else []
    attributes = {"messaging.system": "nats", "messaging.destination.name": subject}
    name = "nats publish" if kind is SpanKind.PRODUCER else "nats receive"
    with _TRACER.start_as_current_span(name, context=parent, kind=kind, links=links, attributes=attributes) as span:
        yield span


def context_of(traceparent: str) -> context.Context:
    """The trace's context that such a header names; an empty one for anything else."""
    return _W3C.extract({"traceparent": traceparent}, context.Context())


def headers(span: Span | None = None) -> dict[str, str]:
    """What tells an asked part of a span (of the current one, if none is given) over HTTP or NATS; perhaps nothing."""
    told: dict[str, str] = {}
    _W3C.inject(told, None if span is None else trace.set_span_in_context(span, context.Context()))
    return told


def trace_id() -> str:
    """The current trace, 32 hexadecimal digits; empty when there is none."""
    return trace_id_of(headers())


def trace_id_of(told: Mapping[str, str]) -> str:
    """The trace that headers, or a `Cause`, tell of; empty when they do not."""
    parts = told.get("traceparent", "").split("-")
    return parts[1] if len(parts) == 4 else ""  # noqa: PLR2004 - version, trace, span, flags
