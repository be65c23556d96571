"""The first copy of one table. It is a workflow of its own, so that a copy of hours outlives the loop's runs."""

import asyncio
from dataclasses import asdict
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, is_cancelled_exception

from activities.contracts.cdc import (
    COPIED_SIGNAL,
    COPY_WORKFLOW,
    INGEST_WORKFLOW,
    CdcActivities,
    CopyInput,
    CopyReport,
    copy_id,
    ingest_id,
)
from activities.contracts.export import ENVIRONMENT_ATTRIBUTE
from activities.contracts.inputs import read_only_input
from workflows.door import told
from workflows.failures import cause_of
from workflows.policies import COPY


@workflow.defn(name=COPY_WORKFLOW)
class CopyTable:
    """Copy a table, and tell the pipeline's ingest what became of it."""

    @workflow.run
    async def run(self, *payloads: Any) -> CopyReport:
        """Run to the report."""
        copy = read_only_input(CopyInput, payloads)
        expected = copy_id(copy.environment, copy.pipeline, copy.table)
        if workflow.info().workflow_id != expected:
            raise ApplicationError(
                f"{COPY_WORKFLOW} runs only as {expected!r}, so that a table is copied once; {INGEST_WORKFLOW} starts "
                "it for every table that waits for its copy. `icefleet cdc install --again` has one copied anew",
                type="WrongDoor",
                non_retryable=True,
            )
        workflow.upsert_search_attributes([ENVIRONMENT_ATTRIBUTE.value_set(copy.environment)])
        try:
            report: CopyReport = await workflow.execute_activity_method(
                CdcActivities.copy_table, copy, summary=copy.table, **COPY
            )
        except ActivityError as failure:
            if is_cancelled_exception(failure):
                raise asyncio.CancelledError from failure
            cause, message, who = cause_of(failure)
            words = f"{cause}: {message} (who must act: {who})"
            await _tell(copy, CopyReport(copy.table, "", 0, 0, "", "", failed=words))
            raise told(failure) from failure
        await _tell(copy, report)
        return report


async def _tell(copy: CopyInput, report: CopyReport) -> None:
    loop = workflow.get_external_workflow_handle(ingest_id(copy.environment, copy.pipeline))
    try:
        await loop.signal(COPIED_SIGNAL, asdict(report))
    except (ApplicationError, CancelledError) as gone:
        workflow.logger.info("no ingest waits for the copy of %s: %s", copy.table, gone)
