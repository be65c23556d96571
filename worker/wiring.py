"""How what activities work with is built from config; clients that commands open, too, have modules of their own."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from temporalio.client import Client

from activities.clients.clickhouse import ClickHouse
from activities.clients.purging import Purge
from activities.context import ExportContext, OtherTables
from activities.contracts.export import COMMIT_SECONDS, ExportLimits
from worker.clickhouse import named_collection, open_clickhouse
from worker.config import Environment, Settings
from worker.config_secrets import asked
from worker.kinds import queue_names
from worker.parts import open_parts


def open_purge(environment: Environment) -> Purge | None:
    """The cache in front of the environment's bucket; None when there is none to be told."""
    storage = environment.storage
    if not storage.purge_url:
        return None
    return Purge(storage.purge_url, asked(storage.purge_token))


def export_limits(environment: Environment) -> ExportLimits:
    """What config allows a loop."""
    export = environment.export
    return ExportLimits(
        parallel_partitions=export.parallel_partitions,
        partitions_per_commit=export.partitions_per_commit,
        pages_per_run=export.pages_per_run,
        heartbeat_seconds=export.heartbeat_seconds,
        partition_timeout_seconds=export.partition_timeout_seconds,
        partition_attempts=export.partition_attempts,
        commit_attempts=export.commit_attempts,
        retry_initial_seconds=export.retry_initial_seconds,
        small_partition_rows=export.small_partition_rows,
        partitions_per_activity=export.partitions_per_activity,
        rows_per_commit=export.rows_per_commit,
    )


def orphan_age(environment: Environment) -> int:
    """The least age, in seconds, of an orphan that may be deleted."""
    export = environment.export
    return export.orphan_age_seconds or export.partition_timeout_seconds + COMMIT_SECONDS


def others_of(environment: Environment) -> OtherTables:
    """The environment's tables that are not exported."""
    return OtherTables(
        pipelines={name: one.namespace for name, one in environment.cdc.items()},
        mirrors=tuple(environment.mirrors),
        cdc_queue=environment.temporal.cdc_task_queue,
        merge_queue=environment.temporal.merge_task_queue,
    )


@asynccontextmanager
async def open_export(settings: Settings, name: str, temporal: Client) -> AsyncIterator[ExportContext]:
    """Everything that the export activities of one environment need, closed at the end."""
    environment = settings.environment(name)
    clusters: dict[str, ClickHouse] = {}

    async with open_parts(environment) as parts, AsyncExitStack() as stack:

        def find_source(source: str) -> ClickHouse:
            if source not in clusters:
                clusters[source] = open_clickhouse(settings, source, patient=True)
                stack.push_async_callback(clusters[source].close)
            return clusters[source]

        yield ExportContext(
            environment=name,
            find_table=lambda table, network: settings.table(name, table, network),
            find_networks=lambda table: settings.networks(name, table),
            exports=lambda: settings.exports(name),
            find_source=find_source,
            store=parts.store,
            lake=parts.lake,
            bus=parts.bus,
            temporal=temporal,
            queues=queue_names(environment),
            limits=export_limits(environment),
            key_prefix=environment.storage.prefix,
            public_url=environment.storage.public_url,
            partitions_per_plan=environment.export.partitions_per_plan,
            part_size_bytes=environment.export.part_size_bytes,
            rows_per_query=environment.export.rows_per_query,
            look_back_days=environment.export.look_back_days,
            recheck_empty_days=environment.export.recheck_empty_days,
            named_collection=named_collection(environment),
            suspend_after=environment.export.suspend_after,
            orphan_age_seconds=orphan_age(environment),
            keep_snapshots=environment.export.keep_snapshots,
            snapshot_age_seconds=environment.export.snapshot_age_seconds,
            grace_seconds=environment.export.grace_seconds,
            others=others_of(environment),
            purge=open_purge(environment),
        )
