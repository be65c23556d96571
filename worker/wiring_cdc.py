"""How what the activities of pipelines work with is built from config."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.client import Client

from activities.cdc_context import CaptureFrom, CdcContext, PipelineConfig
from activities.clients.postgres import PostgresSettings
from activities.core.changelogs import ChangelogRules, SystemColumns
from worker.config import Settings
from worker.config_cdc import Pipeline, Postgres
from worker.config_secrets import asked
from worker.parts import open_parts


def postgres_settings(name: str, database: Postgres) -> PostgresSettings:
    """How to reach a database of a pipeline; `name` is what messages call it."""
    return PostgresSettings(
        name=name,
        host=database.host,
        port=database.port,
        database=database.database,
        user=database.user,
        password=asked(database.password),
        sslmode=database.sslmode,
        tls=database.tls.files(),
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
        buffer_max_dead_letters=pipeline.buffer.max_dead_letters,
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
    async with open_parts(environment) as parts:
        yield CdcContext(
            environment=name,
            pipelines={key: pipeline_config(name, key, one) for key, one in environment.cdc.items()},
            store=parts.store,
            lake=parts.lake,
            bus=parts.bus,
            temporal=temporal,
            key_prefix=environment.storage.prefix,
        )
