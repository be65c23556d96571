"""How what activities work with is built from config; clients that commands open, too, have modules of their own."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from temporalio.client import Client

from activities.cdc_context import CaptureFrom, CdcContext, PipelineConfig
from activities.clients.clickhouse import ClickHouse
from activities.clients.objectstore import ObjectStore, StoreSettings
from activities.clients.postgres import PostgresSettings
from activities.clients.purging import Purge
from activities.context import ExportContext, OtherTables
from activities.contracts.export import COMMIT_SECONDS, ExportLimits
from activities.core.changelogs import ChangelogRules, SystemColumns
from activities.core.mirrors import CompactionRules, ExpiryRules, MirrorConfig
from activities.mirror_context import MirrorContext
from worker.bus import open_bus
from worker.clickhouse import named_collection, open_clickhouse
from worker.config import Environment, Settings
from worker.config_cdc import Pipeline, Postgres
from worker.config_mirrors import Mirror
from worker.lake import open_lake


def open_store(environment: Environment) -> ObjectStore:
    """The bucket that holds the Parquet files; enter it before use."""
    storage = environment.storage
    return ObjectStore(
        StoreSettings(
            endpoint=storage.endpoint,
            bucket=storage.bucket,
            region=storage.region,
            access_key=storage.access_key.get_secret_value(),
            secret_key=storage.secret_key.get_secret_value(),
        )
    )


def open_purge(environment: Environment) -> Purge | None:
    """The cache in front of the environment's bucket; None when there is none to be told."""
    storage = environment.storage
    if not storage.purge_url:
        return None
    return Purge(storage.purge_url, storage.purge_token.get_secret_value() if storage.purge_token else "")


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

    async with AsyncExitStack() as stack:

        def find_source(source: str) -> ClickHouse:
            if source not in clusters:
                clusters[source] = open_clickhouse(settings, source, patient=True)
                stack.push_async_callback(clusters[source].close)
            return clusters[source]

        bus = open_bus(environment)
        stack.push_async_callback(bus.close)
        store = await stack.enter_async_context(open_store(environment))
        yield ExportContext(
            environment=name,
            find_table=lambda table, network: settings.table(name, table, network),
            find_networks=lambda table: settings.networks(name, table),
            exports=lambda: settings.exports(name),
            find_source=find_source,
            store=store,
            lake=open_lake(environment),
            bus=bus,
            temporal=temporal,
            limits=export_limits(environment),
            key_prefix=environment.storage.prefix,
            public_url=environment.storage.public_url,
            partitions_per_plan=environment.export.partitions_per_plan,
            part_size_bytes=environment.export.part_size_bytes,
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


def postgres_settings(name: str, database: Postgres) -> PostgresSettings:
    """How to reach a database of a pipeline; `name` is what messages call it."""
    return PostgresSettings(
        name=name,
        host=database.host,
        port=database.port,
        database=database.database,
        user=database.user,
        password=database.password.get_secret_value(),
        sslmode=database.sslmode,
    )


def pipeline_config(environment: str, name: str, pipeline: Pipeline) -> PipelineConfig:
    """What config says of a pipeline, with its credentials."""
    source = None
    if pipeline.source is not None:
        slot = pipeline.source.slot_of(environment, name)
        source = CaptureFrom(
            database=postgres_settings(f"source of {environment}.{name}", pipeline.source),
            slot=slot,
            publication=pipeline.source.publication or slot,
            warn_retained_wal_bytes=pipeline.source.warn_retained_wal_bytes,
            max_retained_wal_bytes=pipeline.source.max_retained_wal_bytes,
        )
    return PipelineConfig(
        name=name,
        source=source,
        buffer=postgres_settings(f"buffer of {environment}.{name}", pipeline.buffer),
        buffer_schema=pipeline.buffer.schema_,
        buffer_max_events=pipeline.buffer.max_events,
        buffer_max_bytes=pipeline.buffer.max_bytes,
        buffer_max_stopped_events=pipeline.buffer.max_stopped_events,
        buffer_max_stopped_bytes=pipeline.buffer.max_stopped_bytes,
        rules=ChangelogRules(
            namespace=pipeline.namespace,
            name=pipeline.name,
            system=SystemColumns(**pipeline.system_columns.model_dump()),
            out_of_range=pipeline.out_of_range,
        ),
        batch_events=pipeline.batch_events,
        batch_bytes=pipeline.batch_bytes,
        parallel_tables=pipeline.parallel_tables,
        commit_interval_seconds=pipeline.commit_interval_ms / 1000,
        keep_settled_letters_days=pipeline.keep_settled_letters_days,
        keep_snapshots=pipeline.keep_snapshots,
        snapshot_age_seconds=pipeline.snapshot_age_seconds,
        grace_seconds=pipeline.grace_seconds,
    )


@asynccontextmanager
async def open_cdc(settings: Settings, name: str, temporal: Client) -> AsyncIterator[CdcContext]:
    """Everything that the activities of one environment's pipelines need, closed at the end."""
    environment = settings.environment(name)
    async with AsyncExitStack() as stack:
        bus = open_bus(environment)
        stack.push_async_callback(bus.close)
        store = await stack.enter_async_context(open_store(environment))
        yield CdcContext(
            environment=name,
            pipelines={key: pipeline_config(name, key, one) for key, one in environment.cdc.items()},
            store=store,
            lake=open_lake(environment),
            bus=bus,
            temporal=temporal,
            key_prefix=environment.storage.prefix,
        )


def mirror_config(mirror: Mirror) -> MirrorConfig:
    """What config says of a mirror."""
    compaction, expiry = mirror.compaction, mirror.expiry
    return MirrorConfig(
        changelog=mirror.changelog,
        mirror=mirror.mirror,
        primary_keys=mirror.primary_keys,
        sequence_column=mirror.sequence_column,
        sequence_format=mirror.sequence_format,
        operation_column=mirror.operation_column,
        unchanged_column=mirror.unchanged_column,
        metadata_columns=mirror.metadata_columns,
        schema=mirror.schema_,
        partition=tuple((part.column, part.transform) for part in mirror.partition),
        merge_interval_seconds=mirror.merge_interval,
        batch_rows=mirror.batch_size,
        batch_bytes=mirror.batch_bytes,
        late_event_horizon_seconds=mirror.late_event_horizon,
        compaction=CompactionRules(**compaction.model_dump()),
        expiry=ExpiryRules(
            keep_snapshots=expiry.keep_snapshots,
            snapshot_age_seconds=expiry.snapshot_age,
            grace_seconds=expiry.grace,
        ),
    )


def index_cache(environment: Environment) -> Path:
    """Where this machine's workers keep segments of indexes."""
    named = environment.merge.cache_directory
    return Path(named) if named else Path(tempfile.gettempdir()) / "icefleet" / environment.name / "mirrors"


@asynccontextmanager
async def open_mirrors(settings: Settings, name: str, temporal: Client) -> AsyncIterator[MirrorContext]:
    """Everything that the activities of one environment's mirrors need, closed at the end."""
    environment = settings.environment(name)
    async with AsyncExitStack() as stack:
        bus = open_bus(environment)
        stack.push_async_callback(bus.close)
        store = await stack.enter_async_context(open_store(environment))
        yield MirrorContext(
            environment=name,
            mirrors={key: mirror_config(one) for key, one in environment.mirrors.items()},
            store=store,
            lake=open_lake(environment),
            bus=bus,
            temporal=temporal,
            key_prefix=environment.storage.prefix,
            cache_directory=index_cache(environment),
        )
