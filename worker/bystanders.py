"""What logs, spans and crash reports say of the work that goes on: which workflow, activity, table and partition."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog
from opentelemetry import trace
from temporalio import activity, workflow

from activities.contracts.export import ENVIRONMENT_ATTRIBUTE, NETWORK_ATTRIBUTE, TABLE_ATTRIBUTE
from activities.noted import make_spans
from worker import crashes
from worker.logs import ids_of

SAID = {
    "table": "table",
    "network": "network",
    "mirror": "mirror",
    "changelog": "changelog",
    "pipeline": "pipeline",
    "environment": "environment",
}
"""Fields of what a workflow or an activity is asked → what they are called."""


def subject_of(args: Sequence[Any]) -> dict[str, str]:
    """What the input of a workflow or an activity is about; `table` is the Iceberg table's own name.

    `partition` is there when it is about one.
    """
    if not args:
        return {}
    asked = _fields(args[0])
    inner = _fields(asked.get("request"))  # of one that is on its way to its table's loop
    found = {
        name: value
        for field, name in SAID.items()
        if isinstance(value := asked.get(field) or inner.get(field), str) and value
    }
    if "table" in found and "network" in found:
        found["table"] = f"{found.pop('network')}.{found['table']}"
    planned = asked.get("planned")
    if isinstance(planned, list) and len(planned) == 1:
        found["partition"] = str(getattr(planned[0], "partition", ""))
    return found


def _fields(asked: Any) -> Mapping[str, Any]:
    if isinstance(asked, Mapping):
        return asked
    if dataclasses.is_dataclass(asked) and not isinstance(asked, type):
        return {field.name: getattr(asked, field.name) for field in dataclasses.fields(asked)}
    return {}


@contextlib.contextmanager
def of_activity(info: activity.Info, args: Sequence[Any]) -> Iterator[None]:
    """Whatever the activity's task logs from now on, also in threads, says what it belongs to; so does its span."""
    subject = subject_of(args)
    run = {"workflow": info.workflow_type or "", "workflow_id": info.workflow_id or ""}
    run |= {"run_id": info.workflow_run_id or "", "activity": info.activity_type}
    span = trace.get_current_span()
    if span.is_recording():
        told = {f"icefleet.{name}": value for name, value in subject.items()}
        span.set_attributes({"temporalAttempt": info.attempt, **told})
    # Not only inside: Temporal itself logs how it ended.
    structlog.contextvars.bind_contextvars(**run, attempt=info.attempt, **subject, **ids_of(span))
    try:
        yield
    except Exception as failed:
        crashes.report(failed, {**run, **subject})
        raise
    finally:
        make_spans()


def of_workflow(subject: Mapping[str, str]) -> None:
    """Whatever the current task of a workflow logs from now on, and tasks that it begins, says what it belongs to."""
    info = workflow.info()
    structlog.contextvars.bind_contextvars(
        workflow=info.workflow_type, workflow_id=info.workflow_id, run_id=info.run_id, **subject
    )


def found_by(info: workflow.Info) -> dict[str, str]:
    """What a workflow is about, by the attributes by which it is found: a signal may be heard before its input."""
    attributes = info.typed_search_attributes
    names = {"environment": ENVIRONMENT_ATTRIBUTE, "table": TABLE_ATTRIBUTE, "network": NETWORK_ATTRIBUTE}
    return subject_of([{name: attributes.get(key, "") for name, key in names.items()}])


def workflow_crashed(wrong: Exception, info: workflow.Info) -> None:
    """A mistake in a workflow's code: Temporal tries the task again and again, until code is there that can do it."""
    tags = {"workflow": info.workflow_type, "workflow_id": info.workflow_id, "run_id": info.run_id}
    crashes.report_apart(wrong, tags)
