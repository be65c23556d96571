"""S3 and what speaks like it. Objects are created once and never changed."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    InvalidRegionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
)

from activities.clients.store_spans import trace_requests
from activities.clients.storekeys import NO_KEYS, CheckedSession, store_session
from activities.core.credentials import StoreKeys, is_tls_trouble, tls_advice
from activities.core.faults import Fault, StoreRefused, StoreUnavailable

ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
EXISTS = frozenset({"PreconditionFailed", "412"})
REFUSALS = frozenset(
    {
        # Who is asking, with what, and what for. A HEAD is answered without a body: then there is but its number.
        *("AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden", "Unauthorized", "401", "403"),
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed", "NotSignedUp", "400"),
        *("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestExpired", "InvalidSecurity"),
        # A clock of this machine that is wrong by minutes.
        "RequestTimeTooSkewed",
        # What for, and where.
        *("NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "301", "IllegalLocationConstraintException"),
        *("KeyTooLongError", "EntityTooLarge", "EntityTooSmall", "InvalidArgument", "InvalidRequest"),
        *("InvalidObjectState", "MethodNotAllowed", "NotImplemented", "405", "501"),
        # Room, which somebody has to make.
        *("QuotaExceeded", "QuotaExceededException", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"),
        *("StorageFull", "InsufficientStorage", "InsufficientCapacity", "507"),
    }
)
"""Codes of S3 and of what speaks like it that asking again cannot mend.

All others may pass: `SlowDown`, `ServiceUnavailable`, `InternalError`, `RequestTimeout`, `BadDigest`,
`ConditionalRequestConflict` (two wrote at once), `NoSuchUpload` (begun anew by the next attempt) and what is unknown.
"""
WRONG_FOR_GOOD = (PartialCredentialsError, ParamValidationError, InvalidRegionError)
LARGEST_COPY = 2**30
"""Bytes that are copied in one request. S3 takes five times as many, but may need longer than we wait for an answer."""
RECIPE = "icefleet-recipe"
"""Metadata of an object that says what made it; two objects of one recipe hold the same rows."""


@dataclass(frozen=True)
class StoreSettings:
    """How to reach one bucket."""

    endpoint: str
    bucket: str
    region: str
    keys: StoreKeys | None = None
    """None: those of the role that this process has."""
    ca_file: str = ""
    """Who may have signed the store's certificate; empty: those whom the system knows."""

    def __repr__(self) -> str:
        return f"StoreSettings({self.endpoint}/{self.bucket})"


@dataclass(frozen=True)
class StoredObject:
    """An object that is there."""

    size: int
    recipe: str
    made: int
    """When the store says that it was made, in whole seconds since the epoch."""


@dataclass(frozen=True)
class ListedObject:
    """An object, or an upload that is not finished, as a listing shows it."""

    key: str
    size: int
    made: int
    """When it was made or begun, by the store's clock, in whole seconds since the epoch."""
    upload_id: str = ""
    """Of an upload that is not finished; its size is not known."""


