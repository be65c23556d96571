"""A short slice of `make test-merge-random`: PostgreSQL's tables change at random, and mirrors must be the same."""

import asyncio
from contextlib import AsyncExitStack
from random import Random

from cdcrandom.deaths import tell_of_deaths
from cdcrandom.oracle import final_rows, last_commit
from cdcrandom.tables import by_identifier
from cdcrandom.world import World
from cdcrandom.writers import Writer
from mergerandom import comparing
from mergerandom.indexes import lose
from mergerandom.lake import look_at_mirrors
from mergerandom.mirrors import mirror_of
from mergerandom.plan import MirrorPlan, all_merged
from support.fleet import eventually
from support.ownpostgres import fresh_database
from support.workerpool import Pool
from worker.bus import open_bus
from worker.mirror_wakes import MirrorWakes

TABLES = [by_identifier(name) for name in ("public.accounts", "public.documents", "public.shifting")]
SEED = "slice"
DEATH = "merge-before-commit"


async def test_mirrors_are_the_tables_of_postgresql_though_a_worker_died_and_an_index_was_lost(fleet, stack):
    """Cases 21, 35 and 46: a composite key, large values that stay, columns that change."""
    import time

    t0 = time.monotonic()

    def mark(s):
        print(f"{time.monotonic() - t0:6.1f} {s}")

    async with fresh_database(stack) as source, fresh_database(stack) as buffer, AsyncExitStack() as opened:
        world = World(stack, fleet, source, buffer, SEED, tables=TABLES)
        plan = MirrorPlan(TABLES)
        plan.prepare(world)
        await world.settle()
        mark("settled")
        victim = opened.enter_context(fleet.worker_process(failpoint=f"{DEATH}:3"))
        await opened.enter_async_context(fleet.cdc_worker())
        mark("cdc")
        await world.install(TABLES)
        mark("installed")
        writer = Writer(world.writing, Random(f"{SEED} writer"))
        await writer.write_some(30)
        mark("written")
        await eventually(lambda: victim.poll() is not None, seconds=60)
        mark("died")
        await opened.enter_async_context(fleet.merge_worker())
        await opened.enter_async_context(MirrorWakes(world.direct, fleet.temporal, open_bus(world.direct)))
        mark("merge worker")
        await _carried(world)
        mark("merged")
        spoiled = await asyncio.to_thread(lose, world, mirror_of(TABLES[0]))
        await writer.write_some(30)
        await plan.touch(world)
        mark("written")
        await _carried(world)
        mark("merged")
        await opened.aclose()
        mark("closed")
        final = await final_rows(source, TABLES)
        mirrors = await look_at_mirrors(world, TABLES, spoiled)
        mark("looked")
    assert spoiled
    for reader in ("PyIceberg", "DuckDB", "ClickHouse"):
        assert comparing.unlike_postgresql(mirrors, final, reader) == {}
    assert comparing.all_that_is_wrong(mirrors) == {}


async def _carried(world: World) -> None:
    await world.carried(await last_commit(world.source), 60)
    await all_merged(world, TABLES, 60)
