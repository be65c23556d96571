"""A run of change data capture with mirrors behind its changelogs."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from activities.contracts.mirrors import mirror_id
from activities.core.mirrors import WATERMARK, Watermark
from activities.failpoints import INGEST_NAMES, MERGE_NAMES, MIRROR_UPKEEP_NAMES
from cdcrandom.oracle import last_commit
from cdcrandom.plan import Plan
from cdcrandom.statements import Hand
from cdcrandom.tables import Table
from cdcrandom.world import World
from mergerandom.indexes import is_whole
from mergerandom.lake import Seen, configs_of, look_at_mirrors
from mergerandom.mirrors import MIRRORED, entries, mirror_of
from mergerandom.trouble import WIRE, Beside
from support.fleet import eventually
from support.troubles import Trouble
from worker.lake import open_lake

LONG = 2
"""The size from which on a run is long."""


@dataclass
class Mirrored:
    """What a run saw of its mirrors."""

    mirrors: dict[str, Seen] = field(default_factory=dict)
    """By the source's table."""
    loops: dict[str, Any] = field(default_factory=dict)
    """Mirror → what its loop says of itself when everything is merged."""
    counts: Counter[str] = field(default_factory=Counter)
    """What all loops did."""
    spoiled: list[str] = field(default_factory=list)
    """Objects of indexes that were destroyed."""
    unnoticed: list[str] = field(default_factory=list)
    """Mirrors whose index was spoiled, while workers went on with what they remembered of it."""


class MirrorPlan(Plan):
    """Mirrors of every table that has a key."""

    title = "mirrors"
    chaos_seconds = 600

    def __init__(self, tables: Sequence[Table] = MIRRORED, *, size: float = 1) -> None:
        self.tables = tables
        # What is younger than some minutes is never swept, whatever config says: a short run deletes nothing.
        late = frozenset({"tidy-before-delete", "tidy-after-delete"}) if size < LONG else frozenset()
        self.points = (INGEST_NAMES | MERGE_NAMES | MIRROR_UPKEEP_NAMES) - late
        self.seen = Mirrored()
        self._beside = Beside([mirror_of(table) for table in tables])

    def prepare(self, world: World) -> None:
        """Say in config what is mirrored."""
        world.fleet.set_mirrors(*entries(self.tables))

    def troubles(self) -> Mapping[str, Sequence[Trouble]]:
        """What goes wrong with mirrors, and what people do meanwhile."""
        return {"mirrors": WIRE, "people": self._beside.troubles()}

    async def calm(self, world: World, seconds: float) -> None:
        """Wait until all is merged, also what changes once more; have an index made anew that was damaged unnoticed."""
        await all_merged(world, self.tables, seconds)
        for config in configs_of(world).values():
            if not await asyncio.to_thread(is_whole, world, config):
                world.say(f"the index of {config.mirror} is not whole")
                self.seen.unnoticed.append(config.mirror)
                await world.insist("rebuild-index", config.mirror, of="mirrors")
        await self.touch(world)
        await world.carried(await last_commit(world.source), seconds)
        await all_merged(world, self.tables, seconds)
        world.say("everything is merged")

    async def touch(self, world: World) -> None:
        """Change every table once."""
        rng = Random(f"{world.seed} last")
        async with await world.source.settings.connect() as connection:
            for table in self.tables:
                async with connection.transaction():
                    hand = Hand(connection, rng, world.writing)
                    await hand.insert(table, 2, conflict="ON CONFLICT DO NOTHING")
                    await hand.update(table, 2)

    async def look(self, world: World) -> None:
        """With every loop at rest: what there is."""
        reports = await world.told("list", of="mirrors")
        self.seen.loops = {report["mirror"]: report["loop"] for report in reports}
        for loop in self.seen.loops.values():
            self.seen.counts.update(_counts(loop["progress"]))
        self.seen.spoiled = self._beside.spoiled
        await world.insist("pause", "--all", of="mirrors")
        for table in self.tables:
            await _at_rest(world, mirror_of(table))
        self.seen.mirrors = await look_at_mirrors(world, self.tables, self.seen.spoiled)

    def lines(self) -> list[str]:
        """The evidence, in a line or two."""
        seen = self.seen.mirrors.values()
        rows = sum(len(one.there) for one in seen)
        told = ", ".join(f"{name} {count}" for name, count in self.seen.counts.items())
        return [f"  {len(seen)} mirrors, {rows} rows in {sum(one.files for one in seen)} files", f"  merged: {told}"]


def _counts(progress: dict[str, Any]) -> dict[str, int]:
    compacted = {"compactions": progress["compaction"]["done"]} if progress else {}
    return {**progress.get("counts", {}), **compacted, **progress.get("tidying", {}).get("counts", {})}


async def _at_rest(world: World, mirror: str) -> None:
    """Wait until the loop of a mirror does nothing any more, and tidies nothing."""
    handle = world.fleet.temporal.get_workflow_handle(mirror_id(world.fleet.name, mirror))

    async def at_rest() -> bool:
        with suppress(LookupError):
            described = await handle.describe()
            return not described.raw_description.pending_activities
        return False

    await eventually(at_rest, seconds=120, every=0.3)


async def all_merged(world: World, tables: Sequence[Table], seconds: float) -> None:
    """Wait until every watermark is at the head of its changelog."""
    behind: list[str] = []

    async def none_behind() -> bool:
        behind[:] = await asyncio.to_thread(_behind, world, tables)
        return not behind

    try:
        await eventually(none_behind, seconds=seconds, every=0.5)
    except AssertionError as never:
        said = {
            one["mirror"]: f"{one['loop']['state']} {one['loop']['cause'] or one['tables']['problem']}"
            for one in await world.told("list", of="mirrors")
        }
        raise AssertionError(f"{never}; {', '.join(behind)} are behind: {said}") from never


def _behind(world: World, tables: Sequence[Table]) -> list[str]:
    lake = open_lake(world.direct)
    return [
        mirror_of(table) for table in tables if not _at_head(lake.load(table.changelog), lake.load(mirror_of(table)))
    ]


def _at_head(changelog: Any, mirror: Any) -> bool:
    newest, head = (one.current_snapshot() if one is not None else None for one in (changelog, mirror))
    if newest is None or head is None or not head.summary[WATERMARK]:
        return False
    at = Watermark.load(head.summary[WATERMARK], "")
    return bool(at.snapshot_id == newest.snapshot_id)
