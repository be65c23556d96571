"""Spans of workflows: their ids are decided by whoever makes them, and each is recorded once."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, TraceFlags
from opentelemetry.util.types import AttributeValue

from activities.contracts.causes import Cause
from activities.noted import wanted
from activities.spans import context_of

REMEMBERED = 10_000
"""Steps of workflows, in a process: a workflow task that failed or came too late is done again soon, if at all."""
_TRACER = trace.get_tracer("icefleet.workflows")
_recorded: OrderedDict[str, TraceFlags] = OrderedDict()


@dataclass(frozen=True)
class WorkflowSpan:
    """One step of a run."""

    name: str
    kind: SpanKind
    trace_id: str
    """32 hexadecimal digits, of one that begins a trace; else empty."""
    span_id: str
    parent: Cause
    link: Cause
    attributes: Mapping[str, AttributeValue]
    at_ns: int
    """Beginning and end."""
    replayed: bool


def keep(span: WorkflowSpan) -> Cause:
    """Record it, unless it was recorded before; answers it as what follows is to be told of it."""
    context = context_of(span.parent.get("traceparent", ""))
    above = trace.get_current_span(context).get_span_context()
    trace_id = span.trace_id or f"{above.trace_id:032x}"
    if span.span_id in _recorded:
        flags = _recorded[span.span_id]
    elif not span.replayed:
        flags = _recorded[span.span_id] = _record(span, int(trace_id, 16), context)
        while len(_recorded) > REMEMBERED:
            _recorded.popitem(last=False)
    else:
        flags = _decided(span) if span.trace_id else above.trace_flags
    return {**span.parent, "traceparent": f"00-{trace_id}-{span.span_id}-{flags:02x}"}


def _record(span: WorkflowSpan, trace_id: int, context: Context) -> TraceFlags:
    linked = trace.get_current_span(context_of(span.link.get("traceparent", ""))).get_span_context()
    token = wanted.set((trace_id, int(span.span_id, 16)))
    try:
        made = _TRACER.start_span(
            span.name,
            context,
            kind=span.kind,
            attributes=dict(span.attributes),
            links=[Link(linked)] if linked.is_valid and linked.trace_id != trace_id else [],
            start_time=span.at_ns,
        )
    finally:
        wanted.reset(token)
    made.end(end_time=span.at_ns)
    return made.get_span_context().trace_flags


def _decided(span: WorkflowSpan) -> TraceFlags:
    """Whether the trace that it began is recorded, as it was decided then."""
    sampler = getattr(trace.get_tracer_provider(), "sampler", None)
    if sampler is None:  # there is nobody to record anything
        return TraceFlags(TraceFlags.DEFAULT)
    decided = sampler.should_sample(None, int(span.trace_id, 16), span.name)
    return TraceFlags(TraceFlags.SAMPLED if decided.decision.is_sampled() else TraceFlags.DEFAULT)
