"""Orphans: what lies where a table's files lie, and no snapshot of the table names. Found, and deleted."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import dropwhile

from temporalio import activity

from activities import failpoints
from activities.abreast import each, seen_through
from activities.clients.objectstore import ListedObject, ObjectStore
from activities.context import ExportContext
from activities.contracts.export import table_identifier
from activities.contracts.orphans import (
    LISTED_KEYS,
    REQUEST_SECONDS,
    WORK_SECONDS,
    OrphansInput,
    OrphansPage,
)
from activities.core.direct import is_attempt
from activities.core.faults import BadRequest, StoreUnavailable
from activities.core.objectkeys import partition_of, public_key, table_prefix
from activities.core.orphans import PROPERTY, check_age
from activities.core.publication import METADATA as PUBLIC_METADATA
from activities.core.tables import PartitionRule, TableConfig
from activities.core.upkeep import readers_left
from activities.lake.catalog import Lake
from activities.lake.orphans import Named, draw_line

DATA, UPLOAD, METADATA = "data object", "unfinished upload", "metadata"


@dataclass(frozen=True)
class Orphan:
    """An object, or an unfinished upload, that no snapshot names."""

    table: str
    """`<network>.<table>`."""
    kind: str
    """`data object`, `unfinished upload` or `metadata`."""
    found: ListedObject
    foreign: bool = False
    """Not made by icefleet, which leaves it alone."""


@dataclass(frozen=True)
class _Place:
    """One kind of orphan, and where it lies."""

    kind: str
    store: ObjectStore
    prefix: str

    async def pages(self, after: str = "") -> AsyncGenerator[list[ListedObject], None]:
        """Everything that lies there and could be an orphan of this kind."""
        if self.kind == UPLOAD:
            listed = self.store.uploads(self.prefix)
        else:
            listed = self.store.objects(self.prefix, after=after)
        async with aclosing(listed) as pages:
            async for page in pages:
                yield [found for found in page if self._may_be_orphan(found.key)]

    def _may_be_orphan(self, key: str) -> bool:
        if self.kind == METADATA:
            # Manifests, manifest lists and what stood for the table: the rest is the catalog's to keep.
            return key.endswith((".avro", ".metadata.json"))
        # The public copy of the metadata is named by its own hint, and swept by whoever publishes.
        return not key.startswith(self.prefix + PUBLIC_METADATA)

    async def is_foreign(self, found: ListedObject) -> bool | None:
        """Whether somebody else made it; None when it is gone, or another one took its place."""
        if self.kind != DATA:
            return False
        stored = await self.store.head(found.key)
        if stored is None or stored.made != found.made:
            return None
        return not (stored.recipe or is_attempt(found.key))

    async def weighed(self, found: ListedObject) -> ListedObject:
        """The same, with the bytes that an unfinished upload holds so far."""
        if not found.upload_id:
            return found
        return replace(found, size=await self.store.upload_bytes(found.key, found.upload_id))

    async def remove(self, found: ListedObject) -> None:
        """Delete it.

        Raises:
            StoreUnavailable: the store gave no answer in time; nothing is sent after that.
        """
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                if found.upload_id:
                    await self.store.abort(found.key, found.upload_id)
                else:
                    await self.store.delete(found.key)
        except TimeoutError as late:
            raise StoreUnavailable(f"{found.key} was not deleted within {REQUEST_SECONDS} s") from late


class TableOrphans:
    """The orphans of one table, as they are found.

    `names` says what the snapshots name; what is found is held against the newest of them, page by page.
    """

    def __init__(
        self,
        store: ObjectStore,
        lake: Lake,
        config: TableConfig,
        network: str,
        key_prefix: str,
        is_ours: Callable[[str], bool],
    ) -> None:
        self.identifier = table_identifier(network, config.name)
        self._store = store
        above = [key_prefix] if key_prefix else []
        self._prefix = "/".join([*above, table_prefix(config, network)])
        self._public_key = lambda index: "/".join([*above, public_key(config, network, index)])
        self._config, self._network, self._above = config, network, f"{key_prefix}/" if key_prefix else ""
        self._named = Named(lake, self.identifier, config.partition, is_ours)
        self._public: frozenset[str] = frozenset()
        """Public keys of the partitions that the table holds: what lies there is read by URL, named or not."""

    async def open(self) -> bool:
        """Read what the table names; False when the catalog has no such table, of which nothing is an orphan then."""
        there = await asyncio.to_thread(self._named.refresh)
        self._public = frozenset(map(self._public_key, self._named.head))
        return there

    @property
    def properties(self) -> Mapping[str, str]:
        """The table's, when it was looked at last."""
        return self._named.properties

    def places(self, *, metadata: bool) -> list[_Place]:
        """Where to look, in this order."""
        bucket, prefix = self._named.metadata_place
        places = [_Place(DATA, self._store, self._prefix), _Place(UPLOAD, self._store, self._prefix)]
        return [*places, *([_Place(METADATA, self._store.bucket(bucket), prefix)] if metadata else [])]

    async def unnamed(self, place: _Place, page: list[ListedObject]) -> list[ListedObject]:
        """What of a page no snapshot names, the newest included.

        Raises:
            BadRequest: the table has gone from the catalog meanwhile.
        """
        left = self._left(place, page)
        if left and not await self.open():
            raise BadRequest(f"table {self.identifier} is not in the catalog any more; nothing of it is touched")
        return self._left(place, left)

    def is_of_held(self, key: str) -> bool:
        """Whether the table holds the partition of a data object that it does not name, or an attempt has left it."""
        index = partition_of(self._config, self._network, key.removeprefix(self._above))
        return is_attempt(key) or (index is not None and index in self._named.head)

    def _left(self, place: _Place, page: list[ListedObject]) -> list[ListedObject]:
        return [found for found in page if found.upload_id or not self._is_kept(place, found.key)]

    def _is_kept(self, place: _Place, key: str) -> bool:
        return self._named.has(place.store.name, key) or (place.kind == DATA and key in self._public)

    async def all(self, *, metadata: bool) -> AsyncGenerator[Orphan, None]:
        """Every one of them, those of other origin included, without touching anything."""
        if not await self.open():
            return
        for place in self.places(metadata=metadata):
            async with aclosing(place.pages()) as pages:
                async for page in pages:
                    left = await self.unnamed(place, page)
                    for found, foreign in zip(left, await each(place.is_foreign, left), strict=True):
                        if foreign is not None:
                            yield Orphan(self.identifier, place.kind, await place.weighed(found), foreign)


