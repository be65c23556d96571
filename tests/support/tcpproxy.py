"""A forwarder before any part that speaks TCP, such as NATS."""

import asyncio
import contextlib
from typing import Self

HOST = "127.0.0.1"
CHUNK = 64 * 1024


class TcpFaults:
    """A plain forwarder before the part at `target_port`. Use as an async context manager.

    `refuse`, `hang` and `cut` break it, `mend` makes it whole again, under the same port.
    """

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.port = 0
        self.accepted = 0

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def refuse(self) -> None:
        """Take no connections, and cut those that there are: the part is down."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def hang(self) -> None:
        """Take connections and bytes, and pass nothing on: the part is stuck."""
        self._flows.clear()

    def cut(self) -> int:
        """Cut every connection that there is, and answer how many there were; new ones are taken."""
        count = len(self._tasks)
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        return count

    async def mend(self) -> None:
        """Forward everything again, also what was kept back."""
        self._flows.set()
        if self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                behind, upstream = await asyncio.open_connection(HOST, self._target)
                self._writers.add(upstream)
                try:
                    await asyncio.gather(self._pump(reader, upstream), self._pump(behind, writer))
                finally:
                    self._writers.discard(upstream)
                    upstream.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            await self._flows.wait()
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
