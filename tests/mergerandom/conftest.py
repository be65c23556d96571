"""One run for all tests of this room; its seed stands in their names."""

import asyncio
import os
import pickle
import secrets

import pytest
from temporalio.runtime import Runtime, TelemetryConfig

from cdcrandom.run import Run, run_at_random
from mergerandom.plan import Mirrored, MirrorPlan

SEED = os.environ.get("MERGE_SEED") or str(secrets.randbelow(10**6))
SIZE = float(os.environ.get("MERGE_SIZE") or 1)


@pytest.fixture(scope="session", params=[SEED], ids=[f"SEED={SEED}"])
async def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, MirrorPlan]:
    """What happened, and what was there afterwards."""
    # Said once is enough: that Temporal is away is what is being done to it.
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=None)))
    directory = tmp_path_factory.mktemp("mergerandom")
    plan = MirrorPlan(size=SIZE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICEFLEET_LOCAL_DIR", str(directory / "stack"))
        try:
            done = await run_at_random(directory, request.param, SIZE, plan)
        except BaseException as failed:
            failed.add_note(f"to repeat it: make test-merge-random SEED={SEED} SIZE={SIZE:g}; logs are in {directory}")
            raise
    # The stack is gone; for whoever wants to look closer there is everything that was seen.
    await asyncio.to_thread((directory / "run.pickle").write_bytes, pickle.dumps((done, plan.seen)))
    print(f"\n{done.summary()}\n", flush=True)  # noqa: T201 - the evidence is for whoever started the run
    return done, plan


@pytest.fixture(scope="session")
def run(ran: tuple[Run, MirrorPlan]) -> Run:
    """The run."""
    return ran[0]


@pytest.fixture(scope="session")
def plan(ran: tuple[Run, MirrorPlan]) -> MirrorPlan:
    """What it was to do with mirrors."""
    return ran[1]


@pytest.fixture(scope="session")
def mirrored(plan: MirrorPlan) -> Mirrored:
    """What was there of the mirrors."""
    return plan.seen