def in_config(context: ExportContext, network: str) -> Callable[[str], bool]:
    """Whether config has a table of that name and this network."""

    def is_ours(table: str) -> bool:
        try:
            context.find_table(table, network)
        except BadRequest:
            return False
        return True

    return is_ours


async def delete_page(context: ExportContext, task: OrphansInput) -> OrphansPage:
    """Delete what is older than asked for, until everything has been looked at or the attempt's time is up.

    Raises:
        BadRequest: the age is none or too low, or the catalog has no such table.
    """
    config = context.table(task)
    least = context.orphan_age_seconds
    age = least if task.after_expiry and not task.older_than else check_age(task.older_than, least)

    is_ours = in_config(context, task.network)
    orphans = TableOrphans(context.store, context.lake, config, task.network, context.key_prefix, is_ours)
    there = await orphans.open()
    if not there and not task.after_expiry:
        raise BadRequest(f"table {orphans.identifier} is not in the catalog: what it names is not known, nothing goes")
    waiting = await _waiting(context, orphans) if there else ""
    if waiting or not there:
        return replace(_NOTHING, line=task.line or 1, waiting=waiting)
    line = task.line or await context.store.now() - age
    deletion = _Deletion(
        context.lake, orphans, config.partition, line, dry_run=task.dry_run, held_only=task.after_expiry
    )
    kind, _, after = task.cursor.partition(":")
    for place in dropwhile(lambda place: kind not in {"", place.kind}, orphans.places(metadata=task.metadata)):
        async with aclosing(place.pages(after)) as pages:
            async for page in pages:
                if not await deletion.take(place, page):
                    return deletion.page(f"{place.kind}:{after}")
                after = page[-1].key if page else after
        after = ""
    return deletion.page("")


