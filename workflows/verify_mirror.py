"""Holding a mirror against its changelog: start this, under any id, and read the report. The loop goes on meanwhile."""

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.contracts.export import ENVIRONMENT_ATTRIBUTE
from activities.contracts.inputs import bad_request, read_only_input
from activities.contracts.mirrors import (
    VERIFY_MIRROR_WORKFLOW,
    MirrorActivities,
    VerifyMirrorInput,
    VerifyMirrorReport,
)
from workflows.door import told
from workflows.policies import COMPARE
from workflows.queues import queues_of


@workflow.defn(name=VERIFY_MIRROR_WORKFLOW)
class VerifyMirror:
    """Compare a mirror with the fold of its changelog, whole or in ranges of keys chosen at random."""

    @workflow.run
    async def run(self, *payloads: Any) -> VerifyMirrorReport:
        """Run to the report, which also says what differs; this run fails only when nothing could be compared."""
        asked = read_only_input(VerifyMirrorInput, payloads)
        if asked.ranges < 1 or not 0 <= asked.samples <= asked.ranges:
            raise bad_request(
                f"field 'ranges' must be at least 1 and 'samples' between 0 (all) and 'ranges'; "
                f"they are {asked.ranges} and {asked.samples}"
            )
        workflow.upsert_search_attributes([ENVIRONMENT_ATTRIBUTE.value_set(asked.environment)])
        try:
            report: VerifyMirrorReport = await workflow.execute_activity_method(
                MirrorActivities.verify_mirror,
                asked,
                task_queue=(await queues_of(asked.environment)).mirrors,
                summary=f"{asked.samples} of {asked.ranges} ranges" if asked.samples else "everything",
                **COMPARE,
            )
        except ActivityError as failure:
            raise told(failure) from failure
        return report
