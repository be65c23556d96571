"""Files of changelogs, from this machine's disk to the store, each created once."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

from activities.abreast import seen_through
from activities.cdc_context import CdcContext
from activities.core.faults import ObjectRefused
from activities.lake.changelog import StoredFile
from activities.lake.rows import MadeFile
from activities.transfer import PendingObject

PART_BYTES = 16 * 2**20
"""Parts in which a larger file is sent; two of them are in memory."""
R = TypeVar("R")
MOST_KEYS = 1_000
"""Keys that may be taken by objects which hold something else."""


async def store_file(context: CdcContext, keys: Iterator[str], made: MadeFile) -> StoredFile:
    """Create an object that holds the file, under the first of `keys` that is free or holds the very same already.

    Keys are taken from the iterator as they are used up, so the files of a batch share one for each day.

    Raises:
        StoreRefused: the store says no.
        StoreUnavailable: it cannot be reached.
    """
    recipe = await asyncio.to_thread(_digest, made.path)
    for _, short in zip(range(MOST_KEYS), keys, strict=False):
        key = context.key(short)
        async with PendingObject(context.store, key, recipe, PART_BYTES) as pending:
            await pending.take(_chunks(made.path))
            is_ours = await pending.create()
        if not is_ours:
            # An answer that was lost, or another try of the same batch.
            there = await context.store.head(key)
            is_ours = there is not None and (there.recipe, there.size) == (recipe, made.size)
        if is_ours:
            return StoredFile(context.store.path(key), made.size, made.metadata, made.day)
    raise ObjectRefused(f"every key such as {context.key(short)} is taken by an object that holds something else")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, PART_BYTES):
            yield chunk


async def undisturbed(work: Callable[..., R], *args: object) -> R:
    """Do something in a thread; whoever is cancelled meanwhile waits for its end, since it uses files of this disk."""
    return await seen_through(asyncio.to_thread(work, *args))
