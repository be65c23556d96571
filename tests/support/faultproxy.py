"""Faults on the wire: proxies on loopback that stand before a real part and break what a test tells them to.

`HttpFaults` stands before the catalog, S3 or ClickHouse, `TcpFaults` before NATS or anything else:

    async with HttpFaults(fleet.stack.ports["catalog"]) as catalog:
        fleet.point(catalog=catalog.port)
        lost = catalog.on(AnswerInstead(500), method="POST", path=r"/tables/events$")
        async with fleet.worker(): ...
        assert lost.times_struck == 1

A proxy serves in the test's own event loop: what blocks that loop must not talk through it.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

from support.tcpproxy import TcpFaults
from support.wirefaults import (
    Answer,
    AnswerInstead,
    CutAfter,
    CutBefore,
    CutBody,
    CutUpload,
    Delay,
    Fault,
    Hold,
    HoldAnswer,
    HoldBody,
    Late,
    Rule,
    Seen,
)

__all__ = [
    "Answer",
    "AnswerInstead",
    "CutAfter",
    "CutBefore",
    "CutBody",
    "CutUpload",
    "Delay",
    "Hold",
    "HoldAnswer",
    "HoldBody",
    "HttpFaults",
    "Late",
    "Rule",
    "Seen",
    "TcpFaults",
]

HOST = "127.0.0.1"
CHUNK = 64 * 1024
REMEMBERED = 20_000
# A connection that we cut is no error of the server that we are.
_quiet = logging.getLogger("icefleet.tests.faultproxy")
_quiet.disabled = True
# These belong to one connection, and aiohttp writes its own.
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
)


class _CutError(Exception):
    """The client's connection is to end here."""


class HttpFaults:
    """A reverse proxy before the HTTP part at `target_port`. Use as an async context manager.

    Bodies stream both ways, so memory stays flat; the Host header stays the client's, so that signatures hold.
    """

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._rules: list[Rule] = []
        self._late: set[asyncio.Task[None]] = set()
        self.seen: deque[Seen] = deque(maxlen=REMEMBERED)
        self.port = 0

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
        )
        # A client that leaves must be noticed by the part behind, too.
        self._runner = web.ServerRunner(
            web.Server(self._serve, handler_cancellation=True, access_log=None, logger=_quiet), shutdown_timeout=1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        await self._runner.cleanup()
        await self._client.close()

    def on(
        self,
        fault: Fault,
        *,
        method: str = "",
        path: str = "",
        when: Callable[[Seen], bool] = lambda _: True,
        times: int | None = 1,
    ) -> Rule:
        """Let `fault` strike the next `times` requests (None: all) of a method whose path and query match a regex.

        The first rule that takes a request has it; rules are asked in the order in which they were made.
        """
        rule = Rule(fault, method, re.compile(path), when, times)
        self._rules.append(rule)
        return rule

    def drop(self, rule: Rule) -> None:
        """Forget one rule; what it holds already stays so until it is released."""
        self._rules.remove(rule)

    def mend(self) -> None:
        """Forget every rule; what is held already stays so until it is released."""
        self._rules.clear()

    def count(self, method: str = "", path: str = "") -> int:
        """How many requests of a method came by whose path and query match a regex."""
        wanted = [seen for seen in self.seen if not method or seen.method == method]
        return sum(bool(re.search(path, seen.path)) for seen in wanted)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        seen = Seen(request.method, request.raw_path, dict(request.headers))
        self.seen.append(seen)
        if "Expect" in request.headers:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        rule = next((rule for rule in self._rules if rule.takes(seen)), None)
        try:
            return await self._strike(request, rule)
        except (_CutError, aiohttp.ClientError) as cut:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError from cut

    async def _strike(self, request: web.BaseRequest, rule: Rule | None) -> web.StreamResponse:
        if rule is None:
            return await self._forward(request, None)
        match rule.fault:
            case Answer(status, body, content_type):
                return web.Response(status=status, body=body, content_type=content_type)
            case CutBefore():
                raise _CutError
            case Late(released):
                task = asyncio.create_task(self._forward_late(request, await request.read(), released, rule))
                self._late.add(task)
                raise _CutError
            case Delay(seconds):
                await asyncio.sleep(seconds)
            case Hold(released):
                await released.wait()
        return await self._forward(request, rule)

    async def _forward(self, request: web.BaseRequest, rule: Rule | None) -> web.StreamResponse:
        fault = rule.fault if rule else None
        upload = _body(request, fault.after_bytes if isinstance(fault, CutUpload) else None)
        async with self._ask(request, upload if request.body_exists else None) as answer:
            if isinstance(fault, AnswerInstead | CutAfter | HoldAnswer):
                body = await answer.read()
                if rule:
                    rule.landed.set()
                if isinstance(fault, CutAfter):
                    raise _CutError
                if isinstance(fault, AnswerInstead):
                    return web.Response(status=fault.status, body=fault.body, content_type=fault.content_type)
                await fault.released.wait()
                return web.Response(status=answer.status, body=body, headers=_passed_on(answer.headers))
            sent = await self._stream(request, answer, fault if isinstance(fault, CutBody | HoldBody) else None)
        if rule:
            rule.landed.set()
        return sent

    async def _stream(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, fault: CutBody | HoldBody | None
    ) -> web.StreamResponse:
        out = web.StreamResponse(status=answer.status, reason=answer.reason, headers=_passed_on(answer.headers))
        if "Content-Length" not in answer.headers and request.method != "HEAD":
            out.enable_chunked_encoding()
        await out.prepare(request)
        left = fault.after_bytes if fault is not None else 0
        async for chunk in answer.content.iter_chunked(CHUNK):
            if fault is not None and left <= len(chunk):
                await out.write(chunk[:left])
                if isinstance(fault, CutBody):
                    raise _CutError
                fault.held.set()
                await fault.released.wait()
                fault, chunk = None, chunk[left:]  # noqa: PLW2901 - what has gone out is gone
            await out.write(chunk)
            left -= len(chunk)
        await out.write_eof()
        return out

    async def _forward_late(self, request: web.BaseRequest, body: bytes, released: asyncio.Event, rule: Rule) -> None:
        await released.wait()
        async with self._ask(request, body) as answer:
            await answer.read()
        rule.landed.set()

    def _ask(
        self, request: web.BaseRequest, body: AsyncIterator[bytes] | bytes | None
    ) -> "aiohttp.client._RequestContextManager":
        return self._client.request(
            request.method,
            URL(f"http://{HOST}:{self._target}{request.raw_path}", encoded=True),
            headers=_passed_on(request.headers),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            data=body,
            allow_redirects=False,
        )


async def _body(request: web.BaseRequest, cut_after: int | None) -> AsyncIterator[bytes]:
    passed = 0
    async for chunk in request.content.iter_chunked(CHUNK):
        if cut_after is not None and passed + len(chunk) >= cut_after:
            yield chunk[: cut_after - passed]
            raise _CutError
        yield chunk
        passed += len(chunk)


def _passed_on(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP]
