"""What activities ask of the world, as spans of an activity that is recorded in this process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from activities import spans
from activities.noted import make_spans
from worker.span_ids import DecidedIds


@contextmanager
def recorded() -> Iterator[Callable[[], list[ReadableSpan]]]:
    """Within is an activity; yields what answers the spans below it that have ended, in that order."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False, id_generator=DecidedIds())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tests")
    with pytest.MonkeyPatch.context() as patch, tracer.start_as_current_span("activity") as activity:
        patch.setattr(spans, "_TRACER", tracer)

        def below() -> list[ReadableSpan]:
            make_spans()
            found = list(exporter.get_finished_spans())
            assert {one.parent and one.parent.span_id for one in found} <= {activity.get_span_context().span_id}
            return found

        yield below
