"""What the activities of mirrors work with, without a worker."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from activities.core.mirrors import MirrorConfig
from activities.mirror_context import MirrorContext
from worker.bus import open_bus
from worker.config import Settings
from worker.kinds import queue_names
from worker.lake import open_lake
from worker.wiring import open_store


@asynccontextmanager
async def mirror_context(
    settings: Settings, name: str, temporal: Any, cache: Path, *configs: MirrorConfig
) -> AsyncIterator[MirrorContext]:
    """The mirrors of one environment, against its real parts."""
    environment = settings.environment(name)
    async with AsyncExitStack() as stack:
        bus = open_bus(environment)
        stack.push_async_callback(bus.close)
        store = await stack.enter_async_context(open_store(environment))
        yield MirrorContext(
            environment=name,
            mirrors={config.mirror: config for config in configs},
            store=store,
            lake=open_lake(environment),
            bus=bus,
            temporal=temporal,
            queues=queue_names(environment),
            key_prefix=environment.storage.prefix,
            cache_directory=cache,
        )
