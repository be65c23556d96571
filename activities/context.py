"""What the export activities work with: clients, config and limits, built once by `worker.wiring`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from temporalio.client import Client

from activities.clients.bus import Bus
from activities.clients.objectstore import ObjectStore
from activities.clients.purging import Purge
from activities.contracts.adopt import AdoptInput
from activities.contracts.backfill import EstimateInput
from activities.contracts.export import CommitInput, ExportLimits, PartitionsInput, PlanInput, TableInput
from activities.contracts.orphans import OrphansInput
from activities.core.queues import QueueNames
from activities.core.tables import TableConfig
from activities.lake.catalog import Lake
from activities.serving import check_environment

if TYPE_CHECKING:  # whoever asks no source need not load its driver
    from activities.clients.clickhouse import ClickHouse


@dataclass(frozen=True)
class OtherTables:
    """What an environment has beside the tables that are exported, and where its loops are served."""

    pipelines: Mapping[str, str] = field(default_factory=dict)
    """Pipeline → namespace of its changelogs."""
    mirrors: Sequence[str] = ()
    cdc_queue: str = ""
    merge_queue: str = ""


@dataclass(frozen=True)
class ExportContext:
    """One environment, as a worker serves it."""

    environment: str
    find_table: Callable[[str, str], TableConfig]
    """Table and network → what config says of it; raises BadRequest for what config does not have."""
    find_networks: Callable[[str], list[str]]
    """Table → the networks that it has; raises as `find_table` does."""
    exports: Callable[[], Sequence[tuple[TableConfig, str]]]
    """Every table and network that the environment gets."""
    find_source: Callable[[str], "ClickHouse"]
    """`<environment>.<cluster>` → its client."""
    store: ObjectStore
    lake: Lake
    bus: Bus
    temporal: Client
    queues: QueueNames
    limits: ExportLimits
    key_prefix: str
    """What stands before every object key; usually nothing."""
    public_url: str
    """Where the bucket's objects are public; empty when they are not."""
    partitions_per_plan: int
    part_size_bytes: int
    rows_per_query: int
    """Rows that small partitions may have together to be read with one query."""
    look_back_days: int
    recheck_empty_days: int
    named_collection: str
    """Under which name ClickHouse knows the bucket and writes files itself; empty when they pass through the worker."""
    suspend_after: int
    """Failures in a row after which a partition is left out of what is due for a while; 0: never."""
    orphan_age_seconds: int
    """What no snapshot names and is younger is never deleted."""
    keep_snapshots: int
    """The newest so many snapshots never expire."""
    snapshot_age_seconds: int
    """Nor does one that was the table's state more recently than that."""
    purge: Purge | None
    """The cache in front of `public_url`; None when there is none."""
    grace_seconds: int = 3600
    """What only expired snapshots named is deleted so long after they have expired."""
    others: OtherTables = OtherTables()

    def table(
        self,
        asked: TableInput | PlanInput | PartitionsInput | CommitInput | OrphansInput | EstimateInput | AdoptInput,
    ) -> TableConfig:
        """Config of the table that an input names.

        Raises:
            BadRequest: another environment, or a table or network that config does not have.
        """
        self.check_environment(asked.environment)
        return self.find_table(asked.table, asked.network)

    def key(self, key: str) -> str:
        """An object key as the bucket has it."""
        return f"{self.key_prefix}/{key}" if self.key_prefix else key

    def check_environment(self, environment: str) -> None:
        """Refuse work for another environment: its credentials are not here."""
        check_environment(self.environment, environment)
