"""How what the activities of mirrors work with is built from config."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from temporalio.client import Client

from activities.core.mirrors import CompactionRules, ExpiryRules, MirrorConfig
from activities.mirror_context import MirrorContext
from worker.config import Environment, Settings
from worker.config_mirrors import Mirror
from worker.kinds import queue_names
from worker.parts import open_parts


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
    async with open_parts(environment) as parts:
        yield MirrorContext(
            environment=name,
            mirrors={key: mirror_config(one) for key, one in environment.mirrors.items()},
            store=parts.store,
            lake=parts.lake,
            bus=parts.bus,
            temporal=temporal,
            queues=queue_names(environment),
            key_prefix=environment.storage.prefix,
            cache_directory=index_cache(environment),
            cache_bytes=environment.merge.cache_bytes,
        )
