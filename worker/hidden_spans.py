"""No span leaves with a secret in it: what libraries say in exceptions, and thereby in spans, is theirs to decide."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Status
from opentelemetry.util.types import Attributes

from worker.hidden import hidden_in

Hide = Callable[[str], str]


class HidingExporter(SpanExporter):
    """Sends what another exporter would, without what `hide` takes out of texts."""

    def __init__(self, to: SpanExporter, hide: Hide) -> None:
        self._to = to
        self._hide = hide

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans."""
        return self._to.export([_without(span, self._hide) for span in spans])

    def shutdown(self) -> None:
        """Nothing comes any more."""
        self._to.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what the other one still has."""
        return self._to.force_flush(timeout_millis)


def _without(span: ReadableSpan, hide: Hide) -> ReadableSpan:
    """The span itself where nothing in it is to be hidden, as in nearly all."""
    events, status = span.events, span.status
    attributes = [span.attributes, *(event.attributes for event in events)]
    said: list[Any] = [span.name, status.description or "", *(event.name for event in events)]
    said += chain.from_iterable((one or {}).values() for one in attributes)
    if hidden_in(said, hide) == said:
        return span
    return ReadableSpan(
        name=hide(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_attributes(span.attributes, hide),
        events=[Event(hide(event.name), _attributes(event.attributes, hide), event.timestamp) for event in events],
        links=span.links,
        kind=span.kind,
        status=Status(status.status_code, hide(status.description)) if status.description else status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _attributes(said: Attributes, hide: Hide) -> Attributes:
    return {name: hidden_in(value, hide) for name, value in (said or {}).items()}
