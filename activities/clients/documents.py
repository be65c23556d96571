"""Small objects for everybody to read: written once, or replaced on condition that nobody else did so meanwhile."""

from dataclasses import dataclass

from botocore.exceptions import ClientError

from activities.clients.objectstore import ABSENT, EXISTS, ObjectStore, _code

CONFLICT = frozenset({"ConditionalRequestConflict", "409"})
"""Two conditional writes met: the other one may have won."""
IMMUTABLE = "public, max-age=31536000, immutable"
FRESH = "no-cache"
"""To be asked for again at every use: what a cache would keep is how late readers hear of a commit."""
TYPES = {"json": "application/json", "text": "text/plain; charset=utf-8", "avro": "application/octet-stream"}


@dataclass(frozen=True)
class Document:
    """An object that was read whole."""

    body: bytes
    tag: str
    """Its ETag: what a replacement has to find there."""


class Documents:
    """The small objects of one bucket, for as long as its store is open."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._s3 = store._s3  # noqa: SLF001 - one connection, two things to do with it

    async def read(self, key: str) -> Document | None:
        """What is there under `key`; None when nothing is."""
        async with self._store._named(key):  # noqa: SLF001
            try:
                answer = await self._s3.get_object(Bucket=self._store.name, Key=key)
            except ClientError as failed:
                if _code(failed) in ABSENT:
                    return None
                raise
            return Document(bytes(await answer["Body"].read()), str(answer["ETag"]))

    async def create(self, key: str, body: bytes) -> bool:
        """Write an object that is not there yet, and never changes; False when one is, which is left as it was."""
        return await self._put(key, body, IMMUTABLE, {"IfNoneMatch": "*"})

    async def replace(self, key: str, body: bytes, last: Document | None, *, cache: str = FRESH) -> bool:
        """Put `body` in the place of what was read (None: of nothing); False when that is not there any more."""
        return await self._put(key, body, cache, {"IfMatch": last.tag} if last else {"IfNoneMatch": "*"})

    async def _put(self, key: str, body: bytes, cache: str, condition: dict[str, str]) -> bool:
        kind = TYPES[key.rpartition(".")[2]]
        async with self._store._named(key):  # noqa: SLF001
            try:
                await self._s3.put_object(
                    Bucket=self._store.name, Key=key, Body=body, ContentType=kind, CacheControl=cache, **condition
                )
            except ClientError as failed:
                # Absent is what was to be replaced, once it has been deleted.
                if _code(failed) in EXISTS | CONFLICT | ABSENT:
                    return False
                raise
        return True
