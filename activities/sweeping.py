"""Deleting what no snapshot of a mirror or a changelog names any more, once no reader can be with it.

After an expiry everything that lies where the table's objects lie is held against what the snapshots name. What none
of them names is written down in an object of its own, under `unnamed/`. When that is older than the grace period, what
it lists and still no snapshot names is deleted, and then the list.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from activities import failpoints
from activities.abreast import each
from activities.cdc_context import CdcContext, PipelineConfig
from activities.clients.objectstore import ListedObject, ObjectStore
from activities.core.changelogkeys import changelog_prefix
from activities.core.faults import MirrorForeign
from activities.core.mirrors import MirrorConfig
from activities.lake.changelog import PIPELINE
from activities.lake.changelogupkeep import Known, known_of
from activities.lake.content import Files
from activities.lake.mirrornames import metadata_place, named_by
from activities.lake.neighbours import neighbours
from activities.lake.placeset import PlaceSet
from activities.mirror_context import MirrorContext
from activities.mirror_objects import store_object

FOLDER = "unnamed/"
SKEW_SECONDS = 300
"""How much the clocks of workers and of the store may differ."""
MOST_LISTED = 100_000
"""Objects of one list; what is left is found after the next expiry."""
Unnamed = tuple[str, int]
"""`<bucket>/<key>` of an object, and its size in bytes."""


@dataclass(frozen=True)
class Swept:
    """What was deleted."""

    objects: int = 0
    bytes: int = 0


class Sweep:
    """One turn of sweeping below one prefix.

    `look` answers what is named, or None when there is no such table; it blocks. `line` of what it answers is a time in
    seconds since the epoch: what is older and not named never will be. None: nobody knows, and nothing is written down.
    """

    def __init__(
        self, store: ObjectStore, files: Files, prefix: str, grace_seconds: float, look: Callable[[], Known | None]
    ) -> None:
        self._store = store
        self._files = files
        self._prefix = prefix
        self._grace = grace_seconds
        self._look = look

    async def delete(self, *, dry_run: bool = False) -> Swept:
        """Delete what was written down long enough ago.

        Raises:
            Unknown: the index of a snapshot cannot be read, so nothing may go.
            StoreUnavailable, StoreRefused: the store does not answer, or says no.
        """
        now, done = await self._store.now(), Swept()
        for listed in await self._lists():
            if listed.made + self._grace <= now:
                swept = await self._delete_listed(await self._read(listed), dry_run=dry_run)
                if not dry_run:
                    await self._store.delete(listed.key)
                done = Swept(done.objects + swept.objects, done.bytes + swept.bytes)
        return done

    async def write_down(self) -> int:
        """Look for what no snapshot names, and write it down to be deleted later; answers how many objects that are.

        At most MOST_LISTED.

        Raises:
            Unknown: the index of a snapshot cannot be read, so nobody knows.
            StoreUnavailable, StoreRefused: the store does not answer, or says no.
        """
        known = await asyncio.to_thread(self._look)
        if known is None or known.line is None:
            return 0
        waiting = PlaceSet()
        for listed in await self._lists():
            waiting.update(path for path, _ in await self._read(listed))
        found: list[Unnamed] = []
        async with aclosing(self._older(known.table, known.line - SKEW_SECONDS)) as pages:
            async for page in pages:
                found += _without(_without(page, known.named), waiting)
                if len(found) >= MOST_LISTED:
                    break
        if found:
            key = f"{self._prefix}{FOLDER}{uuid.uuid4()}.json"
            body = json.dumps(found[:MOST_LISTED], separators=(",", ":")).encode()
            await store_object(self._store, self._files, key, body)
        return len(found[:MOST_LISTED])

    async def _older(self, table: Any, line: float) -> AsyncGenerator[list[Unnamed], None]:
        """Objects where those of the table lie that were made before `line`, a page at a time."""
        bucket, metadata = metadata_place(table)
        own = (self._store, self._prefix, "")
        for store, prefix, ending in (own, (self._store.bucket(bucket), metadata, (".avro", ".metadata.json"))):
            async with aclosing(store.objects(prefix)) as pages:
                async for page in pages:
                    yield [
                        (f"{store.name}/{one.key}", one.size)
                        for one in page
                        if one.made < line
                        and one.key.endswith(ending)
                        and not one.key.startswith(self._prefix + FOLDER)
                    ]

    async def _lists(self) -> list[ListedObject]:
        async with aclosing(self._store.objects(self._prefix + FOLDER)) as pages:
            return [one async for page in pages for one in page]

    async def _read(self, listed: ListedObject) -> list[Unnamed]:
        body = await self._store.tail(listed.key, listed.size)
        return [(str(path), int(size)) for path, size in json.loads(body)]

    async def _delete_listed(self, listed: Sequence[Unnamed], *, dry_run: bool) -> Swept:
        """Delete the objects of a list, but for those that a snapshot names after all."""
        known = await asyncio.to_thread(self._look)
        if known is None:
            return Swept()
        going = _without(listed, known.named)
        if not dry_run:
            await failpoints.reach("tidy-before-delete")
            await each(lambda one: self._delete_one(one[0]), going)
            await failpoints.reach("tidy-after-delete")
        return Swept(len(going), sum(size for _, size in going))

    async def _delete_one(self, path: str) -> None:
        bucket, _, key = path.partition("/")
        store: ObjectStore = self._store if bucket == self._store.name else self._store.bucket(bucket)
        await store.delete(key)


def _without(objects: Sequence[Unnamed], places: PlaceSet) -> list[Unnamed]:
    held = places.holds([path for path, _ in objects])
    return [one for one, is_held in zip(objects, held, strict=True) if not is_held]


def mirror_sweep(context: MirrorContext, config: MirrorConfig) -> Sweep:
    """The sweep of a mirror.

    What a merge has stored and not committed yet is no orphan. It was stored after the head was committed for which it
    was prepared, and a commit lands on that head or not at all. So what is older than the head will never be named.
    But for what a mirror that begins again has stored: it may land on a newer head for as long as no list that was made
    since the first of those can be old enough (`bootstrapping`).

    A mirror that somebody renamed, to put it aside, keeps its rows: they lie where those of its successor do.
    """
    lake, name = context.lake, config.mirror

    def look() -> Known:
        table = lake.load(name)
        if table is None:
            raise MirrorForeign(f"mirror {name} is not in the catalog any more; nothing of it is touched")
        head = table.current_snapshot()
        others = neighbours(lake, name, context.mirrors.__contains__)
        put_aside = (other for other in others if PIPELINE not in other.properties)  # a changelog has files of its own
        named = named_by(table, lake.files().part, context.index_cache, put_aside)
        return Known(table, named, None if head is None else head.timestamp_ms / 1000)

    grace = config.expiry.grace_seconds
    return Sweep(context.store, lake.files(), context.prefix(config), grace, look)


def changelog_sweep(context: CdcContext, pipeline: PipelineConfig, changelog: str) -> Sweep:
    """The sweep of a changelog. What a batch or a copy has under way is newer than the pipeline's last snapshot."""
    prefix, lake = context.key(changelog_prefix(changelog)), context.lake
    return Sweep(context.store, lake.files(), prefix, pipeline.grace_seconds, lambda: known_of(lake, changelog))
