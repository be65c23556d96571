"""Spans of what is asked of other parts are made later, and are what they would have been at once."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from temporalio.testing import ActivityEnvironment

from activities import noted, spans
from worker import traces
from worker.bystanders import of_activity
from worker.span_ids import DecidedIds


@pytest.fixture
def provider(monkeypatch):
    """Of the spans that are made within the test."""
    noted.make_spans()
    provider = TracerProvider(
        shutdown_on_exit=False, id_generator=DecidedIds(), span_limits=SpanLimits(max_attribute_length=5)
    )
    monkeypatch.setattr(spans, "_TRACER", provider.get_tracer("tests"))
    yield provider
    noted.make_spans()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def sent(provider):
    """What answers the spans that were sent so far."""
    sent = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(sent))
    return sent.get_finished_spans


@pytest.fixture
def asking(provider, sent):
    """Within is a span that is recorded, such as an activity's."""
    with provider.get_tracer("tests").start_as_current_span("activity") as asking:
        yield asking


def test_a_span_that_is_made_later_says_when_and_what_was_asked_by_whom_and_how_it_ended(asking, sent):
    request = spans.start("clickhouse query", **{"db.system.name": "clickhouse"})
    request.set_attribute("rows", 3)
    request.set_attributes({"more": ("a", "b")})
    assert request.is_recording()
    spans.end(request, "KeyError")
    spans.end(request, "again")
    assert (request.is_recording(), sent()) == (False, ())
    with spans.request("second"):
        pass
    noted.make_spans()
    first, second = sent()
    assert (first.name, first.kind, second.name) == ("clickhouse query", SpanKind.CLIENT, "second")
    assert first.parent == second.parent == asking.get_span_context()
    assert first.context.trace_id == asking.get_span_context().trace_id
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, "KeyError")
    # The SDK's own limits hold: five letters.
    assert dict(first.attributes) == {"db.system.name": "click", "rows": 3, "more": ("a", "b")}
    assert asking.start_time <= first.start_time <= first.end_time <= second.start_time <= second.end_time
    assert second.status.status_code is StatusCode.UNSET


def test_the_span_that_an_asked_part_was_told_of_is_the_one_that_is_sent(asking, sent):
    told = []
    for _ in range(3):
        with spans.request("catalog GET") as request:
            told.append(spans.headers(request)["traceparent"])
        with spans.request("objectstore GetObject"):
            pass
    noted.make_spans()
    catalog = [one.context for one in sent() if one.name == "catalog GET"]
    assert told == [f"00-{one.trace_id:032x}-{one.span_id:016x}-{one.trace_flags:02x}" for one in catalog]
    assert len({one.context.span_id for one in sent()}) == 6


def test_below_what_is_not_recorded_nothing_is_noted_and_the_ids_are_those_of_the_asking(provider, sent):
    asking = trace.NonRecordingSpan(trace.SpanContext(7, 8, is_remote=False))
    with trace.use_span(asking), spans.request("catalog GET") as request:
        assert request.get_span_context() == asking.get_span_context()
    noted.make_spans()
    assert sent() == ()


def test_no_more_than_some_wait_and_none_for_long(asking, sent):
    for number in range(1, noted.MANY + 1):
        assert sent() == ()
        spans.end(spans.start(str(number)))
    assert [one.name for one in sent()] == [str(number) for number in range(1, noted.MANY + 1)]
    waits, later = spans.start("waits"), spans.start("later")
    spans.end(waits)
    assert len(sent()) == noted.MANY
    later.end(sent()[-1].end_time + 2 * noted.LONG_NS)
    assert [one.name for one in sent()][noted.MANY :] == ["waits", "later"]


def test_each_request_is_one_span_whatever_threads_end_them(asking, sent):
    names = [str(number) for number in range(2000)]

    def ask(name):
        with trace.use_span(asking), spans.request(name):
            pass

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, names))
    noted.make_spans()
    assert Counter(one.name for one in sent()) == Counter(names)


def test_where_an_activity_ends_so_do_the_spans_of_what_it_asked(asking, sent):
    with (
        pytest.raises(KeyError),
        of_activity(ActivityEnvironment.default_info(), []),
        spans.request("catalog GET"),
    ):
        raise KeyError
    assert [one.name for one in sent()] == ["catalog GET"]


def test_a_process_that_leaves_sends_what_was_still_noted(asking, sent, provider, monkeypatch):
    monkeypatch.setattr(traces.trace, "get_tracer_provider", lambda: provider)
    with spans.request("catalog GET"):
        pass
    traces.flush_traces()
    assert [one.name for one in sent()] == ["catalog GET"]
