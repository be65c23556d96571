"""The seam of the export job: what its workflows and activities say to each other.

Everything here is a key or a page: rows, footers and files stay where they are, and credentials are resolved by
workers from the name of an environment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from temporalio import activity
from temporalio.common import SearchAttributeKey

from activities.contracts.adopt import AdoptInput, AdoptPage, AdoptRequest
from activities.contracts.backfill import BackfillRequest, EstimateInput, ResolvedBackfill, TableEstimate
from activities.contracts.failing import SuspendedPartition
from activities.contracts.findings import FindingsReport, Look
from activities.contracts.inputs import bad_request, read_input
from activities.contracts.maintain import MaintainRequest, ResolvedMaintenance
from activities.contracts.orphans import OrphansInput, OrphansPage, OrphansRequest
from activities.contracts.reports import Report
from activities.contracts.upkeep import (
    ExpireInput,
    ExpirePage,
    ManifestsInput,
    ManifestsPage,
    RefreshInput,
    RefreshPage,
    UpkeepRequest,
)

WHO_MUST_ACT = "who must act"
"""Key of the details of every failure of ours: `user`, `operator`, `us` or `nobody`."""

TASK_QUEUE = "icefleet-export"
"""Where requests and table loops wait for workers. People type it: it stays."""

REQUEST_WORKFLOW = "RequestExport"
ORPHANS_WORKFLOW = "DeleteOrphans"
UPKEEP_WORKFLOW = "Upkeep"
ADOPT_WORKFLOW = "AdoptFiles"
LOOP_WORKFLOW = "ExportTable"

COMMIT_SECONDS = 30 * 60
"""The longest that one attempt to commit may take."""

SUBMIT_SIGNAL = "submit"
WITHDRAW_SIGNAL = "withdraw"
REPORT_SIGNAL = "report"
PROGRESS_QUERY = "progress"

ENVIRONMENT_ATTRIBUTE = SearchAttributeKey.for_keyword("IcefleetEnvironment")
TABLE_ATTRIBUTE = SearchAttributeKey.for_keyword("IcefleetTable")
NETWORK_ATTRIBUTE = SearchAttributeKey.for_keyword("IcefleetNetwork")


def table_identifier(network: str, table: str) -> str:
    """The Iceberg identifier of a table and network, as events, commands and logs show it."""
    return f"{network}.{table}"


def loop_id(environment: str, network: str, table: str) -> str:
    """The one workflow id under which a table's loop may run."""
    return f"export/{environment}/{table_identifier(network, table)}"


@dataclass(frozen=True)
class ExportRequest:
    """What a person or a Schedule asks for: a range, or whatever is due.

    `from` and `to` are partitions, both inclusive: ISO dates (`2024-03-20`), hours (`2024-03-20T05`) or values of
    the integer column. Both empty: everything that is due.
    """

    table: str
    network: str
    environment: str = "local"
    from_: str | int = ""
    to: str | int = ""
    force: bool = False
    allow_shrink: bool = False
    """With `force`: also replace partitions of which the source holds less than the table."""
    dry_run: bool = False
    oldest_first: bool = False
    priority: int | None = None
    """Lower is served earlier. By default 1 for whatever is due, 2 for a range."""
    max_partitions: int = 0
    """The most partitions to export; what is left over is named by the report's `cursor`. 0: no bound."""
    after: str = ""
    """Where an earlier request of the same range and order stopped: its report's `cursor`."""


@dataclass(frozen=True)
class SubmittedRequest:
    """A request on its way to its table's loop."""

    id: str
    requester: str
    """The workflow that waits for the report; empty when nobody does."""
    request: dict[str, Any]
    """What was asked, as plain JSON."""
    kind: str = "export"
    """`export` for an `ExportRequest`, `orphans` for an `OrphansRequest`, `upkeep` for an
    `UpkeepRequest`, `adopt` for an `AdoptRequest`."""
    cause: dict[str, str] = field(default_factory=dict)
    """On whose behalf it has come, noted by the loop that hears it (`contracts.causes`)."""


AnyRequest = ExportRequest | OrphansRequest | UpkeepRequest | AdoptRequest
"""What may be asked of a table's loop."""
_REQUESTS: Mapping[str, type[AnyRequest]] = {
    "export": ExportRequest,
    "orphans": OrphansRequest,
    "upkeep": UpkeepRequest,
    "adopt": AdoptRequest,
}


def read_submitted(submitted: SubmittedRequest) -> AnyRequest:
    """The request inside its envelope.

    Raises:
        ApplicationError: `BadRequest`, naming what is wrong with it.
    """
    shape = _REQUESTS.get(submitted.kind)
    if shape is None:
        raise bad_request(f"field 'kind' must be one of {', '.join(_REQUESTS)}; it is {submitted.kind!r}")
    return read_input(shape, submitted.request)


@dataclass(frozen=True)
class FailedPartition:
    """A partition that failed after every retry, and why."""

    partition: str
    cause: str
    """Name of the fault (docs/errors.md); `TimedOut` for an activity that took too long or went silent."""
    message: str
    who: str = ""
    """Who must act: `user`, `operator`, `us` or `nobody`."""


