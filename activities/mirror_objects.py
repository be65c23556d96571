"""Objects of mirrors, to the store: each under a name that nothing else ever has."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from activities.abreast import each
from activities.clients.objectstore import ObjectStore
from activities.core.faults import ObjectRefused
from activities.storing import PART_BYTES
from activities.transfer import PendingObject

AT_ONCE = 8
"""Objects that are sent at once."""
Body = Path | bytes


async def store_object(store: ObjectStore, key: str, body: Body) -> str:
    """Create an object, and answer its path as Iceberg has it. `key` is one that nobody else would use.

    Raises:
        StoreRefused: the store says no.
        StoreUnavailable: it cannot be reached.
        ObjectRefused: something else lies there.
    """
    recipe, size = await asyncio.to_thread(_digest, body) if isinstance(body, Path) else _digest(body)
    async with PendingObject(store, key, recipe, PART_BYTES) as pending:
        await pending.take(_chunks(body))
        if not await pending.create():
            # An answer that was lost, and the same request again.
            there = await store.head(key)
            if there is None or (there.recipe, there.size) != (recipe, size):
                raise ObjectRefused(f"object {store.path(key)} is there already and holds something else")
    return store.path(key)


async def store_objects(store: ObjectStore, bodies: Mapping[str, Body]) -> dict[str, str]:
    """Several (key → body), some at once; answers key → path. When one fails, the others have ended."""
    paths = await each(lambda pair: store_object(store, *pair), list(bodies.items()), AT_ONCE)
    return dict(zip(bodies, paths, strict=True))


def _digest(body: Body) -> tuple[str, int]:
    if isinstance(body, bytes):
        return hashlib.sha256(body).hexdigest(), len(body)
    with body.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), body.stat().st_size


async def _chunks(body: Body) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield body
        return
    with body.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, PART_BYTES):
            yield chunk
