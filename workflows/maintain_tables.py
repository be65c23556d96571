"""The door for keeping many tables in order: asks each table's loop, a few at a time, and sums up what they say."""

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ChildWorkflowError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)
from temporalio.exceptions import TimeoutError as TemporalTimeout

from activities.contracts.cdc import KEEP_WORKFLOW, KeepRequest
from activities.contracts.export import (
    ENVIRONMENT_ATTRIBUTE,
    PROGRESS_QUERY,
    UPKEEP_WORKFLOW,
    ExportActivities,
)
from activities.contracts.inputs import read_only_input, write_input
from activities.contracts.maintain import (
    EXPORT,
    MAINTAIN_WORKFLOW,
    MIRROR,
    TABLES_PER_RUN,
    MaintainedTable,
    MaintainReport,
    MaintainRequest,
)
from activities.contracts.mirrors import MAINTAIN_SIGNAL, MERGE_ONCE_WORKFLOW, MergeOnceRequest, OrderReport
from activities.contracts.upkeep import UpkeepReport, UpkeepRequest
from workflows.door import told
from workflows.failures import cause_of
from workflows.maintained import Maintained, Outcome
from workflows.policies import MAINTAIN_ONE, RESOLVE_MAINTENANCE


@workflow.defn(name=MAINTAIN_WORKFLOW)
class MaintainTables:
    """One door of a table's loop for each table; what fails keeps no other table from being kept in order."""

    def __init__(self) -> None:
        self._asked = MaintainRequest()
        self._state = Maintained()
        self._silent: dict[str, str] = {}
        """Kind of table → one whose upkeep never ended: with the others of the kind nobody waits for that again."""

    @workflow.run
    async def run(self, *payloads: Any) -> MaintainReport:
        """Run to the report, or continue as new when many tables are done."""
        # Only a run before this one says where it was: whoever types a second input is refused.
        carried = payloads[1:] if workflow.info().continued_run_id else ()
        self._asked = read_only_input(MaintainRequest, payloads[:1] if carried else payloads)
        if carried:
            self._state = Maintained.load(carried[0])
        else:
            await self._resolve()
        page = self._state.next_page(TABLES_PER_RUN)
        room = asyncio.Semaphore(self._asked.max_parallel)
        await asyncio.gather(*(self._maintain(table, room) for table in page))
        if self._state.left:
            workflow.continue_as_new(args=[write_input(self._asked), self._state.dump()])
        return self._state.closed(dry_run=self._asked.dry_run)

    async def _resolve(self) -> None:
        workflow.upsert_search_attributes([ENVIRONMENT_ATTRIBUTE.value_set(self._asked.environment)])
        try:
            found = await workflow.execute_activity_method(
                ExportActivities.resolve_maintenance, self._asked, summary="which tables", **RESOLVE_MAINTENANCE
            )
        except ActivityError as failure:
            raise told(failure) from failure
        self._state.begin(found.tables)

    async def _maintain(self, table: MaintainedTable, room: asyncio.Semaphore) -> None:
        async with room:
            self._state.begun(table)
            self._show()
            try:
                outcome = self._hopeless(table) or await self._ask(table)
            except ChildWorkflowError as failure:
                if isinstance(failure.cause, TemporalTimeout):
                    self._silent[table.kind] = table.table
                if workflow.cancellation_reason() is not None:
                    raise asyncio.CancelledError from failure
                if is_cancelled_exception(failure):
                    outcome = Outcome("cancelled", "somebody cancelled its request", "Cancelled", "user")
                else:
                    cause, message, who = cause_of(failure)
                    outcome = Outcome("failed", message, cause, who)
            except WorkflowAlreadyStartedError:  # such as that of a run before, which was reset or terminated
                own = f"{workflow.info().workflow_id}/{table.table}"
                outcome = Outcome(
                    "failed", f"its request {own} still runs; end it, or wait for it", "Failed", "operator"
                )
            self._state.ended(table, outcome)
            self._show()

    def _hopeless(self, table: MaintainedTable) -> Outcome | None:
        """What becomes of a table whose loop need not be asked."""
        if table.unserved:
            message = f"no worker serves task queue {table.unserved}; start one, and the next request sees to the table"
        elif table.kind in self._silent:
            message = f"not asked, since the upkeep of {self._silent[table.kind]} did not end; look at that one first"
        else:
            return None
        return Outcome("failed", message, "Unserved", "operator")

    async def _ask(self, table: MaintainedTable) -> Outcome:
        """Run the door of the table's loop."""
        environment, dry_run = self._asked.environment, self._asked.dry_run
        info = workflow.info()
        options: dict[str, Any] = {
            "id": f"{info.workflow_id}/{table.table}",
            "task_queue": table.task_queue or info.task_queue,
            "static_summary": f"upkeep of {table.table}",
            **MAINTAIN_ONE,
        }
        if table.kind == MIRROR:
            order = MergeOnceRequest(table.table, environment, MAINTAIN_SIGNAL, dry_run)
            done: OrderReport = await workflow.execute_child_workflow(
                MERGE_ONCE_WORKFLOW, write_input(order), result_type=OrderReport, **options
            )
            return Outcome.of_order(done, dry_run=dry_run)
        if table.kind == EXPORT:
            network, _, name = table.table.partition(".")
            request: Any = UpkeepRequest(name, network, environment, dry_run=dry_run, thorough=True)
        else:
            request = KeepRequest(table.pipeline, table.table, environment, dry_run)
        report: UpkeepReport = await workflow.execute_child_workflow(
            UPKEEP_WORKFLOW if table.kind == EXPORT else KEEP_WORKFLOW,
            write_input(request),
            result_type=UpkeepReport,
            **options,
        )
        return Outcome.of_report(report)

    @workflow.query(name=PROGRESS_QUERY)
    def progress(self) -> dict[str, Any]:
        """Which tables are under way and how many are left, with the sums so far."""
        return {"environment": self._asked.environment, **self._state.progress()}

    def _show(self) -> None:
        if workflow.in_workflow():  # else the coroutines of a run that left the worker's cache are being closed
            workflow.set_current_details(self._state.details())
