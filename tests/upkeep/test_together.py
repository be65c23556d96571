"""A short slice of `make test-upkeep-random`: all tables are kept in order while they change, are read, and workers die."""

from upkeep.together import install, living, opened, run_together, sums

SECONDS = 12
DEATHS = ["keep-before-commit", "after-expire"]


async def test_exports_changelogs_and_mirrors_are_kept_in_order_while_they_change_and_are_read(fleet, stack):
    async with opened(fleet, stack, "slice") as world, living(world, list(DEATHS)):
        await install(world)
        await run_together(world, SECONDS)
        await world.carried()
        await world.check()
    assert [report.problems for report in world.reports if report.problems] == []
    done = sums(world)
    assert [name for name in ("expired", "deleted", "freed", "compacted") if not done[name]] == []
    assert world.done["reads"] >= 3
    assert world.deaths == DEATHS
