"""No span leaves with a secret in it: what libraries say in exceptions, and thereby in spans, is theirs to decide."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
        # In nearly all batches there is nothing to hide, which one look at all of them tells.
        if self._is_in(spans):
            spans = [_without(span, self._hide) if self._is_in([span]) else span for span in spans]
        return self._to.export(spans)

    def _is_in(self, spans: Sequence[ReadableSpan]) -> bool:
        said = "\n".join(chain.from_iterable(map(_texts, spans)))
        return self._hide(said) != said

    def shutdown(self) -> None:
        """Nothing comes any more."""
        self._to.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what the other one still has."""
        return self._to.force_flush(timeout_millis)


def _texts(span: ReadableSpan) -> Iterator[str]:
    """Everything that is said in a span."""
    yield span.name
    yield span.status.description or ""
    yield from _texts_in((span.attributes or {}).values())
    for event in span.events:
        yield event.name
        yield from _texts_in((event.attributes or {}).values())


def _texts_in(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _texts_in(value.values())
        elif isinstance(value, list | tuple):
            yield from _texts_in(value)


def _without(span: ReadableSpan, hide: Hide) -> ReadableSpan:
    events, status = span.events, span.status
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
