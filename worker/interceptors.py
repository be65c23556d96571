"""Between Temporal and our code: one trace from whoever started work to all that is done for them.

Clients and activities are traced as Temporal's own interceptor does it. In workflows the ids of spans are derived from
the run and the number of the step, so that a replay comes to the same ids and records nothing; a workflow that nobody
handed a trace to begins one. What a span of a workflow means has no length: a run may live for days, or be terminated.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from opentelemetry.trace import SpanKind
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import OutboundInterceptor, QueryWorkflowInput
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.converter import PayloadConverter
from temporalio.exceptions import FailureError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ContinueAsNewInput,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    HandleSignalInput,
    SignalChildWorkflowInput,
    SignalExternalWorkflowInput,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from activities.contracts.causes import Cause, acting_for, current
from worker import bystanders
from worker.hidden_results import hidden_sentences
from worker.workflow_spans import WorkflowSpan, keep

HEADER = "_tracer-data"
"""Where Temporal's own interceptors put the trace."""
_KEEP = "icefleet_keep_span"
_CRASHED = "icefleet_crashed"
Headers = Mapping[str, Payload]


class FleetInterceptor(TracingInterceptor):
    """For clients and, through their client, for workers: traces, what logs and crash reports say, and no secrets."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002 - the base class's name
        """Trace what changes something; looks at a workflow's progress, one a second, would bury it."""
        return _Unseen(super().intercept_client(next), next)

    def intercept_activity(
        self,
        next: ActivityInboundInterceptor,  # noqa: A002
    ) -> ActivityInboundInterceptor:
        """Trace it, say in logs and crash reports what is going on, and let no secret into what it answers."""
        return super().intercept_activity(_Activity(next))

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type["_Workflow"]:  # type: ignore[override]  # noqa: A002
        """Ours: see the module."""
        functions = input.unsafe_extern_functions
        functions[_KEEP] = keep
        functions[_CRASHED] = bystanders.workflow_crashed
        return _Workflow


class _Unseen(OutboundInterceptor):
    def __init__(self, traced: OutboundInterceptor, untraced: OutboundInterceptor) -> None:
        super().__init__(traced)
        self._untraced = untraced

    async def query_workflow(self, input: QueryWorkflowInput) -> Any:  # noqa: A002
        return await self._untraced.query_workflow(input)


class _Activity(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        info = activity.info()
        with bystanders.of_activity(info, input.args):
            return hidden_sentences(await super().execute_activity(input))


@dataclass
class _Steps:
    """What one run has done so far, as far as spans tell."""

    run: Cause = field(default_factory=dict)
    """The span with which the run began."""
    count: int = 0
    subject: Mapping[str, str] = field(default_factory=dict)
    """What it is about."""


class _Workflow(WorkflowInboundInterceptor):
    def __init__(self, next: WorkflowInboundInterceptor) -> None:  # noqa: A002
        super().__init__(next)
        self._steps = _Steps()

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound, self._steps))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002
        self._steps.subject = bystanders.subject_of(input.args)
        bystanders.of_workflow(self._steps.subject)
        with acting_for(_run_span(self._steps)):
            # That it has ended is no span: a server to which something new was said meanwhile refuses the end.
            try:
                return await super().execute_workflow(input)
            except FailureError:
                raise
            except Exception as wrong:
                workflow.extern_functions()[_CRASHED](wrong, workflow.info())
                raise

    async def handle_signal(self, input: HandleSignalInput) -> None:  # noqa: A002
        _run_span(self._steps)
        bystanders.of_workflow(self._steps.subject or bystanders.found_by(workflow.info()))
        sender = _read(input.headers)
        with acting_for(_step(self._steps, f"HandleSignal:{input.signal}", sender, SpanKind.SERVER, root=not sender)):
            await super().handle_signal(input)


class _Outbound(WorkflowOutboundInterceptor):
    def __init__(self, next: WorkflowOutboundInterceptor, steps: _Steps) -> None:  # noqa: A002
        super().__init__(next)
        self._steps = steps

    def _told(self, name: str, headers: Headers) -> Headers:
        """Headers that bring what is begun here into the trace that it is begun for."""
        shared = current()
        span = _step(self._steps, name, shared, SpanKind.CLIENT, root=not shared)
        if not shared:
            shared |= span  # what follows on the same behalf belongs to it
        return _written(span, headers)

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:  # noqa: A002
        input.headers = self._told(f"StartActivity:{input.activity}", input.headers)
        return super().start_activity(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:  # noqa: A002
        input.headers = self._told(f"StartActivity:{input.activity}", input.headers)
        return super().start_local_activity(input)

    async def start_child_workflow(
        self,
        input: StartChildWorkflowInput,  # noqa: A002
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        input.headers = self._told(f"StartChildWorkflow:{input.workflow}", input.headers)
        return await super().start_child_workflow(input)

    async def signal_child_workflow(self, input: SignalChildWorkflowInput) -> None:  # noqa: A002
        input.headers = self._told(f"SignalChildWorkflow:{input.signal}", input.headers)
        await super().signal_child_workflow(input)

    async def signal_external_workflow(self, input: SignalExternalWorkflowInput) -> None:  # noqa: A002
        input.headers = self._told(f"SignalExternalWorkflow:{input.signal}", input.headers)
        await super().signal_external_workflow(input)

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:  # noqa: A002
        # On nobody's behalf: the next run begins a trace of its own, as a loop that never ends must.
        input.headers = _written(current(), input.headers)
        super().continue_as_new(input)


def _run_span(steps: _Steps) -> Cause:
    """The span with which this run began; a signal may be heard before the run's own code."""
    if not steps.run:
        info = workflow.info()
        handed = _read(info.headers)
        steps.run = _step(steps, f"RunWorkflow:{info.workflow_type}", handed, SpanKind.SERVER, root=not handed)
    return steps.run


def _step(
    steps: _Steps,
    name: str,
    parent: Cause,
    kind: SpanKind,
    *,
    root: bool = False,
) -> Cause:
    """Keep the next span of this run, unless it was kept before; answers it for what it leads to."""
    info = workflow.info()
    number, steps.count = steps.count, steps.count + 1
    # Of the run comes its seed, not its id: one that is reset goes through steps of the run before it as a replay does,
    # and has a seed of its own from there on. The name is part of it as well: a task that is done again may find a
    # signal that it did not find before.
    told = f"{info.workflow_id} {workflow.random_seed()} {number} {name}"
    digest = hashlib.sha256(told.encode()).hexdigest()
    span = WorkflowSpan(
        name=name,
        kind=kind,
        trace_id=digest[:32] if root else "",
        span_id=digest[32:48],
        parent=parent,
        link=steps.run if root or kind is SpanKind.SERVER else {},
        attributes={"temporalWorkflowID": info.workflow_id, "temporalRunID": info.run_id, "icefleet.step": number},
        at_ns=workflow.time_ns(),
        replayed=workflow.unsafe.is_replaying(),
    )
    kept: Cause = workflow.extern_functions()[_KEEP](span)
    return kept


def _read(headers: Headers) -> Cause:
    if HEADER not in headers:
        return {}
    (carrier,) = PayloadConverter.default.from_payloads([headers[HEADER]])
    return {str(name): str(value) for name, value in carrier.items()} if isinstance(carrier, dict) else {}


def _written(cause: Cause, headers: Headers) -> Headers:
    others = {name: payload for name, payload in headers.items() if name != HEADER}
    return {**others, HEADER: PayloadConverter.default.to_payloads([dict(cause)])[0]} if cause else others
