"""The store of the scaling benchmark is late, and nothing else."""

import asyncio
import random
import sys
import time
from pathlib import Path

sys.path.append(str(Path("benchmarks").resolve()))

from late import HOST, late

DELAY = 0.1
LARGE = random.Random(1).randbytes(16_000_000)


async def _upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each line; a connection that the client has done with is closed after the last answer."""
    async for line in reader:
        writer.write(LARGE if line == b"large\n" else line.upper())
    writer.close()


async def _ask(port: int, *lines: bytes) -> tuple[bytes, float]:
    """The answer to lines that are sent one by one at once, and the seconds that it took."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection(HOST, port)
    for line in lines:
        writer.write(line)
        await writer.drain()
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer, time.perf_counter() - started


async def test_every_answer_is_late_once_however_many_and_large_they_are():
    server = await asyncio.start_server(_upper, HOST, 0, backlog=1024)
    async with server:
        with late(server.sockets[0].getsockname()[1], DELAY) as port:
            small = await asyncio.gather(*(_ask(port, *(b"%d-%d\n" % (n, m) for m in range(50))) for n in range(100)))
            large, seconds = await _ask(port, b"large\n")
    for number, (answer, took) in enumerate(small):
        assert answer == b"".join(b"%d-%d\n" % (number, line) for line in range(50))
        assert took >= DELAY
    # One after the other they would take ten seconds; 16 MB in pieces that each wait for the one before, six.
    assert max(took for _, took in small) < 5
    assert large == LARGE
    assert DELAY <= seconds < 5


async def test_each_question_waits_for_the_answer_before_it():
    server = await asyncio.start_server(_upper, HOST, 0, backlog=1024)
    async with server:
        with late(server.sockets[0].getsockname()[1], DELAY) as port:
            reader, writer = await asyncio.open_connection(HOST, port)
            started = time.perf_counter()
            for turn in (1, 2, 3):
                writer.write(b"a\n")
                assert await reader.readline() == b"A\n"
                assert time.perf_counter() - started >= turn * DELAY
            writer.close()