class ObjectStore:
    """One bucket. Use as an async context manager."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._s3: Any = None

    async def __aenter__(self) -> Self:
        session = store_session(self._settings.keys, self._settings.region)
        config = AioConfig(
            http_session_cls=CheckedSession,
            retries={"mode": "standard", "max_attempts": 4},
            s3={"addressing_style": "path"},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=64,
        )
        client = session.client(
            "s3", endpoint_url=self._settings.endpoint, config=config, verify=self._settings.ca_file or None
        )
        async with self._named(""):  # it reads the file of authorities
            self._s3 = await self._stack.enter_async_context(client)
        trace_requests(self._s3)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._settings.bucket

    def path(self, key: str) -> str:
        """The key as Iceberg writes it."""
        return f"s3://{self._settings.bucket}/{key}"

    def key(self, path: str) -> str:
        """The key of an object of this bucket, from the path that Iceberg holds; other paths stay as they are."""
        return path.removeprefix(f"s3://{self._settings.bucket}/")

    async def head(self, key: str) -> StoredObject | None:
        """What is there under `key`; None when nothing is."""
        async with self._named(key):
            try:
                answer = await self._s3.head_object(Bucket=self._settings.bucket, Key=key)
            except ClientError as failed:
                if _code(failed) in ABSENT and await self._has_bucket():
                    return None
                raise
        recipe = answer.get("Metadata", {}).get(RECIPE, "")
        return StoredObject(int(answer["ContentLength"]), recipe, _second(answer["LastModified"]))

    async def tail(self, key: str, length: int) -> bytes:
        """The last `length` bytes of an object, or all of a shorter one."""
        return (await self.dated_tail(key, length))[0]

    async def dated_tail(self, key: str, length: int) -> tuple[bytes, StoredObject]:
        """The same, and what object it is the end of."""
        async with self._named(key):
            answer = await self._s3.get_object(Bucket=self._settings.bucket, Key=key, Range=f"bytes=-{length}")
            tail = bytes(await answer["Body"].read())
        size = answer.get("ContentRange", "").rpartition("/")[2]
        recipe = answer.get("Metadata", {}).get(RECIPE, "")
        return tail, StoredObject(int(size) if size else len(tail), recipe, _second(answer["LastModified"]))

    async def create(self, key: str, body: bytes, recipe: str) -> bool:
        """Write an object that is not there yet; False when one is, which is left as it was."""
        async with self._named(key):
            try:
                await self._s3.put_object(
                    Bucket=self._settings.bucket, Key=key, Body=body, IfNoneMatch="*", Metadata={RECIPE: recipe}
                )
            except ClientError as failed:
                if _code(failed) in EXISTS:
                    return False
                raise
        return True

    async def start(self, key: str, recipe: str) -> "Upload":
        """Begin an upload in parts."""
        async with self._named(key):
            answer = await self._s3.create_multipart_upload(
                Bucket=self._settings.bucket, Key=key, Metadata={RECIPE: recipe}
            )
        return Upload(self, key, str(answer["UploadId"]))

    async def copy(self, source: str, target: str, recipe: str, size: int) -> None:
        """Put a copy of an object of `size` bytes under another key, over what is there: readers see one or the other.

        The store does it by itself; no byte of it passes through here.
        """
        if size > LARGEST_COPY:
            await self._copy_parts(source, target, recipe, size)
            return
        async with self._named(target):
            await self._s3.copy_object(
                Bucket=self._settings.bucket,
                Key=target,
                CopySource={"Bucket": self._settings.bucket, "Key": source},
                MetadataDirective="REPLACE",
                Metadata={RECIPE: recipe},
            )

    async def _copy_parts(self, source: str, target: str, recipe: str, size: int) -> None:
        upload = await self.start(target, recipe)
        async with AsyncExitStack() as unless_done:
            unless_done.push_async_callback(upload.abort)
            for number, first in enumerate(range(0, size, LARGEST_COPY), 1):
                await upload.copied_part(number, source, first, min(first + LARGEST_COPY, size))
            await upload.complete(overwrite=True)
            unless_done.pop_all()

    def bucket(self, name: str) -> "ObjectStore":
        """Another bucket of the same store, for as long as this one is open."""
        other = ObjectStore(replace(self._settings, bucket=name))
        other._s3 = self._s3
        return other

    async def now(self) -> int:
        """What the store's own clock says, in whole seconds since the epoch."""
        async with self._named(""):
            answer = await self._s3.head_bucket(Bucket=self._settings.bucket)
        return _second(parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]))

    async def objects(self, prefix: str, *, after: str = "") -> AsyncGenerator[list[ListedObject], None]:
        """Every object under a prefix whose key comes after `after`, in the order of the keys, page by page."""
        async with self._named(prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._settings.bucket, Prefix=prefix, StartAfter=after
            )
            async for page in pages:
                yield [
                    ListedObject(entry["Key"], int(entry["Size"]), _second(entry["LastModified"]))
                    for entry in page.get("Contents", [])
                ]

    async def some_objects(self, prefix: str, *, after: str, limit: int) -> tuple[list[ListedObject], bool]:
        """The next objects (at most `limit`, and 1,000) under a prefix after a key; and whether there are more."""
        async with self._named(prefix):
            answer = await self._s3.list_objects_v2(
                Bucket=self._settings.bucket, Prefix=prefix, StartAfter=after, MaxKeys=limit
            )
        found = [
            ListedObject(entry["Key"], int(entry["Size"]), _second(entry["LastModified"]))
            for entry in answer.get("Contents", [])
        ]
        return found, bool(answer.get("IsTruncated"))

    async def uploads(self, prefix: str) -> AsyncGenerator[list[ListedObject], None]:
        """Every unfinished upload under a prefix, page by page."""
        async with self._named(prefix):
            pages = self._s3.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._settings.bucket, Prefix=prefix
            )
            async for page in pages:
                yield [
                    ListedObject(entry["Key"], 0, _second(entry["Initiated"]), entry["UploadId"])
                    for entry in page.get("Uploads", [])
                ]

    async def upload_bytes(self, key: str, upload_id: str) -> int:
        """Bytes of the parts that an unfinished upload holds; 0 when it is gone."""
        total = 0
        async with self._named(key):
            pages = self._s3.get_paginator("list_parts").paginate(
                Bucket=self._settings.bucket, Key=key, UploadId=upload_id
            )
            try:
                async for page in pages:
                    total += sum(int(part["Size"]) for part in page.get("Parts", []))
            except ClientError as failed:
                if _code(failed) != "NoSuchUpload":
                    raise
        return total

    async def delete(self, key: str) -> None:
        """Delete an object; one that is gone already is fine."""
        async with self._named(key):
            await self._s3.delete_object(Bucket=self._settings.bucket, Key=key)

    async def abort(self, key: str, upload_id: str) -> None:
        """Drop an unfinished upload; one that is gone already is fine."""
        await Upload(self, key, upload_id).abort()

    @property
    def where(self) -> str:
        """What messages call the store."""
        return f"object store {self._settings.endpoint}"

    async def check(self) -> None:
        """See that the bucket is there and may be used, before anything is carried to it.

        Raises:
            StoreRefused: it is not, or the credentials are refused.
            StoreUnavailable: the object store does not answer.
        """
        async with self._named(""):
            await self._has_bucket()

    async def _has_bucket(self) -> bool:
        where = self.where
        try:
            await self._s3.head_bucket(Bucket=self._settings.bucket)
        except ClientError as failed:
            if _code(failed) in ABSENT:
                raise StoreRefused(
                    f"{where}: there is no bucket {self._settings.bucket!r}; "
                    "create it, or mend storage.bucket in environments.yaml"
                ) from failed
            if _code(failed) in REFUSALS:
                raise StoreRefused(
                    f"{where} refuses bucket {self._settings.bucket!r}: {failed}; "
                    "mend storage.access_key_env and storage.secret_key_env in environments.yaml, or grant the rights"
                ) from failed
            raise
        return True

    @asynccontextmanager
    async def _named(self, key: str) -> AsyncIterator[None]:
        where = f"{self.where}, bucket {self._settings.bucket}, object {key}"
        try:
            yield
        except Fault:
            raise
        except ClientError as failed:
            if _code(failed) in REFUSALS:
                raise StoreRefused(f"{where}: {failed}") from failed
            raise StoreUnavailable(f"{where}: {failed}") from failed
        except NoCredentialsError as none:
            raise StoreRefused(f"{where}: {NO_KEYS}") from none
        except SSLError as untrusted:
            raise _no_tls(where, untrusted) from untrusted
        except WRONG_FOR_GOOD as wrong:
            raise StoreRefused(f"{where}: {wrong}; mend storage in environments.yaml") from wrong
        except (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as away:
            raise StoreUnavailable(f"{where}: {away!r}") from away


class Upload:
    """An upload in parts of equal size (the last may be smaller). Nothing is there until it is completed."""

    def __init__(self, store: ObjectStore, key: str, upload_id: str) -> None:
        self._store = store
        self._key = key
        self._where: Mapping[str, str] = {"Bucket": store._settings.bucket, "Key": key, "UploadId": upload_id}  # noqa: SLF001 - one file, one thing
        self._parts: dict[int, str] = {}

    async def part(self, number: int, body: bytes) -> None:
        """Send part `number`, from 1. Parts may be sent at once and in any order."""
        async with self._store._named(self._key):  # noqa: SLF001
            answer = await self._store._s3.upload_part(**self._where, PartNumber=number, Body=body)  # noqa: SLF001
        self._parts[number] = answer["ETag"]

    async def copied_part(self, number: int, source: str, start: int, stop: int) -> None:
        """Let part `number` be bytes `start` to `stop` (not included) of another object of the bucket."""
        async with self._store._named(self._key):  # noqa: SLF001
            answer = await self._store._s3.upload_part_copy(  # noqa: SLF001
                **self._where,
                PartNumber=number,
                CopySource={"Bucket": self._store.name, "Key": source},
                CopySourceRange=f"bytes={start}-{stop - 1}",
            )
        self._parts[number] = answer["CopyPartResult"]["ETag"]

    async def complete(self, *, overwrite: bool = False) -> bool:
        """Make the object be there; False when one was there already, which is left as it was unless `overwrite`."""
        only_if = {} if overwrite else {"IfNoneMatch": "*"}
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in sorted(self._parts.items())]
        async with self._store._named(self._key):  # noqa: SLF001
            try:
                await self._store._s3.complete_multipart_upload(  # noqa: SLF001
                    **self._where, MultipartUpload={"Parts": parts}, **only_if
                )
            except ClientError as failed:
                if _code(failed) in EXISTS:
                    return False
                if not overwrite and _code(failed) == "NoSuchUpload" and await self._store.head(self._key) is not None:
                    return False  # an earlier try of this very call landed, and its answer was lost
                raise
        return True

    async def abort(self) -> None:
        """Drop the parts; one that is gone already is fine."""
        async with self._store._named(self._key):  # noqa: SLF001
            try:
                await self._store._s3.abort_multipart_upload(**self._where)  # noqa: SLF001
            except ClientError as failed:
                if _code(failed) not in ABSENT | {"NoSuchUpload"}:
                    raise


def _no_tls(where: str, failed: SSLError) -> Fault:
    kind = StoreRefused if is_tls_trouble(failed) else StoreUnavailable
    return kind(f"{where}: no connection by TLS: {failed}; {tls_advice('storage')}")


def _second(time: datetime) -> int:
    return int(time.timestamp())


def _code(failed: ClientError) -> str:
    return str(failed.response.get("Error", {}).get("Code", ""))
