"""No secret leaves in a log, a crash or a span, also not one that was read after the process began."""

import json

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode

from worker.config import load_settings
from worker.hidden import REMEMBERED, SECRETS, Secrets
from worker.hidden_spans import HidingExporter
from worker.secrets import secrets_of

PASSWORD = "open-sesame-9137"


@pytest.fixture
def sent():
    """A tracer, and what of its spans is sent."""
    sent = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(HidingExporter(sent, Secrets([PASSWORD]).hide)))
    return provider.get_tracer("ours"), sent.get_finished_spans


def ask(tracer):
    """A request that says the secret wherever a span may hold something."""
    with tracer.start_as_current_span(f"asking {PASSWORD}") as whole:
        whole.set_attributes({"asked": f"http://u:{PASSWORD}@h", "words": ("a", PASSWORD), "count": 3})
        whole.add_event("said", {"what": PASSWORD})
        with tracer.start_as_current_span("below") as below:
            below.set_status(Status(StatusCode.ERROR, f"no {PASSWORD}"))
        raise OSError(f"login {PASSWORD} refused")


def test_what_exceptions_say_leaves_in_spans_without_secrets(sent):
    tracer, spans = sent
    with pytest.raises(OSError, match=PASSWORD):
        ask(tracer)
    below, whole = spans()
    assert PASSWORD not in "".join(one.to_json() for one in (below, whole))
    assert (below.status.description, whole.status.description) == ("no ********", "OSError: login ******** refused")
    assert whole.name == "asking ********"
    assert dict(whole.attributes) == {"asked": "http://u:********@h", "words": ("a", "********"), "count": 3}
    said, raised = whole.events
    assert (said.name, dict(said.attributes)) == ("said", {"what": "********"})
    assert raised.attributes["exception.message"] == "login ******** refused"
    assert "OSError: login ******** refused" in raised.attributes["exception.stacktrace"]
    assert (below.parent.span_id, below.resource, below.end_time > below.start_time) == (
        whole.context.span_id,
        whole.resource,
        True,
    )


def test_a_span_without_a_secret_leaves_as_it_is(sent):
    tracer, spans = sent
    with tracer.start_as_current_span("asking") as span:
        span.set_attribute("words", ("a", "b"))
    assert spans()[0].to_json() == span.to_json()


def test_of_spans_that_leave_together_only_those_with_a_secret_are_changed():
    made, sent = InMemorySpanExporter(), InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(made))
    for words in (("a", "b"), ("c", PASSWORD), ("d",)):
        with provider.get_tracer("ours").start_as_current_span("asking", attributes={"words": words}):
            pass
    HidingExporter(sent, Secrets([PASSWORD]).hide).export(made.get_finished_spans())
    assert [one.attributes["words"] for one in sent.get_finished_spans()] == [("a", "b"), ("c", "********"), ("d",)]
    changed = [
        one is not other for one, other in zip(made.get_finished_spans(), sent.get_finished_spans(), strict=True)
    ]
    assert changed == [False, True, False]


def test_a_secret_of_a_file_is_hidden_from_when_it_was_read_and_so_is_what_takes_its_place(whole_config, monkeypatch):
    file = whole_config / "secret"
    file.write_text("q7w1-one-file\n")
    environments = whole_config / "environments.yaml"
    text = environments.read_text().replace("secret_key_env: TEST_SECRET_KEY", f"secret_key_file: {file}")
    environments.write_text(text)
    monkeypatch.setenv("TEST_ACCESS_KEY", "key-of-a-variable")
    settings = load_settings(whole_config)
    assert secrets_of(settings) == {"key-of-a-variable", "q7w1-one-file"}
    line = "q7w1-one-file, q7w2-other-file, key-of-a-variable"
    assert SECRETS.hide(line) == "********, q7w2-other-file, ********"
    file.write_text("q7w2-other-file\n")
    settings.environment("local").storage.secret_key.get_secret_value()
    # The one before still lets in for a while.
    assert SECRETS.hide(line) == "********, ********, ********"


def test_of_a_secret_that_is_replaced_again_and_again_the_last_ones_are_hidden_and_no_other_is_forgotten():
    secrets = Secrets(["that-of-a-variable"])
    names = [f"secret-{number:04}" for number in range(10 * REMEMBERED)]
    for name in names:
        secrets.learn(name, "/run/secrets/token")
    assert secrets.hide("that-of-a-variable") == "********"
    assert [name for name in names if secrets.hide(name) == name] == names[:-REMEMBERED]


def test_secrets_are_hidden_in_every_form_and_short_ones_hide_nothing_else():
    hide = Secrets(['key:se"cret-one', "abc", "", "prefix-secret", "prefix-secret-and-more"]).hide
    line = json.dumps({"event": 'se"cret-one abc prefix-secret-and-more prefix-secret'})
    assert json.loads(hide(line)) == {"event": "******** abc ******** ********"}
