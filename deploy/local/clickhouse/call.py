"""What an HTTP request asks for: ClickHouse's URL parameters, headers and body, taken apart."""

import base64
import binascii
import hmac
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import BodyPartReader, web

from deploy.local.clickhouse import compression
from deploy.local.clickhouse.engine import QuerySetup
from deploy.local.clickhouse.faults import AUTHENTICATION_FAILED, EngineError

# Parameters of the HTTP interface itself; everything else in the URL is a setting or a query parameter.
# Sessions are accepted and hold nothing: every request has a connection of its own.
_OWN_PARAMETERS = frozenset(
    {
        "buffer_size", "client_protocol_version", "close_session", "compress", "database", "decompress",
        "default_format", "password", "query", "query_id", "quota_key", "role", "session_check", "session_id",
        "session_timeout", "stacktrace", "user", "wait_end_of_query",
    }
)  # fmt: skip


class Body:
    """The request's body, decompressed, as it arrives."""

    def __init__(self, request: web.Request | None) -> None:
        self._request = request
        encoding = request.headers.get("Content-Encoding", "") if request else ""
        self._decoder = compression.decoder(encoding)
        self._chunks = self._read()

    async def _read(self) -> AsyncIterator[bytes]:
        if self._request is None:
            return
        async for raw in self._request.content.iter_any():
            chunk = self._decoder.decompress(raw)
            if chunk:
                yield chunk

    async def next(self) -> bytes:
        """The next piece, empty at the end."""
        return await anext(self._chunks, b"")

    async def rest(self) -> bytes:
        """Everything that is left."""
        pieces = []
        while piece := await self.next():
            pieces.append(piece)
        return b"".join(pieces)


@dataclass(frozen=True)
class Call:
    """One request, understood."""

    query: bytes
    """The statement, or the part of it that came in the URL."""
    body: Body
    setup: QuerySetup
    default_format: str
    wait_end_of_query: bool
    accept_encoding: str
    """Codings that the client takes; empty unless it set enable_http_compression."""


def authenticate(request: web.Request, user: str, password: str) -> None:
    """Check the user's name and password in headers, basic authentication or URL, in ClickHouse's order.

    Raises:
        EngineError: they are wrong or missing (516).
    """
    given_user, given_password = _credentials(request)
    same_user = hmac.compare_digest(given_user.encode(), user.encode())
    same_password = hmac.compare_digest(given_password.encode(), password.encode())
    if not (same_user and same_password):
        raise EngineError(
            AUTHENTICATION_FAILED,
            f"{given_user}: Authentication failed: password is incorrect, or there is no user with such name. "
            "(AUTHENTICATION_FAILED)",
        )


def _credentials(request: web.Request) -> tuple[str, str]:
    headers = request.headers
    if "X-ClickHouse-User" in headers or "X-ClickHouse-Key" in headers:
        return headers.get("X-ClickHouse-User", "default"), headers.get("X-ClickHouse-Key", "")
    scheme, _, encoded = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise EngineError(
                AUTHENTICATION_FAILED, "Authorization header is not basic authentication. (AUTHENTICATION_FAILED)"
            ) from error
        return user, password
    return request.query.get("user", "default"), request.query.get("password", "")


async def understand(request: web.Request) -> Call:
    """Take a request apart; its body is read only when it is a multipart form.

    Raises:
        EngineError: a content coding or a form field that is not served (48).
    """
    values = dict(request.query)
    is_form = request.content_type.startswith("multipart/")
    if is_form:
        values |= await _form_fields(request)
    headers = request.headers
    settings = {k: v for k, v in values.items() if k not in _OWN_PARAMETERS and not k.startswith("param_")}
    if request.method == "GET":
        # As the real server has it: a GET changes nothing.
        settings["readonly"] = "2"
    compressed = settings.get("enable_http_compression", "0") not in ("0", "false", "")
    return Call(
        query=values.get("query", "").encode(),
        body=Body(None if is_form else request),
        setup=QuerySetup(
            query_id=values.get("query_id") or str(uuid.uuid4()),
            settings=settings,
            params={k.removeprefix("param_"): v for k, v in values.items() if k.startswith("param_")},
            database=values.get("database") or headers.get("X-ClickHouse-Database") or "",
        ),
        default_format=values.get("default_format") or headers.get("X-ClickHouse-Format") or "TabSeparated",
        wait_end_of_query=values.get("wait_end_of_query", "0") not in ("0", "false", ""),
        accept_encoding=headers.get("Accept-Encoding", "") if compressed else "",
    )


async def _form_fields(request: web.Request) -> dict[str, str]:
    fields = {}
    async for part in await request.multipart():
        name = part.name if isinstance(part, BodyPartReader) else None
        if not isinstance(part, BodyPartReader) or not name or part.filename:
            raise EngineError(48, f"External table {name} in a form is not served. (NOT_IMPLEMENTED)")
        fields[name] = await part.text()
    return fields
