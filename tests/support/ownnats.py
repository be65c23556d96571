"""A NATS server of a test's own: its stream may be purged, deleted or made with other settings."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from deploy.local.parts import program
from deploy.local.ports import free_port
from support.fleet import Fleet, eventually

STREAM = "ICEFLEET"


class OwnNats:
    """The running server, and a stream of it seen from outside."""

    def __init__(self, port: int, jetstream: JetStreamContext) -> None:
        self.port = port
        self.jetstream = jetstream

    async def make_stream(self, *, duplicate_window: float) -> None:
        """Make the stream before the fleet does."""
        await self.jetstream.add_stream(
            StreamConfig(
                name=STREAM, subjects=["icefleet.*.snapshot.>"], duplicate_window=duplicate_window, allow_direct=True
            )
        )

    async def purge(self) -> None:
        """Throw every event away; the stream stays."""
        await self.jetstream.purge_stream(STREAM)

    async def delete(self) -> None:
        """Throw the stream away."""
        await self.jetstream.delete_stream(STREAM)

    async def forget_ids(self) -> None:
        """Wait until the duplicate window has passed over everything that is in the stream by now."""
        probe = {"Nats-Msg-Id": uuid.uuid4().hex}

        async def passed() -> bool:
            return not (
                await self.jetstream.publish("icefleet.probe.snapshot.probe", b"", headers=dict(probe))
            ).duplicate

        assert await passed()
        await eventually(passed)

    async def events(self, fleet: Fleet, table: str = "events") -> list[dict[str, Any]]:
        """Every event of the table that the stream holds, in order, with its id as `_id`."""
        subject = f"icefleet.{fleet.name}.snapshot.{fleet.network}.{table}"
        count = ((await self.jetstream.stream_info(STREAM, subjects_filter=subject)).state.subjects or {}).get(
            subject, 0
        )
        subscription = await self.jetstream.subscribe(subject, stream=STREAM, ordered_consumer=True)
        messages = [await subscription.next_msg(timeout=5) for _ in range(count)]
        await subscription.unsubscribe()
        return [{**json.loads(message.data), "_id": (message.headers or {})["Nats-Msg-Id"]} for message in messages]


@asynccontextmanager
async def nats_server(directory: Path, config: str = "") -> AsyncIterator[int]:
    """Start a server on a free port, with what else its config says, until it listens; and end it. Answers the port."""
    port = free_port([])
    file = directory / "nats.conf"
    file.write_text(config, encoding="utf-8")
    with (directory / "nats.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(str(program("nats-server")), "-js", "-sd", str(directory), "-a", "127.0.0.1", "-p", str(port)),
            *("-c", str(file)),
            stdout=log,
            stderr=log,
        )

    async def listens() -> bool:
        assert process.returncode is None, (directory / "nats.log").read_text(encoding="utf-8")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await eventually(listens)
        yield port
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def own_nats(directory: Path) -> AsyncIterator[OwnNats]:
    """Start the server on a free port, and end it."""
    async with nats_server(directory) as port:
        client = await nats.connect(f"nats://127.0.0.1:{port}")
        try:
            yield OwnNats(port, client.jetstream())
        finally:
            await client.close()
