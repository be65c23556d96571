"""Deleting what no snapshot of a mirror names any more, once no reader can be with it.

After an expiry everything that lies where the mirror's objects lie is held against what the snapshots name. What none
of them names is written down in an object of its own, under `unnamed/`. When that is older than the grace period, what
it lists and still no snapshot names is deleted, and then the list.

What a merge has stored and not committed yet is no orphan. It was stored after the head was committed for which it was
prepared, and a commit lands on that head or not at all. So what is older than the head will never be named.
"""

import asyncio
import json
import uuid
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from activities import failpoints
from activities.abreast import each
from activities.clients.objectstore import ListedObject, ObjectStore
from activities.core.faults import MirrorForeign
from activities.core.mirrors import MirrorConfig
from activities.lake.indexcache import cache_at
from activities.lake.mirrornames import metadata_place, named_by
from activities.mirror_context import MirrorContext
from activities.mirror_objects import store_object

FOLDER = "unnamed/"
SKEW_SECONDS = 300
"""How much the clocks of workers and of the store may differ."""
MOST_LISTED = 100_000
"""Objects of one list; what is left is found after the next expiry."""


@dataclass(frozen=True)
class Swept:
    """What was deleted."""

    objects: int = 0
    bytes: int = 0


class Sweep:
    """One turn of a mirror's sweeping."""

    def __init__(self, context: MirrorContext, config: MirrorConfig) -> None:
        self._context = context
        self._config = config
        self._store = context.store
        self._prefix = context.prefix(config)

    async def delete(self) -> Swept:
        """Delete what was written down long enough ago.

        Raises:
            Unknown: the index of a snapshot cannot be read, so nothing may go.
            StoreUnavailable, StoreRefused: the store does not answer, or says no.
        """
        now, done = await self._store.now(), Swept()
        for listed in await self._lists():
            if listed.made + self._config.expiry.grace_seconds <= now:
                swept = await self._delete_listed(await self._read(listed))
                await self._store.delete(listed.key)
                done = Swept(done.objects + swept.objects, done.bytes + swept.bytes)
        return done

    async def write_down(self) -> int:
        """Look for what no snapshot names, and write it down to be deleted later; answers how many objects that are.

        Raises:
            Unknown: the index of a snapshot cannot be read, so nobody knows.
            StoreUnavailable, StoreRefused: the store does not answer, or says no.
        """
        table, named = await asyncio.to_thread(self._named)
        head = table.current_snapshot()
        if head is None:
            return 0
        line = head.timestamp_ms / 1000 - SKEW_SECONDS
        waiting = {path for listed in await self._lists() for path, _ in await self._read(listed)}
        found: list[tuple[str, int]] = []
        bucket, metadata = metadata_place(table)
        for store, prefix, ending in ((self._store, self._prefix, ""), (self._store.bucket(bucket), metadata, ".avro")):
            async with aclosing(store.objects(prefix)) as pages:
                async for page in pages:
                    found += [
                        (path, one.size)
                        for one in page
                        if one.made < line
                        and one.key.endswith(ending)
                        and not one.key.startswith(self._prefix + FOLDER)
                        if (path := f"{store.name}/{one.key}") not in named and path not in waiting
                    ]
        if found:
            key = f"{self._prefix}{FOLDER}{uuid.uuid4()}.json"
            listed = json.dumps(found[:MOST_LISTED], separators=(",", ":")).encode()
            await store_object(self._store, self._context.lake.files(), key, listed)
        return len(found)

    async def _lists(self) -> list[ListedObject]:
        async with aclosing(self._store.objects(self._prefix + FOLDER)) as pages:
            return [one async for page in pages for one in page]

    async def _read(self, listed: ListedObject) -> list[tuple[str, int]]:
        body = await self._store.tail(listed.key, listed.size)
        return [(str(path), int(size)) for path, size in json.loads(body)]

    async def _delete_listed(self, listed: Sequence[tuple[str, int]]) -> Swept:
        """Delete the objects of a list, but for those that a snapshot names after all."""
        _, named = await asyncio.to_thread(self._named)
        going = [(path, size) for path, size in listed if path not in named]
        await failpoints.reach("tidy-before-delete")
        await each(lambda one: self._delete_one(one[0]), going)
        return Swept(len(going), sum(size for _, size in going))

    async def _delete_one(self, path: str) -> None:
        bucket, _, key = path.partition("/")
        store: ObjectStore = self._store if bucket == self._store.name else self._store.bucket(bucket)
        await store.delete(key)

    def _named(self) -> tuple[Any, set[str]]:
        """The table as it is now, and what its snapshots name."""
        lake, name = self._context.lake, self._config.mirror
        table = lake.load(name)
        if table is None:
            raise MirrorForeign(f"mirror {name} is not in the catalog any more; nothing of it is touched")
        return table, named_by(table, lake.files().part, cache_at(self._context.cache_directory))
