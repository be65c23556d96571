"""Public keys get the newest rows of one table once nobody reads the old ones."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, NoReturn

from temporalio import activity

from activities import failpoints
from activities.abreast import each, seen_through
from activities.clients.objectstore import StoredObject
from activities.context import ExportContext
from activities.contracts.export import TableInput, table_identifier
from activities.contracts.upkeep import (
    COPY_SECONDS,
    LISTED_KEYS,
    LOOK_SECONDS,
    WORK_SECONDS,
    RefreshInput,
    RefreshPage,
)
from activities.core.faults import BadRequest, SchemaConflict, StoreUnavailable
from activities.core.objectkeys import public_key
from activities.core.orphans import PROPERTY
from activities.core.partitions import index_of, label_of
from activities.core.tables import TableConfig
from activities.core.upkeep import PURGED_PROPERTY, copy_mark, is_copy, purged_before
from activities.lake.commit import commit_files
from activities.lake.orphans import Named, draw_line
from activities.orphans import in_config
from activities.shown import what_is_shown

KEYS_AT_ONCE = 256
"""Public keys that are looked at together, and for which at most one line is drawn."""
CLOCK_LOOKS, CLOCK_POLL_SECONDS = 20, 0.1
"""How often, and how far apart, the store's clock is looked at until a second has begun."""


async def refresh_page(context: ExportContext, task: RefreshInput) -> RefreshPage:
    """Refresh public keys until every partition has been looked at or the attempt's time is up.

    Raises:
        BadRequest: the catalog has no such table.
    """
    config = context.table(TableInput(task.environment, task.table, task.network))
    began = task.began or await context.store.now()
    refresh = _Refresh(context, config, task)
    if not await refresh.begin():
        return refresh.page(began, task.cursor, done=True)
    cursor = task.cursor
    for some in refresh.chunks():
        if not await refresh.take(some):
            return refresh.page(began, cursor, done=False)
        cursor = label_of(config.partition, some[-1])
    if context.purge is not None and not task.dry_run and task.all_purged and not refresh.problem:
        await refresh.remember_purged(began)
    return refresh.page(began, cursor, done=True)


@dataclass(frozen=True)
class _Public:
    """A partition whose file lies beside its public key."""

    index: int
    source: str
    """Key of the file that the table holds."""
    key: str
    """The public one."""


@dataclass
class _Sorted:
    """What is to be done about some public keys."""

    due: dict[_Public, StoredObject | None] = field(default_factory=dict)
    """To be refreshed, each with what is there now."""
    unheard: list[_Public] = field(default_factory=list)
    """Fresh, and the cache may not know."""
    waiting: int = 0
    fresh: int = 0
    foreign: int = 0


