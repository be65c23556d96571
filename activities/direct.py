"""An object that ClickHouse writes itself, and that takes its place in the store without passing through here."""

import asyncio
import contextlib
from dataclasses import replace
from typing import Self

from temporalio import activity

from activities import failpoints
from activities.clients.objectstore import Upload
from activities.context import ExportContext
from activities.core.direct import GUIDE, WRITE_SETTINGS, attempt_key, is_answer, write_fault, write_query
from activities.core.faults import (
    BadConfig,
    Fault,
    ResultIncomplete,
    SourceBusy,
    SourceRefused,
    SourceUnavailable,
)
from activities.export_metrics import step
from activities.footers import stored_footer
from activities.lake.footers import Footer
from activities.transfer import Order

COPIED_AT_ONCE = 256 * 2**20
"""Bytes of one part that the store copies within itself: few requests, and none of them long."""
COPIES_AT_ONCE = 4
LOOKS = 30
LOOK_SECONDS = 1.0
LONGEST_LOOK_SECONDS = 10.0
"""How often, and how far apart, nothing may be learnt of a query whose answer was lost, before it is given up."""
UNKNOWN = (SourceUnavailable, ResultIncomplete)
"""Faults after which the query may be running, have ended well, or have failed."""


class DirectObject:
    """Everything of an object but its name: written by ClickHouse under a key of this attempt's own, then copied there.

    What the store copies it into is an upload that is not completed yet. A name that nobody else writes to cannot be
    overwritten, and the store creates the object under its real name only where there is none: ClickHouse alone can
    promise neither. Use as an async context manager: at its end the attempt's own object goes, and so does what was not
    created.
    """

    def __init__(self, context: ExportContext, key: str, recipe: str) -> None:
        self._context = context
        self._store = context.store
        self._key = key
        self._recipe = recipe
        self._own_key = ""
        self._upload: Upload | None = None
        self._copying: asyncio.Task[Upload] | None = None
        self._settled = False
        self.size = 0
        self.held = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._copying is not None:
            self._copying.cancel()
            await asyncio.gather(self._copying, return_exceptions=True)
        await asyncio.shield(self._tidy_up())

    async def carry(self, order: Order) -> Footer:
        """Let ClickHouse write the object, and answer its footer, as the store holds it.

        Raises:
            BadConfig: ClickHouse wrote it elsewhere.
            SourceRefused: ClickHouse has no such named collection, or the user may not use it.
            SourceUnavailable: nothing could be learnt of a query whose answer was lost.
            StoreRefused: the store refuses ClickHouse.
            StoreUnavailable: ClickHouse cannot reach the store.
            UnsupportedType: a value does not fit its column's Iceberg type, or is text that is not UTF-8.
        """
        collection = self._context.named_collection
        self._own_key = attempt_key(self._key, order.query_id)
        try:
            with step("query"):
                await self._write(order)
        except (SourceRefused, SourceUnavailable) as said:
            raise write_fault(said, collection, self._own_key) from said.__cause__
        await failpoints.reach("during-upload")
        written = await self._store.head(self._own_key)
        if written is None:
            raise BadConfig(
                f"{order.name}: ClickHouse wrote {self._own_key}, and it is not in bucket {self._store.name}: have the "
                f"url of its named collection {collection!r} lead there; {GUIDE}"
            )
        self.size = written.size
        footer = await stored_footer(self._context, self._own_key, self.size)
        # While it is copied, the source is asked whether it holds what the footer says.
        self._copying = asyncio.create_task(self._copy())
        return replace(footer, key=self._key)

    async def create(self) -> bool:
        """Make the object be there; False when one was there already."""
        self._settled = self._copying is not None and await (await self._copying).complete()
        return self._settled

    async def _write(self, order: Order) -> None:
        query = write_query(order.query, self._context.named_collection, self._own_key)
        try:
            await order.clickhouse.write(query, order.query_id, order.comment, WRITE_SETTINGS)
        except UNKNOWN as lost:
            if is_answer(lost):
                raise
            activity.logger.warning("%s: what became of query %s? %s", order.name, order.query_id, lost)
            # ClickHouse goes on with an INSERT whose client is gone.
            if not await self._has_landed(order):
                raise

    async def _has_landed(self, order: Order) -> bool:
        """Whether a query whose answer was lost has ended well, once it has ended; raises what it failed with."""
        looks = LOOKS
        while looks:
            ended: str | None = None
            with contextlib.suppress(*UNKNOWN, SourceBusy, TimeoutError):
                async with asyncio.timeout(LONGEST_LOOK_SECONDS):
                    if await self._runs(order):
                        looks = LOOKS + 1
                    # An object that can be seen is whole: stores show no others.
                    elif await self._store.head(self._own_key) is not None:
                        ended = ""
                    else:
                        ended = await order.clickhouse.ending(order.query_id)
            if ended:
                raise order.clickhouse.failed(ended)
            if ended is not None:
                return True
            looks -= 1
            await asyncio.sleep(LOOK_SECONDS)
        return False

    async def _runs(self, order: Order) -> bool:
        with contextlib.suppress(SourceRefused):  # a user who may not see what runs: the object will say it, or the log
            return await order.clickhouse.rows_read(order.query_id) is not None
        return False

    async def _copy(self) -> Upload:
        upload = self._upload = await self._store.start(self._key, self._recipe)
        slots = asyncio.Semaphore(COPIES_AT_ONCE)

        async def copy(number: int, start: int) -> None:
            async with slots:
                await upload.copied_part(number, self._own_key, start, min(start + COPIED_AT_ONCE, self.size))

        with step("transfer"):
            parts = enumerate(range(0, self.size, COPIED_AT_ONCE), 1)
            await asyncio.gather(*(copy(number, at) for number, at in parts))
        return upload

    async def _tidy_up(self) -> None:
        """Leave nothing; what cannot be taken away now is found by `icefleet orphans`."""
        try:
            if self._upload is not None and not self._settled:
                await self._upload.abort()
            if self._own_key:
                await self._store.delete(self._own_key)
        except Fault as left:
            # Why the object was given up must be told, and not this.
            activity.logger.warning("an attempt's own object or upload is left behind: %s", left)
