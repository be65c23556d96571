"""A short slice of `make test-merge-random`: PostgreSQL's tables change at random, and mirrors must be the same."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

from activities.contracts.cdc import INSTALL_WORKFLOW
from cdcrandom.deaths import tell_of_deaths
from cdcrandom.oracle import final_rows, last_commit
from cdcrandom.tables import by_identifier
from cdcrandom.world import PIPELINE, World
from cdcrandom.writers import Writer
from mergerandom import comparing
from mergerandom.indexes import lose
from mergerandom.lake import look_at_mirrors
from mergerandom.mirrors import mirror_of
from mergerandom.plan import MirrorPlan, all_merged
from support.fleet import eventually
from support.ownpostgres import fresh_database
from worker.bus import open_bus
from worker.mirror_wakes import MirrorWakes

TABLES = [by_identifier(name) for name in ("public.accounts", "public.documents", "public.shifting")]
SEED = "slice"
DEATH = "merge-before-commit:2"


@asynccontextmanager
async def mirroring(world):
    """A worker of the mirrors that events wake."""
    async with world.fleet.merge_worker():
        direct = world.direct
        async with MirrorWakes(direct, world.fleet.temporal, open_bus(direct)):
            yield


async def install(world):
    request = {"environment": world.fleet.name, "pipeline": PIPELINE, "tables": [table.identifier for table in TABLES]}
    identity, queue = f"install-{world.fleet.name}", world.fleet.cdc_queue
    await world.fleet.temporal.execute_workflow(INSTALL_WORKFLOW, request, id=identity, task_queue=queue)


async def carried(world):
    """Everything that was committed is in the changelogs, and from there in the mirrors."""
    await world.carried(await last_commit(world.source), 60)
    await all_merged(world, TABLES, 60)


async def test_mirrors_are_the_tables_of_postgresql_though_a_worker_died_and_an_index_was_lost(fleet, stack):
    """Cases 21, 35 and 46: a composite key, large values that stay, columns that change."""
    async with AsyncExitStack() as opened:
        source, buffer = [await opened.enter_async_context(fresh_database(stack)) for _ in range(2)]
        world = World(stack, fleet, source, buffer, SEED, tables=TABLES)
        plan = MirrorPlan(TABLES)
        plan.prepare(world)
        await world.settle()
        victim = opened.enter_context(fleet.worker_process(failpoint=DEATH))
        async with asyncio.TaskGroup() as beside, fleet.cdc_worker():
            await install(world)
            writer = Writer(world.writing, Random(f"{SEED} writer"))
            await writer.write_some(20)
            await eventually(lambda: victim.poll() is not None, seconds=60)
            telling = beside.create_task(tell_of_deaths(world, {victim.pid}))
            async with mirroring(world):
                await carried(world)
                lost = await asyncio.to_thread(lose, world, mirror_of(TABLES[0]))
                await writer.write_some(20)
                await plan.touch(world)
                await carried(world)
            telling.cancel()
        final = await final_rows(source, TABLES)
        mirrors = await look_at_mirrors(world, TABLES, lost)
    assert victim.returncode == -9
    assert lost
    for reader in ("PyIceberg", "DuckDB", "ClickHouse"):
        assert comparing.unlike_postgresql(mirrors, final, reader) == {}
    assert comparing.all_that_is_wrong(mirrors) == {}