@dataclass
class ExportReport(Report):
    """What became of a request to export. Counts are partitions unless they say otherwise."""

    expected: int = 0
    present: int = 0
    missing: int = 0
    stale: int = 0
    forced: int = 0
    shrunk: list[str] = field(default_factory=list)
    """The first hundred partitions of which the source held less than the table."""
    empty: int = 0
    open: int = 0
    exported: int = 0
    already_there: int = 0
    removed: int = 0
    """Taken from the table, since the source has no rows of them any more."""
    rows: int = 0
    bytes: int = 0
    snapshots: list[str] = field(default_factory=list)
    """Snapshot ids as text: they exceed what JSON readers keep exactly."""
    failed: int = 0
    failures: list[FailedPartition] = field(default_factory=list)
    """The first hundred of the failed partitions."""
    put_off: int = 0
    """Partitions that failed before, come last, and were left for another request when this one had met its bound."""
    cursor: str = ""
    """Of a request that met its bound: the last partition looked at, to go on after; else empty."""
    suspended: int = 0
    """Left out of what is due for a while, since they failed every time."""
    moved: int = 0
    """Counted as open as well: they got rows whenever they were exported, and were left for another request."""
    suspensions: list[SuspendedPartition] = field(default_factory=list)
    """The first hundred of the suspended partitions."""


@dataclass(frozen=True)
class ExportLimits:
    """What the environment's config allows a loop; it travels with each plan."""

    parallel_partitions: int
    partitions_per_commit: int
    pages_per_run: int
    heartbeat_seconds: float
    partition_timeout_seconds: float
    partition_attempts: int
    commit_attempts: int
    retry_initial_seconds: float
    small_partition_rows: int
    """Partitions of at most this many rows may share an activity."""
    partitions_per_activity: int
    rows_per_commit: int
    """A page ends with the partition that reaches so many rows, or with `partitions_per_commit` of them."""


@dataclass(frozen=True)
class PlanInput:
    """Plan the next page of a request."""

    environment: str
    table: str
    network: str
    request_id: str
    request: dict[str, Any]
    cursor: str = ""
    """The last partition of the page before; empty at the start."""
    limit: int = 0
    """The most partitions to plan; 0: as config says."""


@dataclass(frozen=True)
class PlannedPartition:
    """One partition to export."""

    partition: str
    reason: str
    """`missing`, `stale`, `forced`, or `vanished`: the source has no rows of it, and its file is to go."""
    replaces: str = ""
    """Path of the file that it replaces, as the table names it."""
    rows: int = 0
    """Rows that the source counted, duplicates included; 0 when nobody counted."""


@dataclass(frozen=True)
class Plan:
    """A page of partitions to export, in order, and what was seen on the way."""

    identifier: str
    todo: list[PlannedPartition]
    cursor: str
    """Where the next page begins; empty when this is the last."""
    limits: ExportLimits
    expected: int = 0
    present: int = 0
    missing: int = 0
    stale: int = 0
    forced: int = 0
    empty: int = 0
    open: int = 0
    shrunk: list[str] = field(default_factory=list)
    empty_ranges: list[list[str]] = field(default_factory=list)
    """First and last partition of each newly seen empty range, to be remembered with the next commit."""
    last: list[PlannedPartition] = field(default_factory=list)
    """Partitions that failed before, to be tried after all other pages of the request."""
    suspended: int = 0
    suspensions: list[SuspendedPartition] = field(default_factory=list)
    """The first hundred of the suspended partitions of the page."""
    look: Look | None = None
    """What is to be published of it; None for a dry run."""


@dataclass(frozen=True)
class PartitionsInput:
    """Export partitions, each to one object: one of any size, or a few small ones."""

    environment: str
    table: str
    network: str
    request_id: str
    planned: list[PlannedPartition]


@dataclass(frozen=True)
class ExportedPartition:
    """An object that is there, whole and verified, and not yet part of the table."""

    partition: str
    reason: str
    replaces: str
    key: str
    rows: int
    bytes: int
    adopted: bool = False
    """The object was there already: an earlier attempt had written it."""


