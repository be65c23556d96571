"""The head's metadata is copied to where anybody can read it. What is left to do is derived: the hint says what is.

A reader begins at the hint, so the hint moves last, and only from what it said when this attempt began: the hint is
read, then the table, and whoever was overtaken since is refused and looks again. So the hint never goes back.
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from activities import failpoints
from activities.abreast import each
from activities.clients.documents import IMMUTABLE, Document, Documents
from activities.clients.objectstore import ListedObject, StoredObject
from activities.context import ExportContext
from activities.contracts.export import PublishReport, TableInput
from activities.core.faults import CommitConflict
from activities.core.publication import (
    CATALOG_KEY,
    FIRST_VERSION,
    METADATA,
    Place,
    catalog_entry,
    expired,
    place_of,
    version_in,
    version_of,
    with_entry,
)
from activities.lake.public import PublicHead, list_copy, manifest_copy, manifests_named, public_head

T = TypeVar("T")
TRIES = 20
"""Races against other publishers that one activity may lose."""
WAIT_SECONDS = 0.05
LOOKS_AT_ONCE = 16
COPIES_AT_ONCE = 2
"""Manifests that are held in memory at once."""
KEEP_SECONDS = 24 * 3600
"""For how long a reader that began with a version finds its files after the next one has come."""
SWEEP_EVERY = 20
"""Versions after which what nobody reads any more is looked for."""


async def publish(context: ExportContext, asked: TableInput) -> PublishReport:
    """Publish the head and the table's entry in the catalog, unless both are public as they are.

    Raises:
        BadConfig: the table names files that the public cannot get.
        CommitConflict: other publishers won every try.
    """
    config = context.table(asked)
    if not context.public_url:
        return PublishReport(version=0, published=False)
    place = place_of(config, asked.network, context.store.name, context.public_url, context.key_prefix)
    publication = _Publication(context, place)
    report = await _until_won(place, publication.attempt)
    if report.version:
        entry = catalog_entry(config, asked.network, place)
        await _until_won(place, lambda: _enter(context, entry))
    if report.published and report.version % SWEEP_EVERY == 0:
        await publication.sweep(report.version)
    return report


async def _until_won(place: Place, attempt: Callable[[], Awaitable[T | None]]) -> T:
    """What an attempt answers that was not overtaken."""
    for lost in range(TRIES):
        await asyncio.sleep(random.uniform(0, WAIT_SECONDS * lost))  # noqa: S311 - jitter, not a secret
        if (won := await attempt()) is not None:
            return won
    raise CommitConflict(
        f"table {place.table}: {TRIES} tries in a row to publish under {place.url} lost against others; look for a "
        "second environment that publishes there"
    )


async def _enter(context: ExportContext, entry: dict[str, Any]) -> bool | None:
    """See to it that the catalog says of a table what it should; None when somebody else changed it meanwhile."""
    documents, key = Documents(context.store), context.key(CATALOG_KEY)
    last = await documents.read(key)
    held = last.body if last else None
    wanted = with_entry(held, entry)
    if wanted == held:
        return True
    return await documents.replace(key, wanted, last) or None


class _Publication:
    """What one activity does for one table."""

    def __init__(self, context: ExportContext, place: Place) -> None:
        self._context = context
        self._place = place
        self._store = context.store
        self._documents = Documents(context.store)

    async def attempt(self) -> PublishReport | None:
        """Publish the head, if it is not; None when somebody else did something meanwhile."""
        place = self._place
        # First what is public, then the table: whoever replaces it has seen a table at least as new.
        last = await self._documents.read(place.hint)
        hinted = version_in(last.body if last else None)
        current = hinted or await self._highest()
        # The next version may be there: of a publisher that died before it moved the hint, or is about to move it.
        left = await self._documents.read(place.version(current + 1))
        table = await asyncio.to_thread(self._context.lake.load, place.table)
        head = await asyncio.to_thread(public_head, table, place) if table is not None else None
        if table is None or head is None:
            return PublishReport(version=0, published=False)
        await self._copy(table, head)
        published = await self._documents.read(place.version(hinted)) if hinted else None
        if published is not None and published.body == head.metadata:
            return PublishReport(current, published=False)
        return await self._move(head.metadata, current + 1, last, left)

    async def _move(
        self, metadata: bytes, version: int, last: Document | None, left: Document | None
    ) -> PublishReport | None:
        await failpoints.reach("before-public-version")
        # Written anew also if it says the same: when a version came tells how long readers may be with the one before.
        if not await self._documents.replace(self._place.version(version), metadata, left, cache=IMMUTABLE):
            return None
        await failpoints.reach("before-public-hint")
        if not await self._documents.replace(self._place.hint, str(version).encode(), last):
            return None
        return PublishReport(version, published=True)

    async def _highest(self) -> int:
        """Where to go on when somebody deleted the hint: no number comes again that a cache may know."""
        versions = [version_of(found.key) async for found in self._objects()]
        return max((number for number in versions if number is not None), default=FIRST_VERSION)

    async def _copy(self, table: Any, head: PublicHead) -> None:
        """Write the copies that are not there: of manifests, then of the list that names them."""
        keys = [self._place.copy(path) for path in (*head.manifests, head.manifest_list)]
        *stored, listed = await each(self._store.head, keys, LOOKS_AT_ONCE)

        async def length(manifest: tuple[str, StoredObject | None]) -> int:
            path, found = manifest
            return found.size if found is not None else await self._copy_manifest(table, path)

        manifests = list(zip(head.manifests, stored, strict=True))
        lengths = await each(length, manifests, COPIES_AT_ONCE)
        if listed is None:
            by_path = dict(zip(head.manifests, lengths, strict=True))
            await failpoints.reach("before-public-list")
            body = await asyncio.to_thread(list_copy, table, head.manifest_list, self._place, by_path)
            await self._documents.create(keys[-1], body)

    async def _copy_manifest(self, table: Any, path: str) -> int:
        """Bytes of the copy. One that somebody else has made meanwhile was made in the same way, and is as long."""
        await failpoints.reach("before-public-manifest")
        body = await asyncio.to_thread(manifest_copy, table, path, self._place)
        await self._documents.create(self._place.copy(path), body)
        return len(body)

    async def sweep(self, current: int) -> None:
        """Delete what belongs to no version that a reader may still be with."""
        before = await self._store.now() - KEEP_SECONDS
        objects = [found async for found in self._objects()]
        made = {number: found.made for found in objects if (number := version_of(found.key)) is not None}
        gone = expired(made, current, before)
        old = {found.key for found in objects if found.key.endswith(".avro") and found.made < before}
        if old:
            named = await each(self._named_by, sorted(made.keys() - gone), LOOKS_AT_ONCE)
            old.difference_update(*named)
        # Versions first: what they name is of no use without them, and they are of no use without it.
        await each(self._store.delete, [self._place.version(number) for number in gone], LOOKS_AT_ONCE)
        await each(self._store.delete, sorted(old), LOOKS_AT_ONCE)

    async def _objects(self) -> AsyncGenerator[ListedObject, None]:
        async with aclosing(self._store.objects(self._place.prefix + METADATA)) as pages:
            async for page in pages:
                for found in page:
                    yield found

    async def _named_by(self, version: int) -> set[str]:
        """Keys of the list and the manifests of a version; none when it has gone meanwhile."""
        metadata = await self._documents.read(self._place.version(version))
        if metadata is None:
            return set()
        lists = [self._key(one["manifest-list"]) for one in json.loads(metadata.body)["snapshots"]]
        found = [await self._documents.read(key) for key in lists]
        manifests = [await asyncio.to_thread(manifests_named, one.body) for one in found if one is not None]
        return {*lists, *(self._key(url) for urls in manifests for url in urls)}

    def _key(self, url: str) -> str:
        return url.removeprefix(f"{self._place.public_url}/")
