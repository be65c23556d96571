"""A process of a test's own, for as long as it is needed."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def running(
    command: Sequence[str], variables: Mapping[str, str], log: Path, *, leaves_within: float = 30
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command; at the end it is told to leave (SIGTERM), and must do so within some seconds."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, env=dict(variables), stdout=output, stderr=output)
    try:
        yield process
        process.terminate()
        async with asyncio.timeout(leaves_within):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
