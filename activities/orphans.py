"""Orphans: what lies where a table's files lie, and no snapshot of the table names."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace

from activities.abreast import each
from activities.clients.objectstore import ListedObject, ObjectStore
from activities.context import ExportContext
from activities.contracts.export import table_identifier
from activities.contracts.orphans import REQUEST_SECONDS
from activities.core.direct import is_attempt
from activities.core.faults import BadRequest, StoreUnavailable
from activities.core.objectkeys import partition_of, public_key, table_prefix
from activities.core.publication import METADATA as PUBLIC_METADATA
from activities.core.tables import TableConfig
from activities.lake.catalog import Lake
from activities.lake.orphans import Named

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
class Place:
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

    def places(self, *, metadata: bool) -> list[Place]:
        """Where to look, in this order."""
        bucket, prefix = self._named.metadata_place
        places = [Place(DATA, self._store, self._prefix), Place(UPLOAD, self._store, self._prefix)]
        return [*places, *([Place(METADATA, self._store.bucket(bucket), prefix)] if metadata else [])]

    async def unnamed(self, place: Place, page: list[ListedObject]) -> list[ListedObject]:
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

    def _left(self, place: Place, page: list[ListedObject]) -> list[ListedObject]:
        return [found for found in page if found.upload_id or not self._is_kept(place, found.key)]

    def _is_kept(self, place: Place, key: str) -> bool:
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
