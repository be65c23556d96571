"""Asking the object store of an environment whether it can hold a lake, by a few objects that are gone afterwards."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from activities.clients.documents import Documents
from activities.clients.objectstore import ObjectStore
from activities.core.destinations import GUIDE
from activities.core.faults import Fault
from worker.config import Environment
from worker.parts import open_store

FOLDER = "icefleet-check"
PART = 5 * 2**20
"""Bytes: the smallest part that S3 takes."""
FIRST, SECOND = "first", "second"
_NOT_ONCE = "two workers could replace each other's files"


@dataclass
class DestinationReport:
    """What an object store lacks."""

    where: str
    lacks: list[str] = field(default_factory=list)
    """One line each: what is missing, and what the store said or did."""
    unreachable: str = ""
    """Why nothing could be tried; empty when everything was."""

    @property
    def ok(self) -> bool:
        """Whether the store was reached and can hold a lake."""
        return not (self.lacks or self.unreachable)


async def check_destination(environment: Environment) -> DestinationReport:
    """Try in the environment's bucket, under its prefix, all that icefleet will do there; about 25 MiB are written."""
    storage = environment.storage
    report = DestinationReport(f"{storage.endpoint}, bucket {storage.bucket}")
    folder = "/".join(part for part in (storage.prefix, FOLDER, uuid.uuid4().hex) if part)
    try:
        async with open_store(environment) as store:
            await store.check()
            probe = _Probe(store, folder, report.lacks)
            try:
                await probe.run(public=bool(storage.public_url))
            finally:
                await probe.clean()
    except Fault as fault:
        report.unreachable = str(fault)
    return report


class _Probe:
    """One try of everything below one folder."""

    def __init__(self, store: ObjectStore, folder: str, lacks: list[str]) -> None:
        self._store = store
        self._folder = folder
        self._lacks = lacks

    async def run(self, *, public: bool) -> None:
        """Try everything; what does not work is noted, and the rest tried all the same."""
        await self._try("creating an object only where there is none (If-None-Match on PUT)", self._create)
        await self._try("metadata of objects", self._metadata)
        await self._try("an upload of equal parts", self._upload)
        await self._try("completing an upload only where there is no object (If-None-Match)", self._complete)
        await self._try("copying an object, with metadata of its own", self._copy)
        await self._try("copying a part of an object into an upload", self._copy_part)
        await self._try("listing objects after a key", self._list)
        await self._try("listing unfinished uploads and their parts", self._list_uploads)
        if public:
            await self._try("replacing an object on condition (If-Match), for `public_url`", self._replace)

    async def clean(self) -> None:
        """Remove whatever is left, also of tries that failed."""
        async for page in self._store.uploads(f"{self._folder}/"):
            for upload in page:
                await self._store.abort(upload.key, upload.upload_id)
        async for page in self._store.objects(f"{self._folder}/"):
            for found in page:
                await self._store.delete(found.key)

    async def _try(self, what: str, attempt: Callable[[], Awaitable[str]]) -> None:
        try:
            wrong = await attempt()
        except Fault as fault:
            wrong = str(fault)
        if wrong:
            self._lacks.append(f"{what}: {wrong}")

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}"

    async def _create(self) -> str:
        key = self._key("created")
        if not await self._store.create(key, b"first", FIRST):
            return "a new object is refused"
        again = await self._store.create(key, b"other", SECOND)
        if again or await self._store.tail(key, 5) != b"first":
            return f"an object that was there has been replaced; {_NOT_ONCE}. {GUIDE}"
        return ""

    async def _metadata(self) -> str:
        await self._store.create(self._key("described"), b"first", FIRST)
        found = await self._store.head(self._key("described"))
        return "" if found is not None and found.recipe == FIRST else "they are not kept"

    async def _upload(self) -> str:
        key = self._key("uploaded")
        if not await self._send(key, b"a"):
            return "it is refused as if an object were there"
        found = await self._store.head(key)
        return "" if found is not None and found.size == 2 * PART + 1 else "the object has not the bytes that were sent"

    async def _complete(self) -> str:
        key = self._key("uploaded")
        again = await self._send(key, b"b")
        if again or await self._store.tail(key, 1) != b"a":
            return f"an object that was there has been replaced; {_NOT_ONCE}. {GUIDE}"
        return ""

    async def _send(self, key: str, last: bytes) -> bool:
        upload = await self._store.start(key, FIRST)
        for number, body in enumerate((bytes(PART), bytes(PART), last), 1):
            await upload.part(number, body)
        return await upload.complete()

    async def _copy(self) -> str:
        await self._store.copy(self._key("created"), self._key("copied"), SECOND, 5)
        found = await self._store.head(self._key("copied"))
        return "" if found is not None and found.recipe == SECOND else "the copy has not the metadata that were given"

    async def _copy_part(self) -> str:
        upload = await self._store.start(self._key("composed"), FIRST)
        await upload.copied_part(1, self._key("uploaded"), 0, PART)
        await upload.complete(overwrite=True)
        found = await self._store.head(self._key("composed"))
        return "" if found is not None and found.size == PART else "the object has not the bytes that were copied"

    async def _list(self) -> str:
        wanted = [self._key(name) for name in ("created", "uploaded")]
        found = {
            one.key async for page in self._store.objects(f"{self._folder}/", after=self._key("copied")) for one in page
        }
        lacking = [key for key in wanted if key not in found]
        if self._key("copied") in found:
            return "the key after which to begin is not looked at"
        return f"{', '.join(lacking)} was not listed" if lacking else ""

    async def _list_uploads(self) -> str:
        upload = await self._store.start(self._key("unfinished"), FIRST)
        await upload.part(1, b"begun")
        found = [one async for page in self._store.uploads(f"{self._folder}/") for one in page]
        mine = [one for one in found if one.key == self._key("unfinished")]
        sizes = [await self._store.upload_bytes(one.key, one.upload_id) for one in mine]
        await upload.abort()
        return "" if sizes == [5] else "one that was begun was not found; what dead workers leave would stay for ever"

    async def _replace(self) -> str:
        documents, key = Documents(self._store), self._key("document.json")
        await documents.create(key, b"1")
        first = await documents.read(key)
        if not await documents.replace(key, b"2", first):
            return "a replacement is refused though nobody else wrote"
        if await documents.replace(key, b"3", first):
            return "a document that somebody else had replaced was replaced again: readers could see old tables as new"
        return ""
