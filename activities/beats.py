"""Heartbeats of an export: which partition, how far its query is, how much was sent; and an end to that query."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from temporalio import activity

from activities.clients.clickhouse import ClickHouse
from activities.clients.waits import watch_waits
from activities.core.faults import Fault

BEATS_PER_TIMEOUT = 12
UNTIMED_PAUSE_SECONDS = 5


class Growing(Protocol):
    """Where a result goes."""

    size: int
    """Bytes so far, as far as they are known."""


@dataclass(frozen=True)
class _Running:
    """The query that is running, and where its result goes."""

    clickhouse: ClickHouse
    query_id: str
    partition: str
    pending: Growing


class Beats:
    """Heartbeats beside the work, for as long as the context lasts."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._running: _Running | None = None
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._beating = asyncio.create_task(self._beat(watch_waits()))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def query(self, clickhouse: ClickHouse, partition: str, pending: Growing) -> AsyncIterator[str]:
        """An id for a query whose progress is told while it runs, and which is killed when it is given up."""
        running = self._running = _Running(clickhouse, f"icefleet-{uuid.uuid4()}", partition, pending)
        try:
            yield running.query_id
        except BaseException:
            # Dropping the connection ends a SELECT too, but not at once, and not behind every proxy.
            await asyncio.shield(_kill(running))
            raise
        finally:
            self._running = None

    async def _beat(self, waits: Sequence[str]) -> None:
        timeout = activity.info().heartbeat_timeout
        pause = timeout.total_seconds() / BEATS_PER_TIMEOUT if timeout else UNTIMED_PAUSE_SECONDS
        while True:
            activity.heartbeat(self._state(), *waits)
            await asyncio.sleep(pause)
            if (running := self._running) is None:
                continue
            # How far the server is, is worth knowing and not worth a partition: a user may not see system.processes.
            # Whatever it fails with, heartbeats go on: without them a sound export would count as dead.
            with contextlib.suppress(Exception):
                # Not `wait_for`: in Python 3.11 it can swallow the cancellation that ends this task.
                async with asyncio.timeout(pause):
                    rows = await running.clickhouse.rows_read(running.query_id)
                activity.heartbeat({**self._state(), "rows_read": rows}, *waits)

    def _state(self) -> dict[str, Any]:
        if self._running is None:
            return {"partition": self._doing}
        return {"partition": self._running.partition, "bytes": self._running.pending.size}


async def _kill(running: _Running) -> None:
    try:
        await running.clickhouse.kill(running.query_id)
    except (Fault, TimeoutError) as away:
        # What ended the export must be told, and not this. The server ends the query itself when it notices that
        # nobody reads, or when its time is up.
        activity.logger.warning("%s: query %s could not be killed: %s", running.partition, running.query_id, away)