@dataclass(frozen=True)
class CommitInput:
    """Make a page of objects part of the table, in one snapshot."""

    environment: str
    table: str
    network: str
    files: list[ExportedPartition]
    empty_ranges: list[list[str]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Partition → cause, of those that failed by themselves in a request for whatever is due."""
    failed_at: float = 0
    """When, in unix seconds: with it a failure that is told twice counts once."""
    vanished: list[PlannedPartition] = field(default_factory=list)
    """Partitions whose files go without another one in their place."""


@dataclass(frozen=True)
class CommitReport:
    """What the commit did."""

    snapshot_id: str
    """Empty when nothing was to be committed."""
    committed: int
    already_there: int
    """Partitions that the head held before: another writer, or this commit whose answer was lost."""
    rows: int
    bytes: int
    removed: int = 0
    """Partitions that were to vanish, and have."""


@dataclass(frozen=True)
class TableInput:
    """One table of one network."""

    environment: str
    table: str
    network: str


@dataclass(frozen=True)
class NetworksInput:
    """A table, and some of its networks; none: all that config says."""

    environment: str
    table: str
    networks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class AnnounceReport:
    """How many snapshots were announced just now."""

    announced: int


@dataclass(frozen=True)
class PublishReport:
    """What is public of a table."""

    version: int
    """Of the public metadata; 0 when there is nothing to be published, or nowhere to publish it."""
    published: bool
    """It became so just now."""


@dataclass
class LoopState:
    """What an export loop takes along when it continues as new."""

    environment: str
    table: str
    network: str
    active: list[dict[str, Any]] = field(default_factory=list)
    """Requests under way: `SubmittedRequest`, cursor and report so far."""
    served: list[str] = field(default_factory=list)
    """Ids of the requests served last, so that one delivered twice is served once."""
    looks: list[dict[str, Any]] = field(default_factory=list)
    """Each a `Look` whose findings are still to be published."""


class ExportActivities:
    """What the export workflows ask of the world. `activities.export` implements it."""

    @activity.defn(name="list_networks")
    async def list_networks(self, wanted: NetworksInput) -> list[str]:
        """The networks of a table that a request means, each once; one that config does not have is refused."""
        raise NotImplementedError

    @activity.defn(name="deliver_request")
    async def deliver_request(self, submitted: SubmittedRequest) -> str:
        """Check a request and signal it, with start, to its table's loop; answers the loop's workflow id."""
        raise NotImplementedError

    @activity.defn(name="withdraw_request")
    async def withdraw_request(self, submitted: SubmittedRequest) -> bool:
        """Tell the table's loop that a request is not wanted any more; False when there is no loop to be told."""
        raise NotImplementedError

    @activity.defn(name="resolve_backfill")
    async def resolve_backfill(self, request: BackfillRequest) -> ResolvedBackfill:
        """The tables and networks that a backfill chooses; everything that is wrong with it is named at once."""
        raise NotImplementedError

    @activity.defn(name="estimate_table")
    async def estimate_table(self, asked: EstimateInput) -> TableEstimate:
        """Count at the source what a request would do to one table and network; writes nothing."""
        raise NotImplementedError

    @activity.defn(name="plan_partitions")
    async def plan_partitions(self, plan: PlanInput) -> Plan:
        """Compare what is expected with the table and the source."""
        raise NotImplementedError

    @activity.defn(name="export_partitions")
    async def export_partitions(self, task: PartitionsInput) -> list[ExportedPartition]:
        """Carry partitions into verified objects, one each; of several, those that failed are left out."""
        raise NotImplementedError

    @activity.defn(name="commit_partitions")
    async def commit_partitions(self, commit: CommitInput) -> CommitReport:
        """Commit objects against the head, leaving out what it already holds."""
        raise NotImplementedError

    @activity.defn(name="delete_orphans")
    async def delete_orphans(self, task: OrphansInput) -> OrphansPage:
        """Delete a page of what no snapshot names; only the table's loop may ask, between two pages of its own."""
        raise NotImplementedError

    @activity.defn(name="adopt_files")
    async def adopt_files(self, task: AdoptInput) -> AdoptPage:
        """Make a page of published files part of their table, and say which cannot be."""
        raise NotImplementedError

    @activity.defn(name="announce_snapshots")
    async def announce_snapshots(self, table: TableInput) -> AnnounceReport:
        """Publish every snapshot newer than the last announced one."""
        raise NotImplementedError

    @activity.defn(name="publish_metadata")
    async def publish_metadata(self, table: TableInput) -> PublishReport:
        """Publish the head's metadata where anybody can read it, unless that is what is published."""
        raise NotImplementedError

    @activity.defn(name="publish_findings")
    async def publish_findings(self, look: Look) -> FindingsReport:
        """Publish what a look found, if that differs from what was found before."""
        raise NotImplementedError

    @activity.defn(name="expire_snapshots")
    async def expire_snapshots(self, task: ExpireInput) -> ExpirePage:
        """Let old snapshots go that were announced; only the table's loop may ask."""
        raise NotImplementedError

    @activity.defn(name="merge_manifests")
    async def merge_manifests(self, task: ManifestsInput) -> ManifestsPage:
        """Put small manifests together; only the table's loop may ask, between two pages of its own."""
        raise NotImplementedError

    @activity.defn(name="resolve_maintenance")
    async def resolve_maintenance(self, request: MaintainRequest) -> ResolvedMaintenance:
        """The tables that are to be kept in order, of whatever kind; everything that is wrong is named at once."""
        raise NotImplementedError

    @activity.defn(name="refresh_public")
    async def refresh_public(self, task: RefreshInput) -> RefreshPage:
        """Refresh a page of public keys; only the table's loop may ask, between two pages of its own."""
        raise NotImplementedError
