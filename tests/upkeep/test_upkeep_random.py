"""Everything at once for minutes while workers die, and then three readers: `make test-upkeep-random SEED=… SIZE=…`.

The seed decides who writes what and where workers die, the size how long it goes on.
"""

import os
import secrets
from random import Random

import pytest

from support.leaks import forms_of, leaks, left_behind
from upkeep.together import POINTS, install, living, opened, run_together, settled, some_batches, sums

SEED = os.environ.get("UPKEEP_SEED") or str(secrets.randbelow(10**6))
SIZE = float(os.environ.get("UPKEEP_SIZE") or 1)
SECONDS = 240
pytestmark = [pytest.mark.upkeeprandom, pytest.mark.timeout(int(600 + 2 * SECONDS * SIZE))]


@pytest.mark.parametrize("seed", [SEED], ids=[f"SEED={SEED}"])
async def test_whatever_dies_every_table_can_be_read_and_holds_what_it_must(fleet, stack, seed):
    points = list(POINTS)
    Random(seed).shuffle(points)
    deaths = points[: max(2, int(len(points) * min(SIZE, 1)))]
    async with opened(fleet, stack, seed) as world, living(world, deaths):
        await install(world)
        await run_together(world, SECONDS * SIZE)
        await some_batches(world)
        await settled(world)
        await world.check()
        assert list(leaks(forms_of(fleet, "PostgreSQL's password"), await left_behind(fleet))) == []
    done = sums(world)
    print(f"\n{seed}: {dict(world.done)}, {done}, died at {world.deaths}\n", flush=True)  # noqa: T201 - the evidence
    assert [name for name in ("expired", "deleted", "freed", "compacted") if not done[name]] == []
    assert world.deaths
