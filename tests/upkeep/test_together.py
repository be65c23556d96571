"""A short slice of `make test-upkeep-random`, in which nobody dies: tables are kept in order while they change."""

from upkeep.together import install, living, opened, run_together, settled, some_batches, sums

SECONDS = 3


async def test_exports_changelogs_and_mirrors_are_kept_in_order_while_they_change_and_are_read(fleet, stack):
    async with opened(fleet, stack, "slice") as world, living(world, []):
        await install(world)
        await run_together(world, SECONDS)
        await some_batches(world)
        await settled(world)
        await world.check()
    assert [report.problems for report in world.reports if report.problems] == []
    done = sums(world)
    assert [name for name in ("expired", "deleted", "freed", "compacted") if not done[name]] == []
    assert world.done["reads"] >= 3
