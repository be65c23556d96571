"""Findings as a stranger reads them off the stream."""

import json
from typing import Any

from support.busreader import messages
from support.fleet import Fleet


async def findings_of(
    fleet: Fleet, table: str = "events", kind: str = "shrunk", *, network: str = "", port: int = 0
) -> list[dict[str, Any]]:
    """Every event of one kind of the table that the stream holds, in order, with its id as `_id`."""
    subject = f"icefleet.{fleet.name}.finding.{network or fleet.network}.{table}.{kind}"
    found = await messages(port or fleet.stack.ports["nats"], subject)
    return [{**json.loads(message.data), "_id": (message.headers or {})["Nats-Msg-Id"]} for message in found]
