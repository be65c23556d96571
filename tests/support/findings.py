"""Findings as a stranger reads them off the stream."""

import json
from typing import Any

import nats

from support.fleet import Fleet


async def findings_of(
    fleet: Fleet, table: str = "events", kind: str = "shrunk", *, network: str = "", port: int = 0
) -> list[dict[str, Any]]:
    """Every event of one kind of the table that the stream holds, in order, with its id as `_id`."""
    client = await nats.connect(f"nats://127.0.0.1:{port or fleet.stack.ports['nats']}")
    try:
        stream = client.jetstream()
        subject = f"icefleet.{fleet.name}.finding.{network or fleet.network}.{table}.{kind}"
        count = ((await stream.stream_info("ICEFLEET", subjects_filter=subject)).state.subjects or {}).get(subject, 0)
        if not count:
            return []
        subscription = await stream.subscribe(subject, stream="ICEFLEET", ordered_consumer=True)
        messages = [await subscription.next_msg(timeout=5) for _ in range(count)]
        return [{**json.loads(message.data), "_id": (message.headers or {})["Nats-Msg-Id"]} for message in messages]
    finally:
        await client.close()
