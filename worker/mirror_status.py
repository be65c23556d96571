"""How far a mirror is: its tables and its loop, each as far as it can be asked."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from temporalio.client import Client

from activities.contracts.mirrors import mirror_id
from activities.core.faults import CatalogRefused, CatalogUnavailable, Fault, StoreRefused, StoreUnavailable
from activities.core.mirrors import MirrorConfig
from activities.lake import mirror as mirrors
from activities.lake.catalog import Lake
from activities.lake.changepieces import left_of, waits_since
from activities.lake.changescan import pending
from worker.config import Environment
from worker.lake import open_lake
from worker.loop_status import UNKNOWN, LoopStatus, look_at_loop
from worker.temporal import connect_temporal
from worker.wiring_mirrors import mirror_config

LOOKED_AT_ONCE = 8
AWAY = (CatalogRefused, CatalogUnavailable, StoreRefused, StoreUnavailable)
"""Why tables could not be looked at; every other fault is something that was seen in them."""
STARTS = "`icefleet mirrors merge` or `icefleet mirrors resume` starts it, and so does a worker"


@dataclass(frozen=True)
class TablesStatus:
    """What the catalog says of a mirror and its changelog."""

    problem: str = ""
    """Why the rest is not known, or why the mirror cannot go on; empty: nothing is wrong."""
    asked: bool = True
    """Whether catalog and store could be asked."""
    snapshot_id: str = ""
    """The mirror's newest."""
    rows: int = 0
    watermark: str = ""
    """The changelog snapshot up to which everything is merged; empty: nothing was."""
    watermark_sequence: str = ""
    """The greatest sequence number that was ever merged."""
    watermark_time: str = ""
    """When the changelog committed that snapshot, ISO 8601 in UTC."""
    last_merge: str = ""
    """When the mirror's last merge committed, ISO 8601 in UTC."""
    lag_events: int = 0
    """Changes that are not merged; of a snapshot that is merged in part, all."""
    lag_seconds: float = 0.0
    """How long the oldest of them has been there."""


@dataclass(frozen=True)
class MirrorReport:
    """Everything that is known of one mirror."""

    mirror: str
    changelog: str
    tables: TablesStatus
    loop: LoopStatus

    @property
    def is_whole(self) -> bool:
        """Whether the tables and the loop could be asked."""
        return self.tables.asked and self.loop.state != UNKNOWN

    @property
    def trouble(self) -> str:
        """What is wrong with it, as its loop or its tables say; empty: nothing."""
        return self.loop.cause if self.loop.cause and self.loop.state != "absent" else self.tables.problem


async def look_at(environment: Environment, names: Sequence[str]) -> list[MirrorReport]:
    """Mirrors as they are; what cannot be asked says why, and the rest is told."""
    lake, turns = open_lake(environment), asyncio.Semaphore(LOOKED_AT_ONCE)
    client, away = await _connect(environment)

    async def look(name: str) -> MirrorReport:
        config = mirror_config(environment.mirrors[name])
        async with turns:
            tables, loop = await asyncio.gather(
                asyncio.to_thread(_tables, lake, config), _loop(client, away, mirror_id(environment.name, name))
            )
        return MirrorReport(name, config.changelog, tables, loop)

    return await asyncio.gather(*(look(name) for name in names))


async def _connect(environment: Environment) -> tuple[Client | None, str]:
    try:
        return await connect_temporal(environment), ""
    except RuntimeError as away:  # what the SDK raises when it cannot connect
        return None, f"Temporal {away}"


async def _loop(client: Client | None, away: str, identity: str) -> LoopStatus:
    if client is None:
        return LoopStatus(identity, UNKNOWN, away)
    return await look_at_loop(client, identity, STARTS, STARTS)


def _tables(lake: Lake, config: MirrorConfig) -> TablesStatus:
    """Both tables; what ails one of them is told beside what is known."""
    known: dict[str, Any] = {}
    try:
        mirror = mirrors.read(lake, config)
        if mirror is not None:
            known = _mirror(mirror)
        changelog = lake.load(config.changelog)
        if changelog is None:
            return TablesStatus(f"changelog {config.changelog} is not in the catalog", **known)
        waiting = pending(changelog, None if mirror is None else mirror.watermark, config)
    except Fault as fault:
        return TablesStatus(f"{type(fault).__name__}: {fault}", not isinstance(fault, AWAY), **known)
    left = [one for one in left_of(waiting, waiting.before) if one.files]
    if left:
        known["lag_events"] = sum(one.rows for one in left)
        since = waits_since(waiting, waiting.before)
        known["lag_seconds"] = round(max(0.0, time.time() - since / 1000), 3)
    return TablesStatus(**known)


def _mirror(mirror: mirrors.Mirror) -> dict[str, Any]:
    head, said_by = mirror.table.current_snapshot(), mirror.said_by
    ours = mirror.table.snapshot_by_id(said_by) if said_by is not None else None
    at = mirror.watermark
    known: dict[str, Any] = {}
    if head is not None:
        total = head.summary.additional_properties if head.summary is not None else {}
        deleted = int(total.get("total-position-deletes", 0))
        known |= {"snapshot_id": str(head.snapshot_id), "rows": int(total.get("total-records", 0)) - deleted}
    if ours is not None:
        known["last_merge"] = _when(ours.timestamp_ms)
    if at is not None and at.snapshot_id is not None:
        known |= {"watermark": str(at.snapshot_id), "watermark_time": _when(at.committed_ms)}
    if at is not None:
        known["watermark_sequence"] = at.newest
    return known


def _when(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
