"""How far a mirror is behind its changelog while nothing is committed: paused, waiting for somebody, or long busy."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from activities.abreast import both
from activities.contracts.mirrors import MirrorLag, MirrorTrouble
from activities.core.faults import Fault
from activities.core.mirrors import MirrorConfig
from activities.heartbeats import heartbeats
from activities.lake import mirror as mirrors
from activities.lake.changepieces import left_of, waits_since
from activities.lake.changescan import pending
from activities.merge_metrics import lag_told, lag_unknown
from activities.mirror_context import MirrorContext
from activities.steering_mirrors import tell_trouble
from activities.storing import undisturbed

log = structlog.get_logger("icefleet.merge")

LOOK_SECONDS = 300.0
"""Well within what a gauge remembers of it."""


@asynccontextmanager
async def at_work(context: MirrorContext, config: MirrorConfig, doing: str = "") -> AsyncIterator[None]:
    """Heartbeat, and tell the lag now and then, for as long as a block takes: one step of it may take hours."""
    about = {"mirror": config.mirror, **({"doing": doing} if doing else {})}
    async with heartbeats(about):
        watching = asyncio.create_task(_watch(context, config))
        try:
            yield
        finally:
            # Ended before the block's own outcome is told, which is newer.
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _watch(context: MirrorContext, config: MirrorConfig) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        await undisturbed(tell_lag, context, config)


async def watch_mirror(context: MirrorContext, trouble: MirrorTrouble) -> MirrorLag:
    """Look once, and tell both the lag and the trouble again, which nobody else does now.

    Raises:
        Fault: the lag cannot be told; the trouble was, if NATS takes it.
    """
    config = context.mirror(trouble.environment, trouble.mirror)
    _, lag = await both(tell_trouble(context, trouble), asyncio.to_thread(_look, context, config))
    return lag


def tell_lag(context: MirrorContext, config: MirrorConfig) -> None:
    """Tell the lag in the middle of work that takes long; what keeps it from being told does not end that. Blocks."""
    try:
        _look(context, config)
    except Fault as wrong:
        log.info("the lag of a mirror cannot be told", mirror=config.mirror, why=str(wrong))


def _look(context: MirrorContext, config: MirrorConfig) -> MirrorLag:
    try:
        lag = _lag(context, config)
    except Fault:
        lag_unknown(config.mirror)
        raise
    lag_told(config.mirror, lag.events, lag.seconds)
    return lag


def _lag(context: MirrorContext, config: MirrorConfig) -> MirrorLag:
    mirror, changelog = mirrors.read(context.lake, config), context.lake.load(config.changelog)
    if changelog is None:
        return MirrorLag()
    waiting = pending(changelog, None if mirror is None else mirror.watermark, config)
    oldest = waits_since(waiting, waiting.before)
    events = sum(one.rows for one in left_of(waiting, waiting.before))
    return MirrorLag(events, max(0.0, time.time() - oldest / 1000) if oldest else 0.0)
