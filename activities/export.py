"""The export activities: thin methods over the rooms that do the work."""

from temporalio import activity
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from activities import upkeep_metrics
from activities.adopting import adopt_page
from activities.announcing import announce
from activities.backfilling import estimate, resolve
from activities.committing import commit_page
from activities.context import ExportContext
from activities.contracts.adopt import AdoptInput, AdoptPage, AdoptRequest
from activities.contracts.backfill import BackfillRequest, EstimateInput, ResolvedBackfill, TableEstimate
from activities.contracts.export import (
    ENVIRONMENT_ATTRIBUTE,
    LOOP_WORKFLOW,
    NETWORK_ATTRIBUTE,
    SUBMIT_SIGNAL,
    TABLE_ATTRIBUTE,
    WITHDRAW_SIGNAL,
    AnnounceReport,
    AnyRequest,
    CommitInput,
    CommitReport,
    ExportActivities,
    ExportedPartition,
    ExportRequest,
    NetworksInput,
    PartitionsInput,
    Plan,
    PlanInput,
    PublishReport,
    SubmittedRequest,
    TableInput,
    loop_id,
    read_submitted,
    table_identifier,
)
from activities.contracts.findings import FindingsReport, Look
from activities.contracts.maintain import EXPORT, MaintainRequest, ResolvedMaintenance
from activities.contracts.orphans import OrphansInput, OrphansPage, OrphansRequest
from activities.contracts.upkeep import (
    ExpireInput,
    ExpirePage,
    ManifestsInput,
    ManifestsPage,
    RefreshInput,
    RefreshPage,
)
from activities.core.adopting import check_adoption
from activities.core.orphans import check_age
from activities.errors import faults_named, mended_by_people, temporal_named
from activities.export_metrics import failures_told, publishing_told, refusals_told, step
from activities.findings import publish_findings
from activities.heartbeats import heartbeats
from activities.maintaining import resolve_tables
from activities.orphan_deletion import delete_page
from activities.partitions import export_all
from activities.plan import check_request, plan_page
from activities.publishing import publish
from activities.refreshing import refresh_page
from activities.upkeep import expire_page, merge_manifests_page
from activities.upkeep_metrics import problems_told


