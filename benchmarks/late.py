"""A store that answers late: a TCP proxy through which every byte of an answer arrives a constant time later.

What goes to the store goes at once, in order; how much may be under way is not limited.

`python benchmarks/late.py PORT SECONDS` prints the port under which the one at PORT can be reached. `late` runs that as
a process of its own, so that it shares no event loop with what is measured.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

HOST = "127.0.0.1"
CHUNK = 256 * 1024


@contextmanager
def late(port: int, seconds: float) -> Iterator[int]:
    """Another port for the server at `port`, from which answers come `seconds` later."""
    process = subprocess.Popen([sys.executable, __file__, str(port), str(seconds)], stdout=subprocess.PIPE, text=True)
    if process.stdout is None:
        raise RuntimeError("a process without its pipe")
    with process.stdout:
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()
            process.wait()


async def serve(port: int, seconds: float) -> None:
    """Forward connections until the process is ended."""
    forwarding = set[asyncio.Task[None] | None]()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The loop refers weakly to who reads of a stream: a collection would take what only waits for answers.
        forwarding.add(task := asyncio.current_task())
        try:
            await pass_on(reader, writer)
        finally:
            forwarding.discard(task)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A connection that either side breaks off is broken off on the other side too.
        with contextlib.suppress(OSError), contextlib.closing(writer.transport):
            answers, store = await asyncio.open_connection(HOST, port)
            with contextlib.closing(store.transport):
                await asyncio.gather(_at_once(reader, store), _later(answers, writer, seconds))

    server = await asyncio.start_server(forward, HOST, 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()


async def _later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Read without a pause, and pass each piece on when it is due."""
    clock = asyncio.get_running_loop().time
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def read() -> None:
        chunk = b"-"
        while chunk:
            chunk = await reader.read(CHUNK)
            under_way.put_nowait((clock() + seconds, chunk))

    async def write() -> None:
        while True:
            due, chunk = await under_way.get()
            await asyncio.sleep(due - clock())
            if not chunk:  # the store has closed the connection
                writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()

    await asyncio.gather(read(), write())


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
