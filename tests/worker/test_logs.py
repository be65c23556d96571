"""How logs look, and what of telemetry's variables is refused."""

import json
import logging
import subprocess
import sys

import pytest

from activities.contracts.adopt import AdoptRequest
from activities.contracts.export import PartitionsInput, PlannedPartition, SubmittedRequest
from activities.core.faults import BadConfig
from worker.bystanders import subject_of
from worker.telemetry import set_up_telemetry
from worker.traces import exporter_of

_LINE = """
import logging, sys
from worker.logs import set_up_logs
set_up_logs(dict(pair.split("=") for pair in sys.argv[1:]), secrets=["a:hunter2hunter2"])
try:
    password = "swordfish"
    raise KeyError("é")
except KeyError:
    logging.getLogger("ours").exception("it failed with hunter2hunter2")
logging.getLogger("ours").debug("a detail")
"""


_OFF = """
import sys
from opentelemetry import trace
from activities import spans
from worker.command_spans import of_command
from worker.telemetry import set_up_telemetry
with of_command(["export"], {}):
    pass
set_up_telemetry("local", service="icefleet-worker", variables={})
with trace.get_tracer("ours").start_as_current_span("an activity") as span:
    asked = spans.start("a request")
    same = asked.get_span_context() == span.get_span_context()
    print(span.is_recording(), asked is not span, len(spans.trace_id()), same)
print(*sorted(name for name in sys.modules if name.startswith(("opentelemetry.exporter", "sentry_sdk"))))
"""


def test_what_nobody_asked_for_is_neither_loaded_nor_recorded_but_there_are_ids():
    ended = subprocess.run([sys.executable, "-c", _OFF], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.splitlines() == ["False True 32 True", ""]


def logged(*variables):
    command = [sys.executable, "-c", _LINE, *variables]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr


def test_what_no_terminal_reads_is_json_with_the_stack_in_one_line():
    (line,) = logged().splitlines()
    said = json.loads(line)
    assert (said["event"], said["level"], said["logger"]) == ("it failed with ********", "error", "ours")
    assert "KeyError: 'é'" in said["exception"]
    assert "swordfish" not in said["exception"].replace('password = "swordfish"', "")


def test_a_person_may_have_lines_that_can_be_read_and_details():
    text = logged("LOG_FORMAT=console", "LOG_LEVEL=debug")
    assert "it failed with ********" in text
    assert "Traceback (most recent call last)" in text
    assert "a detail" in text
    assert "swordfish" not in text


def test_variables_that_cannot_be_are_named_all_at_once():
    variables = {
        "LOG_LEVEL": "loud",
        "LOG_FORMAT": "xml",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "SENTRY_DSN": "nowhere",
    }
    with pytest.raises(BadConfig) as refused:
        set_up_telemetry("local", service="icefleet-worker", variables=variables)
    assert [line.split()[0] for line in str(refused.value).splitlines()] == [
        "LOG_LEVEL",
        "LOG_FORMAT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "SENTRY_DSN",
    ]
    assert logging.getLogger().handlers is not None


@pytest.mark.parametrize(
    ("variables", "exporter"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, ""),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, ""),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318/v1/metrics"}, ""),
    ],
)
def test_the_standard_variables_say_whether_and_where_spans_go(variables, exporter):
    assert exporter_of(variables) == exporter


def test_what_work_is_about_is_seen_in_its_input():
    planned = [PlannedPartition("2024-03-20", "missing")]
    partitions = PartitionsInput("local", "blocks", "mainnet", "id", planned)
    about = {"environment": "local", "table": "mainnet.blocks"}
    assert subject_of([partitions]) == {**about, "partition": "2024-03-20"}
    assert subject_of([PartitionsInput("local", "blocks", "mainnet", "id", planned * 2)]) == about
    asked = {"environment": "local", "table": "blocks", "network": "mainnet"}
    assert subject_of([SubmittedRequest("id", "", asked)]) == about
    assert subject_of([asked]) == about
    assert subject_of([{"environment": "local", "mirror": "shop.orders"}]) == {
        "environment": "local",
        "mirror": "shop.orders",
    }
    assert subject_of([]) == subject_of(["text"]) == subject_of([AdoptRequest]) == {}
