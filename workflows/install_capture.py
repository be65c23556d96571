"""Setting a pipeline up and taking it down: what is made at the source, and the loops that work on it."""

from collections.abc import Awaitable
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from activities.contracts.cdc import (
    CAPTURE,
    INGEST,
    INSTALL_WORKFLOW,
    RESUME_SIGNAL,
    UNINSTALL_WORKFLOW,
    CdcActivities,
    ChangelogsInput,
    InstallReport,
    InstallRequest,
    LoopSignal,
    StopInput,
    UninstallReport,
    UninstallRequest,
)
from activities.contracts.export import ENVIRONMENT_ATTRIBUTE, WHO_MUST_ACT
from activities.contracts.inputs import read_only_input
from workflows.door import told
from workflows.failures import cause_of
from workflows.policies import ANNOUNCE_LAST, DELIVER, INSTALL, STOP_LOOPS

T = TypeVar("T")


@workflow.defn(name=INSTALL_WORKFLOW)
class InstallCapture:
    """Set up buffer, publication, slot and trigger; then have capture and ingest run, and go on if they waited."""

    @workflow.run
    async def run(self, *payloads: Any) -> InstallReport:
        """Run to the report. Whatever is there stays, so it may run again at any time."""
        request = read_only_input(InstallRequest, payloads)
        workflow.upsert_search_attributes([ENVIRONMENT_ATTRIBUTE.value_set(request.environment)])
        report: InstallReport = await _done(
            workflow.execute_activity_method(
                CdcActivities.install_capture,
                request,
                summary=f"{len(request.tables)} tables" if request.tables else "the buffer",
                **INSTALL,
            )
        )
        for loop in ([CAPTURE] if report.slot else []) + [INGEST]:
            signal = LoopSignal(request.environment, request.pipeline, loop, RESUME_SIGNAL)
            await _done(
                workflow.execute_activity_method(CdcActivities.signal_loop, signal, summary=f"run {loop}", **DELIVER)
            )
        return report


@workflow.defn(name=UNINSTALL_WORKFLOW)
class UninstallCapture:
    """End the capture, and the ingest if the buffer is to go; then remove what was made at the source.

    With the ingest goes whoever would announce what it committed last, so that is done first.
    """

    @workflow.run
    async def run(self, *payloads: Any) -> UninstallReport:
        """Run to the report. What is in the buffer is still ingested, unless the buffer is dropped."""
        request = read_only_input(UninstallRequest, payloads)
        workflow.upsert_search_attributes([ENVIRONMENT_ATTRIBUTE.value_set(request.environment)])
        loops = [CAPTURE, INGEST] if request.drop_buffer else [CAPTURE]
        stop = StopInput(request.environment, request.pipeline, loops)
        await _done(
            workflow.execute_activity_method(
                CdcActivities.stop_loops, stop, summary=f"stop {' and '.join(loops)}", **STOP_LOOPS
            )
        )
        if request.drop_buffer:
            await _announce_last(request)
        return await _done(
            workflow.execute_activity_method(CdcActivities.uninstall_capture, request, summary="remove", **INSTALL)
        )


async def _announce_last(request: UninstallRequest) -> None:
    """Announce what the ingest had no time for; where that fails, nothing is removed."""
    everything = ChangelogsInput(request.environment, request.pipeline, [])
    try:
        await workflow.execute_activity_method(
            CdcActivities.announce_changelogs, everything, summary="what was committed last", **ANNOUNCE_LAST
        )
    except ActivityError as failure:
        if is_cancelled_exception(failure):
            raise told(failure) from failure
        cause, message, who = cause_of(failure)
        raise ApplicationError(
            f"{message}. What pipeline {request.pipeline} committed last is not announced, and nobody would do it once "
            "the buffer is gone: that and all else is left, and the loops have ended. Uninstall again when this is "
            "mended, or have the pipeline go on (`icefleet cdc resume`)",
            {WHO_MUST_ACT: who},
            type=cause,
            non_retryable=True,
        ) from failure


async def _done(work: Awaitable[T]) -> T:
    """An activity's answer; a failure of it is what this run itself fails with."""
    try:
        return await work
    except ActivityError as failure:
        raise told(failure) from failure
