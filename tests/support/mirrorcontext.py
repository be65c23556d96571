"""What the activities of mirrors work with, without a worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from activities.core.mirrors import MirrorConfig
from activities.mirror_context import MirrorContext
from worker.config import Settings
from worker.kinds import queue_names
from worker.parts import open_parts


@asynccontextmanager
async def mirror_context(
    settings: Settings, name: str, temporal: Any, cache: Path, *configs: MirrorConfig
) -> AsyncIterator[MirrorContext]:
    """The mirrors of one environment, against its real parts."""
    environment = settings.environment(name)
    async with open_parts(environment) as parts:
        yield MirrorContext(
            environment=name,
            mirrors={config.mirror: config for config in configs},
            store=parts.store,
            lake=parts.lake,
            bus=parts.bus,
            temporal=temporal,
            queues=queue_names(environment),
            key_prefix=environment.storage.prefix,
            cache_directory=cache,
            cache_bytes=environment.merge.cache_bytes,
        )
