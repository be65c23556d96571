"""Batches that follow each other: one is read while the one before it lands, and lands when that one has, whole.

So PostgreSQL reads and this process converts while store and catalog are waited for. Nothing of a batch is visible, or
marked, before all of the batch before it is: what is ahead can be given up at any time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from activities.clients.buffer_claims import Claim, ClaimedTable
from activities.lake.changelog import ChangelogState

R = TypeVar("R")


class Batch(Generic[R]):
    """A batch on its way. `run` claims it (`claimed`), carries every table of it over and answers how that went."""

    def __init__(self, run: Callable[["Batch[R]"], Awaitable[R]], before: "Batch[R] | None" = None) -> None:
        self.before = before
        """The batch that lands first."""
        self.claim: Claim | None = None
        self._left: dict[tuple[str, str], ChangelogState | None] = {}
        self._was_read = asyncio.Event()
        self._landed = asyncio.Event()
        self._running = asyncio.ensure_future(run(self))
        self._running.add_done_callback(self._ended)

    def claimed(self, claim: Claim) -> None:
        """Say what is in it."""
        self.claim = claim
        if not claim.tables:
            self._was_read.set()

    def table_read(self, table: ClaimedTable, leaves: ChangelogState | None) -> None:
        """Say that nothing but landing is left to do for a table.

        `leaves` is how its changelog is to be found then, as far as what is read next depends on it; None: nobody
        knows, or it has failed.
        """
        self._left.setdefault(_key(table), leaves)
        if self.claim is not None and len(self._left) == len(self.claim.tables):
            self._was_read.set()

    def table_read_again(self, table: ClaimedTable, leaves: ChangelogState | None) -> None:
        """Say so again: what was read behind it must be, too, since other events may be dead letters now."""
        self._left[_key(table)] = leaves

    def expected(self, table: ClaimedTable) -> ChangelogState | None:
        """How the batch before is to leave a table's changelog; None when it does not touch it."""
        return self.before._left.get(_key(table)) if self.before else None  # noqa: SLF001 - of its own kind

    async def turn(self) -> None:
        """Wait until the batch before has landed, with all its tables."""
        if self.before is not None:
            await self.before._landed.wait()  # noqa: SLF001 - of its own kind

    async def may_be_followed(self) -> bool:
        """Whether the next one may be read, once this one was: more waits, and no table is to change its columns."""
        await self._was_read.wait()
        return self.claim is not None and self.claim.more and None not in self._left.values()

    async def outcome(self) -> R:
        """How it went, or what it failed with."""
        return await self._running

    def let_next_land(self) -> None:
        """Say that all of it has landed."""
        self._landed.set()

    async def give_up(self) -> None:
        """End it, unless it has ended; what it has read is forgotten."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    def _ended(self, _: object) -> None:
        self._was_read.set()
        self.before = None  # or every batch would keep all that were before


def _key(table: ClaimedTable) -> tuple[str, str]:
    return table.schema, table.name