_NOTHING = OrphansPage(line=0, cursor="", deleted=0, bytes=0, young=0, foreign=0, keys=[])


async def _waiting(context: ExportContext, orphans: TableOrphans) -> str:
    """Why nothing is to be deleted just now, whoever asks; empty when nothing is in the way.

    An object's age does not tell: a file that was replaced long ago may have been named until a moment ago.
    """
    left = readers_left(orphans.properties, await context.store.now(), context.grace_seconds)
    return f"nothing is deleted for {left} s more: readers may be with snapshots that have just expired" if left else ""


class _Deletion:
    """One attempt: what it may delete, for how long, and what it has done."""

    def __init__(
        self, lake: Lake, orphans: TableOrphans, rule: PartitionRule, line: int, *, dry_run: bool, held_only: bool
    ) -> None:
        self._lake = lake
        self._orphans = orphans
        self._rule = rule
        self._line = line
        self._dry_run = dry_run
        self._held_only = held_only
        """Objects of partitions that the table does not hold stay: they may be all that is left of them."""
        # By the clock on the wall: it goes on while a machine is held.
        self._ends = time.time() + WORK_SECONDS
        self._drawn = False
        self._gone: list[tuple[_Place, ListedObject]] = []
        self._young = self._foreign = self._kept = 0

    def page(self, cursor: str) -> OrphansPage:
        """What has been done."""
        return OrphansPage(
            line=self._line,
            cursor=cursor,
            deleted=len(self._gone),
            bytes=sum(found.size for _, found in self._gone),
            young=self._young,
            foreign=self._foreign,
            keys=[f"{place.kind}: {found.key}" for place, found in self._gone[:LISTED_KEYS]],
            kept=self._kept,
        )

    @property
    def _time_is_up(self) -> bool:
        return time.time() >= self._ends

    async def take(self, place: _Place, listed: list[ListedObject]) -> bool:
        """Delete the orphans of a page; False when time was up before the page's end."""
        if self._time_is_up:
            return False
        left = await self._orphans.unnamed(place, listed)
        old = [found for found in left if found.made < self._line]
        origins = await each(place.is_foreign, old)
        made = [found for found, foreign in zip(old, origins, strict=True) if foreign is False]
        ours = [found for found in made if not self._is_kept(place, found)]
        kept = len(made) - len(ours)
        if ours and not self._dry_run:
            await self._draw_line(place)
            # Only now is it certain that nothing older than the line becomes part of the table any more.
            ours = await self._orphans.unnamed(place, ours)
            removed = await each(lambda found: self._remove(place, found), ours)
            if None in removed:
                self._gone += [(place, found) for found, gone in zip(ours, removed, strict=True) if gone]
                return False
            ours = [found for found, gone in zip(ours, removed, strict=True) if gone]
        self._gone += [(place, found) for found in ours]
        self._young += len(left) - len(old)
        self._foreign += origins.count(True)
        self._kept += kept
        return True

    def _is_kept(self, place: _Place, found: ListedObject) -> bool:
        return self._held_only and place.kind == DATA and not self._orphans.is_of_held(found.key)

    async def _draw_line(self, place: _Place) -> None:
        # An upload that is dropped can never become an object that a commit could name.
        if self._drawn or place.kind == UPLOAD:
            return
        summary = {"icefleet.workflow-id": activity.info().workflow_id or "", PROPERTY: str(self._line)}
        await asyncio.to_thread(draw_line, self._lake, self._orphans.identifier, self._rule, self._line, summary)
        self._drawn = True
        await failpoints.reach("before-delete")

    async def _remove(self, place: _Place, found: ListedObject) -> bool | None:
        """Whether it was deleted; None when time was up."""
        foreign = await place.is_foreign(found)
        if self._time_is_up:
            return None
        if foreign is not False:
            return False  # it has gone, or another one has taken its place
        # A request that is on its way is waited for: it must not take effect after this attempt has ended.
        await seen_through(place.remove(found))
        return True
