"""From a stream of chunks to an object that is not there until everything about it has been checked."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Self

from temporalio import activity

from activities import failpoints
from activities.clients.objectstore import ObjectStore, Upload
from activities.core.faults import Fault, ResultIncomplete

TAIL = 4 * 1024 * 1024
"""Bytes of the end that are kept, in which the footer must lie: 50 million rows of 40 columns take a tenth of it."""
PARTS_AT_ONCE = 2


class PendingObject:
    """Everything of an object but its name: uploaded, and not there yet.

    Use as an async context manager: an object that was not created by its end is dropped.
    """

    def __init__(self, store: ObjectStore, key: str, recipe: str, part_size: int) -> None:
        self._store = store
        self._key = key
        self._recipe = recipe
        self._part_size = part_size
        self._buffer = bytearray()
        self._upload: Upload | None = None
        self._sending: deque[asyncio.Task[None]] = deque()
        self._parts = 0
        self._settled = False
        self._tail = b""
        self.size = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        if self._upload is not None and not self._settled:
            try:
                await asyncio.shield(self._upload.abort())
            except Fault as left:
                # Why the object was given up must be told, and not this: `icefleet orphans` finds the upload.
                activity.logger.warning("an unfinished upload is left behind: %s", left)

    @property
    def held(self) -> int:
        """Bytes in memory: all of a small object, the end of one that was sent in parts."""
        return len(self._buffer) + len(self._tail)

    @property
    def tail(self) -> bytes:
        """The end of what was taken: at most TAIL bytes."""
        return bytes(self._buffer[-TAIL:]) if self._upload is None else self._tail

    async def take(self, chunks: AsyncIterator[bytes]) -> None:
        """Send everything that `chunks` gives, in parts of equal size."""
        async for chunk in chunks:
            self._buffer += chunk
            self.size += len(chunk)
            while len(self._buffer) >= self._part_size:
                await self._send(bytes(memoryview(self._buffer)[: self._part_size]))
                del self._buffer[: self._part_size]
        if not self.size:
            raise ResultIncomplete(f"the source sent nothing for object {self._key}")
        if self._upload is not None:
            if self._buffer:
                await self._send(bytes(self._buffer))
            while self._sending:
                await self._sending.popleft()

    async def create(self) -> bool:
        """Make the object be there; False when one was there already."""
        if self._upload is None:
            return await self._store.create(self._key, bytes(self._buffer), self._recipe)
        created = await self._upload.complete()
        self._settled = created
        return created

    async def _send(self, body: bytes) -> None:
        if self._upload is None:
            self._upload = await self._store.start(self._key, self._recipe)
        self._parts += 1
        self._remember(body)
        while len(self._sending) >= PARTS_AT_ONCE:
            await self._sending.popleft()
        self._sending.append(asyncio.create_task(self._upload.part(self._parts, body)))
        await failpoints.reach("during-upload")

    def _remember(self, body: bytes) -> None:
        self._tail = body[-TAIL:] if len(body) >= TAIL else (self._tail + body)[-TAIL:]
