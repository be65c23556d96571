"""Objects of mirrors, to the store: each under a name that nothing else ever has."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

from activities.abreast import both, each
from activities.clients.objectstore import ObjectStore
from activities.core.faults import ObjectRefused
from activities.lake.content import Files
from activities.storing import PART_BYTES, undisturbed
from activities.transfer import PendingObject

AT_ONCE = 4
"""Objects that are sent at once."""
Body = Path | bytes


async def store_object(store: ObjectStore, files: Files, key: str, body: Body) -> str:
    """One of `store_objects`; answers its path."""
    return (await store_objects(store, files, {key: body}))[key]


async def store_objects(store: ObjectStore, files: Files, bodies: Mapping[str, Body]) -> dict[str, str]:
    """Create objects under keys that nobody else would use, some at once; answers key → path as Iceberg has it.

    When one fails, the others have ended.

    Raises:
        StoreRefused: the store says no.
        StoreUnavailable: it cannot be reached.
        ObjectRefused: something else lies under the key of a large one.
    """
    paths = {key: store.path(key) for key in bodies}
    small = {paths[key]: body for key, body in bodies.items() if _size(body) <= PART_BYTES}
    large = [(key, body) for key, body in bodies.items() if paths[key] not in small]
    await both(undisturbed(_put, files, small), each(lambda pair: _send(store, *pair), large, AT_ONCE))
    return paths


def _put(files: Files, bodies: Mapping[str, Body]) -> None:
    """Small ones, of which a merge has many, beside the loop: most of a request would be its work."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # Each in the trace of whoever asked.
        jobs = [pool.submit(copy_context().run, _create, files, path, body) for path, body in bodies.items()]
    for job in jobs:
        job.result()


def _create(files: Files, path: str, body: Body) -> None:
    files.create(path, body if isinstance(body, bytes) else body.read_bytes())


async def _send(store: ObjectStore, key: str, body: Body) -> None:
    """A large one, in parts, so that it need not be in memory, and whoever is cancelled need not wait for its end."""
    recipe, size = await asyncio.to_thread(_digest, body), _size(body)
    async with PendingObject(store, key, recipe, PART_BYTES) as pending:
        await pending.take(_chunks(body))
        if not await pending.create():
            # An answer that was lost, and the same request again.
            there = await store.head(key)
            if there is None or (there.recipe, there.size) != (recipe, size):
                raise ObjectRefused(f"object {store.path(key)} is there already and holds something else")


def _size(body: Body) -> int:
    return len(body) if isinstance(body, bytes) else body.stat().st_size


def _digest(body: Body) -> str:
    if isinstance(body, bytes):
        return hashlib.sha256(body).hexdigest()
    with body.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _chunks(body: Body) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield body
        return
    with body.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, PART_BYTES):
            yield chunk
