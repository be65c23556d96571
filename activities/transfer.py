"""From a query to an object that is not there until everything about it has been checked: through this process."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from temporalio import activity

from activities import failpoints
from activities.clients.objectstore import ObjectStore, Upload
from activities.core.faults import Fault, ObjectRefused, ResultIncomplete
from activities.core.query import Query
from activities.export_metrics import stream_told
from activities.lake.footers import Footer, read_footer

if TYPE_CHECKING:  # files of changelogs and mirrors come from no source
    from activities.clients.clickhouse import ClickHouse

TAIL = 4 * 1024 * 1024
"""Bytes of the end that are kept, in which the footer must lie: 50 million rows of 40 columns take a tenth of it."""
PARTS_AT_ONCE = 2


@dataclass(frozen=True)
class Order:
    """What an object is to hold: the rows of a query, and how that query is known at the source."""

    name: str
    """Table and partition, for messages."""
    clickhouse: "ClickHouse"
    query: Query
    query_id: str
    comment: str


class Transfer(Protocol):
    """Everything of an object but its name. An async context manager: what was not created by its end is dropped."""

    size: int
    """Bytes so far, as far as they are known."""

    async def __aenter__(self) -> Self:
        """Nothing is there yet."""

    async def __aexit__(self, *_: object) -> None:
        """Drop it, unless it was created."""

    @property
    def held(self) -> int:
        """Bytes in memory."""

    async def carry(self, order: Order) -> Footer:
        """Bring everything of the object near, and answer its footer, under the key that the object is to have."""

    async def create(self) -> bool:
        """Make the object be there; False when one was there already, which is left as it was."""


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

    async def carry(self, order: Order) -> Footer:
        """Stream the rows through here, and answer the footer of what was sent.

        Raises:
            ResultIncomplete: the stream ended early.
            SourceRefused: a limit was met in the middle of the result.
            UnsupportedType: a value does not fit its column's Iceberg type, or is text that is not UTF-8.
        """
        stream = order.clickhouse.parquet(order.query, query_id=order.query_id, comment=order.comment)
        # Closed whatever happens, so that the connection and its export slot are free at once.
        async with aclosing(stream) as chunks, aclosing(stream_told(chunks)) as told:
            await self.take(told)
        try:
            return read_footer(self._key, self.tail, self.size)
        except ObjectRefused as broken:  # a stream that broke after its first byte has none
            what = f"{order.name}: the result ended after {self.size} bytes, and is not whole ({broken})"
            raise order.clickhouse.broken(what, self.tail) from broken

    async def hold(self, file: bytes) -> Footer:
        """Take a whole file, and answer its footer."""

        async def whole() -> AsyncIterator[bytes]:
            yield file

        await self.take(whole())
        return read_footer(self._key, self.tail, self.size)

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
