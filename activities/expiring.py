"""Which snapshots of a table may go: the world has heard of them, nobody is promised them any more."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from activities.announcing import announced_until
from activities.clients.bus import Bus
from activities.core.publication import Shown
from activities.lake.expiry import Choice, old_snapshots


async def chooser(
    bus: Bus,
    subject: str,
    table: Any,
    *,
    keep: int,
    age_seconds: float,
    shown: Shown | None = None,
    needed: Callable[[Any], Collection[int]] = lambda _: (),
) -> Choice:
    """What chooses among the snapshots of `table` as it then is, by what was announced on `subject` so far.

    What is `shown` to the public stays, and what is `needed` of the table as it then is.

    Raises:
        BusUnavailable, BusRefused: nobody knows what was announced, so everything must stay.
    """
    announced = announced_until(subject, await bus.last(subject), str(table.metadata.table_uuid))
    before = int((time.time() - age_seconds) * 1000)

    def choose(loaded: Any) -> Sequence[int]:
        return old_snapshots(loaded, announced, shown or Shown(), keep=keep, before_ms=before, needed=needed(loaded))

    return choose
