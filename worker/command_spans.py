"""Spans of commands: what people start begins with them, and what they listen to goes on there."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from worker.traces import exporter_of, flush_traces, problems_of_traces, set_up_traces

LASTING = frozenset({"worker", "local", "watch", "demo"})
"""Commands that go on until somebody ends them: what they do is no part of one trace."""

GROUPS = frozenset({"backfill", "cdc", "config", "mirrors", "schedules", "temporal"})
"""Commands of which the second word says what is done."""

SAMPLED = frozenset("13579bdf")
"""The last digit of a traceparent whose trace is recorded."""


@contextlib.contextmanager
def of_command(words: Sequence[str], variables: Mapping[str, str] = os.environ) -> Iterator[None]:
    """The command is a span, with which a trace begins; with tracing off nothing is loaded for it.

    Leaves with exit code 2 when the variables that say where spans go cannot be understood. A worker looks for itself.
    """
    if not exporter_of(variables) or words[:1] == ["worker"]:
        yield
        return
    if wrong := problems_of_traces(variables):
        sys.stderr.write("".join(f"error: {one}\n" for one in wrong))
        raise SystemExit(2)
    # A collector that is away is said once, and not with each try.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    from opentelemetry import trace  # noqa: PLC0415 - a command that is not traced need not load it

    said = {"service.name": "icefleet", "service.version": variables.get("APP_VERSION", "")}
    said["deployment.environment.name"] = _environment(words) or variables.get("ICEFLEET_ENVIRONMENT", "")
    set_up_traces(variables, {name: value for name, value in said.items() if value})
    try:
        if words[:1] and words[0] in LASTING:
            yield
            return
        with trace.get_tracer("icefleet").start_as_current_span(_name(words)):
            yield
    finally:
        flush_traces()


def _name(words: Sequence[str]) -> str:
    """`icefleet export`, `icefleet cdc resume`: the same commands are found together."""
    named = 2 if words[:1] and words[0] in GROUPS else 1
    return " ".join(["icefleet", *(word for word in words[:named] if not word.startswith("-"))])


def _environment(words: Sequence[str]) -> str:
    return next((value for option, value in pairwise(words) if option in {"-e", "--environment"}), "")


@contextlib.contextmanager
def heard(subject: str, traceparent: str) -> Iterator[str]:
    """Go on in the trace of a message; answers the trace's id if it is recorded, else nothing.

    Inside, the message's receipt is the current span.
    """
    if not exporter_of(os.environ):
        _, trace_id, _, flags = traceparent.split("-") if traceparent.count("-") == 3 else [""] * 4  # noqa: PLR2004 - W3C
        yield trace_id if flags[-1:] in SAMPLED else ""
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    from activities import spans  # noqa: PLC0415

    with spans.message(SpanKind.CONSUMER, subject, traceparent):
        yield spans.trace_id()