class Export(ExportActivities):
    """Implements `ExportActivities` for one environment."""

    def __init__(self, context: ExportContext) -> None:
        self._context = context

    @activity.defn(name="list_networks")
    @faults_named
    async def list_networks(self, wanted: NetworksInput) -> list[str]:
        """The networks of a table that a request means, each once; one that config does not have is refused."""
        self._context.check_environment(wanted.environment)
        for network in wanted.networks:
            self._context.find_table(wanted.table, network)
        return list(dict.fromkeys(wanted.networks)) or self._context.find_networks(wanted.table)

    @activity.defn(name="deliver_request")
    @faults_named
    async def deliver_request(self, submitted: SubmittedRequest) -> str:
        """Check a request and signal it, with start, to its table's loop; answers the loop's workflow id."""
        request = read_submitted(submitted)
        config = self._context.table(TableInput(request.environment, request.table, request.network))
        if isinstance(request, OrphansRequest):
            check_age(request.older_than, self._context.orphan_age_seconds)
        elif isinstance(request, AdoptRequest):
            check_adoption(config, str(request.from_), str(request.to), request.extra_columns, request.unredacted)
        elif isinstance(request, ExportRequest):
            check_request(config.partition, request)
        identity = loop_id(request.environment, request.network, request.table)
        with temporal_named():
            await self._signal_with_start(request, submitted, identity)
        return identity

    async def _signal_with_start(self, request: AnyRequest, submitted: SubmittedRequest, identity: str) -> None:
        await self._context.temporal.start_workflow(
            LOOP_WORKFLOW,
            {"environment": request.environment, "table": request.table, "network": request.network},
            id=identity,
            task_queue=activity.info().task_queue,
            static_summary=f"exports of {table_identifier(request.network, request.table)}",
            start_signal=SUBMIT_SIGNAL,
            start_signal_args=[submitted],
            search_attributes=TypedSearchAttributes(
                [
                    SearchAttributePair(ENVIRONMENT_ATTRIBUTE, request.environment),
                    SearchAttributePair(TABLE_ATTRIBUTE, request.table),
                    SearchAttributePair(NETWORK_ATTRIBUTE, request.network),
                ]
            ),
        )

    @activity.defn(name="withdraw_request")
    @faults_named
    async def withdraw_request(self, submitted: SubmittedRequest) -> bool:
        """Tell the table's loop that a request is not wanted any more; False when there is no loop to be told."""
        request = read_submitted(submitted)
        loop = self._context.temporal.get_workflow_handle(loop_id(request.environment, request.network, request.table))
        with temporal_named():
            try:
                await loop.signal(WITHDRAW_SIGNAL, submitted.id)
            except RPCError as gone:
                if gone.status != RPCStatusCode.NOT_FOUND:
                    raise
                return False
            return True

    @activity.defn(name="resolve_backfill")
    @faults_named
    async def resolve_backfill(self, request: BackfillRequest) -> ResolvedBackfill:
        """The tables and networks that a backfill chooses; everything that is wrong with it is named at once."""
        return await resolve(self._context, request)

    @activity.defn(name="estimate_table")
    @faults_named
    async def estimate_table(self, asked: EstimateInput) -> TableEstimate:
        """Count at the source what a request would do to one table and network; writes nothing."""
        async with heartbeats("estimating"):
            return await estimate(self._context, asked)

    @activity.defn(name="plan_partitions")
    @faults_named
    async def plan_partitions(self, plan: PlanInput) -> Plan:
        """Compare what is expected with the table and the source."""
        async with heartbeats("planning"):
            with step("plan"), refusals_told(plan):
                return await plan_page(self._context, plan)

    @activity.defn(name="export_partitions")
    @faults_named
    async def export_partitions(self, task: PartitionsInput) -> list[ExportedPartition]:
        """Carry partitions into verified objects, one each; of several, those that failed are left out."""
        with failures_told(task):
            return await export_all(self._context, task)

    @activity.defn(name="commit_partitions")
    @faults_named
    async def commit_partitions(self, commit: CommitInput) -> CommitReport:
        """Commit objects against the head, leaving out what it already holds."""
        async with heartbeats("committing"):
            with step("commit"):
                return await commit_page(self._context, commit)

    @activity.defn(name="delete_orphans")
    @faults_named
    async def delete_orphans(self, task: OrphansInput) -> OrphansPage:
        """Delete a page of what no snapshot names; only the table's loop may ask, between two pages of its own."""
        async with heartbeats("deleting orphans"):
            # What people delete at any other time is told in the report that they wait for.
            with problems_told(EXPORT, dry_run=task.dry_run or not task.after_expiry):
                page = await delete_page(self._context, task)
        if not task.dry_run:
            upkeep_metrics.count(EXPORT, deleted=page.deleted, freed=page.bytes)
        return page

    @activity.defn(name="adopt_files")
    @faults_named
    async def adopt_files(self, task: AdoptInput) -> AdoptPage:
        """Make a page of published files part of their table, and say which cannot be."""
        async with heartbeats("adopting"):
            return await adopt_page(self._context, task)

    @activity.defn(name="announce_snapshots")
    @faults_named
    async def announce_snapshots(self, table: TableInput) -> AnnounceReport:
        """Publish every snapshot newer than the last announced one."""
        async with heartbeats("announcing"):
            with mended_by_people(), step("announce"):
                return await announce(self._context, table)

    @activity.defn(name="publish_metadata")
    @faults_named
    async def publish_metadata(self, table: TableInput) -> PublishReport:
        """Publish the head's metadata where anybody can read it, unless that is what is published."""
        async with heartbeats("publishing"):
            with mended_by_people(), publishing_told(table), step("publish"):
                return await publish(self._context, table)

    @activity.defn(name="publish_findings")
    @faults_named
    async def publish_findings(self, look: Look) -> FindingsReport:
        """Publish what a look found, if that differs from what was found before."""
        async with heartbeats("publishing findings"):
            return await publish_findings(self._context, look)

    @activity.defn(name="expire_snapshots")
    @faults_named
    async def expire_snapshots(self, task: ExpireInput) -> ExpirePage:
        """Let old snapshots go that were announced; only the table's loop may ask."""
        async with heartbeats("expiring snapshots"):
            with problems_told(EXPORT, dry_run=task.dry_run):
                page = await expire_page(self._context, task)
        if not task.dry_run:
            upkeep_metrics.count(EXPORT, problems=bool(page.problem))
        return page

    @activity.defn(name="merge_manifests")
    @faults_named
    async def merge_manifests(self, task: ManifestsInput) -> ManifestsPage:
        """Put small manifests together; only the table's loop may ask, between two pages of its own."""
        async with heartbeats("merging manifests"):
            with problems_told(EXPORT, dry_run=task.dry_run):
                return await merge_manifests_page(self._context, task)

    @activity.defn(name="resolve_maintenance")
    @faults_named
    async def resolve_maintenance(self, request: MaintainRequest) -> ResolvedMaintenance:
        """The tables that are to be kept in order, of whatever kind; everything that is wrong is named at once."""
        async with heartbeats("looking for tables"):
            return await resolve_tables(self._context, request)

    @activity.defn(name="refresh_public")
    @faults_named
    async def refresh_public(self, task: RefreshInput) -> RefreshPage:
        """Refresh a page of public keys; only the table's loop may ask, between two pages of its own."""
        async with heartbeats("refreshing public keys"):
            with problems_told(EXPORT, dry_run=task.dry_run):
                page = await refresh_page(self._context, task)
        if not task.dry_run:
            upkeep_metrics.count(EXPORT, problems=bool(page.problem))
        return page
