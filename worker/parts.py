"""What every kind of work has to do with: store, catalog and NATS. What only some of it needs is not loaded for it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from activities.clients.bus import Bus
from activities.clients.objectstore import ObjectStore, StoreSettings
from activities.lake.catalog import Lake
from worker.bus import open_bus
from worker.config import Environment
from worker.lake import named_keys, open_lake


@dataclass(frozen=True)
class Parts:
    """The clients of an environment's store, catalog and NATS."""

    store: ObjectStore
    lake: Lake
    bus: Bus


@asynccontextmanager
async def open_parts(environment: Environment) -> AsyncIterator[Parts]:
    """An environment's store, catalog and NATS, closed at the end."""
    async with AsyncExitStack() as stack:
        bus = open_bus(environment)
        stack.push_async_callback(bus.close)
        store = await stack.enter_async_context(open_store(environment))
        yield Parts(store, open_lake(environment), bus)


def open_store(environment: Environment) -> ObjectStore:
    """The bucket that holds the Parquet files; enter it before use."""
    storage = environment.storage
    return ObjectStore(
        StoreSettings(
            endpoint=storage.endpoint,
            bucket=storage.bucket,
            region=storage.region,
            keys=named_keys(storage),
            ca_file=storage.tls.files().ca_file,
        )
    )
