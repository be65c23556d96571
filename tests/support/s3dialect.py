"""A store that speaks S3 and looks at no condition of a write: before one that does, as some of the world are."""

from typing import Self

import aiohttp
from aiohttp import web
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from yarl import URL

HOST = "127.0.0.1"
CARRIED = ("content-type", "cache-control", "range")


class Unconditional:
    """Use as an async context manager; it signs anew what it passes on without its conditions."""

    def __init__(self, target_port: int, access_key: str, secret_key: str) -> None:
        self._target = target_port
        self._keys = Credentials(access_key, secret_key)
        self.port = 0

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None))
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        if "Expect" in request.headers:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        body, url = await request.read(), f"http://{HOST}:{self._target}{request.raw_path}"
        kept = {
            name: value
            for name, value in request.headers.items()
            if name.lower() in CARRIED or name.lower().startswith(("x-amz-meta-", "x-amz-copy-", "x-amz-metadata-"))
        }
        signed = AWSRequest(method=request.method, url=url, data=body, headers=kept)
        S3SigV4Auth(self._keys, "s3", "us-east-1").add_auth(signed)
        async with self._client.request(
            request.method, URL(url, encoded=True), data=body or None, headers=dict(signed.headers.items())
        ) as answer:
            passed = {name: value for name, value in answer.headers.items() if name.lower() != "transfer-encoding"}
            return web.Response(status=answer.status, body=await answer.read(), headers=passed)
