"""A cache's service that hears which URLs have changed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


class PurgeService:
    """What it was told, request by request; it refuses the next `refusals` of them, with the login in its words."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []
        self.refusals = 0
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """One request."""
        if self.refusals:
            self.refusals -= 1
            return web.Response(status=503, text=f"busy; not for {request.headers.get('Authorization', 'strangers')}")
        self.told.append((await request.json())["files"])
        return web.Response()


@asynccontextmanager
async def purge_service() -> AsyncIterator[PurgeService]:
    """The service, on a free port."""
    service = PurgeService()
    app = web.Application()
    app.router.add_post("/purge", service.take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}/purge"
        yield service
    finally:
        await runner.cleanup()
