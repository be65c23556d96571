"""Objects of mirrors, from this machine to the store, each created once under a name that nothing else has."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from activities.core.faults import ObjectRefused
from activities.core.mirrors import MirrorConfig
from activities.mirror_context import MirrorContext
from activities.transfer import PendingObject

PART_BYTES = 16 * 2**20
"""Parts in which what is larger is sent; two of them are in memory."""
RECIPE = "mirror"


def new_key(context: MirrorContext, mirror: MirrorConfig, kind: str, suffix: str) -> str:
    """A key for an object of a mirror that nobody else can come upon; `kind` is `data`, `deletes` or `index`."""
    return f"{context.prefix(mirror)}{kind}/{uuid.uuid4()}.{suffix}"


async def store(context: MirrorContext, key: str, body: Path | bytes) -> None:
    """Create an object under a key that `new_key` made.

    Raises:
        StoreRefused: the store says no.
        StoreUnavailable: it cannot be reached.
        ObjectRefused: something else has that name.
    """
    size = len(body) if isinstance(body, bytes) else body.stat().st_size
    if size <= PART_BYTES:
        whole = body if isinstance(body, bytes) else await asyncio.to_thread(body.read_bytes)
        created = await context.store.create(key, whole, RECIPE)
    else:
        async with PendingObject(context.store, key, RECIPE, PART_BYTES) as pending:
            await pending.take(_chunks(body))
            created = await pending.create()
    if created:
        return
    # Nobody else makes up this name: it is ours, and the answer was lost.
    there = await context.store.head(key)
    if there is None or (there.recipe, there.size) != (RECIPE, size):
        raise ObjectRefused(f"object {key} is there already and is none of this merge; merge again")


async def _chunks(body: Path | bytes) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        for start in range(0, len(body), PART_BYTES):
            yield body[start : start + PART_BYTES]
        return
    with body.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, PART_BYTES):
            yield chunk
