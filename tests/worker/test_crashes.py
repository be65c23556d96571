"""What reaches Sentry, over its own transport, and what every line of a log says of itself."""

import gzip
import json
import re
import sys
import threading
import uuid
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from deploy.local.stack import Stack
from support.collector import collecting
from support.fleet import eventually
from support.processes import running

ROOT = Path(__file__).parents[1]
PASSWORD = "open-sesame-9137"  # that of the script


class Sentry:
    """What came, by kind of item."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.raw = b""
        sentry = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                sentry.raw += body
                lines = body.split(b"\n")
                kinds = [json.loads(line).get("type") for line in lines[1::2] if line]
                sentry.events += [json.loads(lines[2 * n + 2]) for n, kind in enumerate(kinds) if kind == "event"]
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://public@127.0.0.1:{self.server.server_address[1]}/1"


@dataclass(frozen=True)
class Trouble:
    """A run that failed in every way."""

    sentry: Sentry
    spans: bytes
    log: list[dict[str, Any]]
    text: str
    histories: bytes

    def lines(self, said: str) -> list[dict[str, Any]]:
        return [line for line in self.log if said in str(line["event"])]


@pytest.fixture(scope="module")
async def trouble(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Trouble:
    sentry = Sentry()
    threading.Thread(target=sentry.server.serve_forever, daemon=True).start()
    address, queue = f"127.0.0.1:{stack.ports['temporal']}", f"troubled-{uuid.uuid4().hex[:8]}"
    log = tmp_path_factory.mktemp("trouble") / "worker.log"
    variables = {"SENTRY_DSN": sentry.dsn, "APP_VERSION": "7.8.9", "LOG_LEVEL": "info", "LOG_FORMAT": "json"}
    path = ":".join(str(ROOT.parent / one) for one in (".", "proto", "tests"))
    command = [sys.executable, "-c", "from support.troubled_worker import run; run()", address, queue]
    client = await Client.connect(address)
    with collecting() as collector:
        variables |= collector.variables(PYTHONPATH=path, PATH="/usr/bin:/bin")
        async with running(command, variables, log):
            asked = {"environment": "testing", "table": "events", "network": "mainnet", "ending": "refused"}
            with pytest.raises(WorkflowFailureError):
                await client.execute_workflow("Troubled", asked, id=queue, task_queue=queue)
            crashing = await client.start_workflow(
                "Troubled", {**asked, "ending": "crash"}, id=f"{queue}-crash", task_queue=queue
            )
            await eventually(lambda: any(_what(event) == "LookupError" for event in sentry.events))
            await eventually(lambda: _has_failed_a_task(crashing))
            await crashing.terminate("the test is over")
    histories = [await client.get_workflow_handle(one).fetch_history() for one in (queue, crashing.id)]
    kept = b"".join(event.SerializeToString() for history in histories for event in history.events)
    sentry.server.shutdown()
    text = log.read_text()
    return Trouble(sentry, collector.raw, [json.loads(line) for line in text.splitlines()], text, kept)


async def _has_failed_a_task(handle: WorkflowHandle[Any, Any]) -> bool:
    history = await handle.fetch_history()
    return any(event.HasField("workflow_task_failed_event_attributes") for event in history.events)


def _what(event: dict[str, Any]) -> str:
    return str(event["exception"]["values"][-1]["type"])


def test_crashes_are_sent_and_nothing_that_a_user_or_an_operator_must_mend_nor_everyday_life(trouble):
    assert {_what(event) for event in trouble.sentry.events} == {"KeyError", "ResultIncomplete", "LookupError"}


def test_a_crash_says_what_it_belongs_to(trouble):
    event = next(event for event in trouble.sentry.events if _what(event) == "KeyError")
    assert (event["release"], event["environment"]) == ("7.8.9", "testing")
    tags = event["tags"]
    assert (tags["service"], tags["workflow"], tags["activity"]) == ("icefleet-worker", "Troubled", "crash")
    assert tags["table"] == "mainnet.events"
    (broken, *_) = [event["tags"] for event in trouble.sentry.events if _what(event) == "LookupError"]
    assert broken["workflow"] == "Troubled"


def test_a_crash_holds_no_local_variable_and_no_secret(trouble):
    frames = [
        frame
        for event in trouble.sentry.events
        for value in event["exception"]["values"]
        for frame in value["stacktrace"]["frames"]
    ]
    assert frames
    assert [frame for frame in frames if "vars" in frame] == []
    assert b"somebody" not in trouble.sentry.raw
    assert PASSWORD.encode() not in trouble.sentry.raw


def test_a_span_of_what_failed_holds_no_secret_that_an_exception_told(trouble):
    assert b"'******** opens nothing'" in trouble.spans
    assert PASSWORD.encode() not in trouble.spans


def test_a_history_holds_no_secret_that_an_exception_told(trouble):
    """Of an activity, of a workflow that ends with it, and of one whose code fails."""
    assert b"KeyError: '******** opens nothing'" in trouble.histories
    assert b"a mistake in a workflow: ********" in trouble.histories
    assert b'"asked":"********"' in trouble.histories
    assert PASSWORD.encode() not in trouble.histories


def test_every_line_of_an_activity_says_where_it_belongs_also_those_of_threads_and_of_temporal(trouble):
    said = ("from the activity", "from structlog", "from a thread", "Completing activity as failed")
    for line in [line for words in said for line in trouble.lines(words)]:
        assert line["workflow"] == "Troubled"
        assert line["workflow_id"].startswith("troubled-")
        assert re.fullmatch(r"[0-9a-f-]{36}", line["run_id"])
        assert line["activity"] in {"say", "crash", "refuse", "lose", "misjudge"}
        assert (line["table"], line["attempt"]) == ("mainnet.events", 1)
        assert re.fullmatch(r"[0-9a-f]{32} [0-9a-f]{16}", f"{line['trace_id']} {line['span_id']}")
    assert [len(trouble.lines(words)) for words in said[:3]] == [2, 2, 2]
    assert len(trouble.lines(said[3])) >= 6


def test_every_line_of_a_workflow_says_where_it_belongs(trouble):
    lines = trouble.lines("from the workflow")
    assert len({line["workflow_id"] for line in lines}) == 2
    for line in lines:
        assert (line["workflow"], line["table"]) == ("Troubled", "mainnet.events")
        assert re.fullmatch(r"[0-9a-f]{32} [0-9a-f]{16}", f"{line['trace_id']} {line['span_id']}")


def test_a_secret_that_is_logged_all_the_same_is_hidden(trouble):
    assert PASSWORD not in trouble.text
    assert {line["password"] for line in trouble.lines("from structlog")} == {"********"}
