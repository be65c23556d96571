"""What the bus holds, by a reader that is not ours."""

import nats
from nats.aio.msg import Msg


async def messages(port: int, subject: str) -> list[Msg]:
    """Every message of a subject, wildcards included, that the stream of the NATS at `port` holds, in order.

    Raises:
        NotFoundError: there is no such stream; nothing has ever been announced.
    """
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    try:
        stream = client.jetstream()
        counts = (await stream.stream_info("ICEFLEET", subjects_filter=subject)).state.subjects or {}
        if not counts:
            return []
        subscription = await stream.subscribe(subject, stream="ICEFLEET", ordered_consumer=True)
        return [await subscription.next_msg(timeout=5) for _ in range(sum(counts.values()))]
    finally:
        await client.close()