@dataclass
class _Refresh:
    """One attempt: what the table holds, and what has been done."""

    context: ExportContext
    config: TableConfig
    task: RefreshInput
    refreshed: list[str] = field(default_factory=list)
    bytes: int = 0
    fresh: int = 0
    waiting: int = 0
    foreign: int = 0
    purged: int = 0
    problem: str = ""

    def __post_init__(self) -> None:
        context, task = self.context, self.task
        self._identifier = table_identifier(task.network, task.table)
        rule, is_ours = self.config.partition, in_config(context, task.network)
        self._named = Named(context.lake, self._identifier, rule, is_ours)
        # By the clock on the wall: it goes on while a machine is held.
        self._latest = time.time() + LOOK_SECONDS
        self._ends = 0.0

    async def begin(self) -> bool:
        """Look at the table, and answer whether its public keys may be touched; the time for work counts from then on.

        Raises:
            StoreUnavailable: that took so long that a copy might arrive after the loop has given this attempt up, or
                nobody knows what public readers may be with.
        """
        shown = await what_is_shown(self.context, self.config, self.task.network)
        await self.look()
        if time.time() > self._latest:
            raise StoreUnavailable(
                f"the manifests of table {self._identifier} could not be read within {LOOK_SECONDS} s; look at the "
                "store that holds the catalog's tables, or have fewer snapshots retained"
            )
        self._ends = time.time() + WORK_SECONDS
        if unknown := sorted(shown.snapshots - self._named.snapshots):
            self.problem = (
                f"no public object is refreshed: public readers may be with snapshot {unknown[0]}, of which the table "
                "does not know any more what it reads; its next run publishes the newest, and a day later this passes"
            )
        return not unknown

    async def look(self) -> None:
        """Read what the newest snapshot holds, and what the others name."""
        if not await asyncio.to_thread(self._named.refresh):
            raise BadRequest(f"table {self._identifier} is not in the catalog: nothing of it is touched")

    def chunks(self) -> list[list[int]]:
        """Partitions after the cursor whose file is not at its public key, a handful at a time."""
        rule = self.config.partition
        after = index_of(rule, self.task.cursor) if self.task.cursor else -1
        beside = [index for index in sorted(self._named.head) if index > after and self._public(index) is not None]
        return [beside[first : first + KEYS_AT_ONCE] for first in range(0, len(beside), KEYS_AT_ONCE)]

    def _public(self, index: int) -> _Public | None:
        path = self._named.head.get(index)
        key = self.context.key(public_key(self.config, self.task.network, index))
        source = self.context.store.key(path) if path is not None else key
        return None if source == key else _Public(index, source, key)

    def page(self, began: int, cursor: str, *, done: bool) -> RefreshPage:
        """What has been done."""
        return RefreshPage(
            began=began,
            cursor=cursor,
            done=done,
            refreshed=len(self.refreshed),
            bytes=self.bytes,
            fresh=self.fresh,
            waiting=self.waiting,
            foreign=self.foreign,
            purged=self.purged,
            problem=self.problem,
            keys=self.refreshed[:LISTED_KEYS],
        )

    async def take(self, indices: list[int]) -> bool:
        """Bring some public keys up to date; False when time was up before all of them were."""
        if time.time() >= self._ends:
            return False
        publics = [public for index in indices if (public := self._public(index)) is not None]
        stored = await each(lambda public: self.context.store.head(public.key), publics)
        found = self._sorted(publics, stored)
        done = [(public, 0) for public in found.due]
        left = 0
        if found.due and not self.task.dry_run:
            done = await self._refresh(found)
            left = len(found.due) - len(done)
        self.refreshed += [public.key for public, _ in done]
        self.bytes += sum(size for _, size in done)
        await self._purge([*found.unheard, *(public for public, _ in done)])
        if left and time.time() >= self._ends:
            return False
        self.waiting += found.waiting
        self.fresh += found.fresh
        self.foreign += found.foreign
        return True

    async def _refresh(self, found: "_Sorted") -> list[tuple[_Public, int]]:
        """Copy what is due as long as there is time, and answer the bytes of each."""
        await self._make_sure(found.due)
        still = [public for public in found.due if self._public(public.index) == public and not self._is_read(public)]
        await failpoints.reach("before-refresh")
        copied = await each(self._copy, still)
        await failpoints.reach("after-refresh")
        return [(public, size) for public, size in zip(still, copied, strict=True) if size is not None]

    def _is_read(self, public: _Public) -> bool:
        return self._named.is_read(self.context.store.name, public.key)

    def _sorted(self, publics: list[_Public], stored: list[StoredObject | None]) -> "_Sorted":
        found = _Sorted()
        since = purged_before(self._named.properties)
        for public, there in zip(publics, stored, strict=True):
            if self._is_read(public):
                found.waiting += 1
            elif there is not None and there.recipe == copy_mark(public.source):
                found.fresh += 1
                found.unheard += [public] if there.made >= since else []
            elif there is not None and not there.recipe and not self.task.take_over:
                found.foreign += 1
            else:
                found.due[public] = there
        return found

    async def _make_sure(self, due: dict[_Public, StoredObject | None]) -> None:
        """Nothing that is overwritten may become part of the table any more; a copy of ours never could."""
        made = [there.made for there in due.values() if there is not None and not is_copy(there.recipe)]
        if made:
            line = max(made) + 1
            await self._begun(line)
            summary = {"icefleet.workflow-id": activity.info().workflow_id or "", PROPERTY: str(line)}
            await asyncio.to_thread(
                draw_line, self.context.lake, self._identifier, self.config.partition, line, summary
            )
        await self.look()

    async def _begun(self, second: int) -> None:
        """Wait until a second has begun by the store's clock, unless that clock was set back.

        Stores date by whole seconds: what is made once the line is drawn would seem to be older than a line ahead.
        """
        for _ in range(CLOCK_LOOKS):
            if await self.context.store.now() >= second:
                return
            await asyncio.sleep(CLOCK_POLL_SECONDS)

    async def _copy(self, public: _Public) -> int | None:
        """Bytes that were copied; None when time was up."""
        if time.time() >= self._ends:
            return None
        # A request that is on its way is waited for: it must not take effect after this attempt has ended.
        return await seen_through(self._copied(public))

    async def _copied(self, public: _Public) -> int:
        store = self.context.store
        source = await store.head(public.source)
        if source is None:
            raise StoreUnavailable(f"{public.source}, which table {self._identifier} holds, is not in the store")
        try:
            async with asyncio.timeout(COPY_SECONDS):
                await store.copy(public.source, public.key, copy_mark(public.source), source.size)
        except TimeoutError as late:
            raise StoreUnavailable(f"{public.key} was not refreshed within {COPY_SECONDS} s") from late
        return source.size

    async def _purge(self, publics: list[_Public]) -> None:
        """Tell the cache. What it does not hear now it hears with the next upkeep: copies say when they were made."""
        if self.context.purge is None or self.task.dry_run or not publics:
            return
        urls = [f"{self.context.public_url}/{public.key}" for public in publics]
        told, problem = await asyncio.to_thread(self.context.purge.tell, urls)
        self.purged += told
        self.problem = self.problem or problem

    async def remember_purged(self, began: int) -> None:
        """From now on only copies made since `began` are told to the cache."""
        await asyncio.to_thread(
            commit_files,
            self.context.lake,
            self._identifier,
            self.config.partition,
            [],
            _no_files,
            summary={},
            properties=lambda _: {PURGED_PROPERTY: str(began)},
        )


def _no_files(table: Any, _: object) -> NoReturn:
    raise SchemaConflict(f"table {'.'.join(table.name())}: a property has no files")
