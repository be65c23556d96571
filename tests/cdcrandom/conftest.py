"""One run for all tests of this room; its seed stands in their names."""

import asyncio
import os
import pickle
import secrets

import pytest
from temporalio.runtime import Runtime, TelemetryConfig

from cdcrandom.plan import Plan
from cdcrandom.run import Run, run_at_random

SEED = os.environ.get("CDC_SEED") or str(secrets.randbelow(10**6))
SIZE = float(os.environ.get("CDC_SIZE") or 1)


@pytest.fixture(scope="session", params=[SEED], ids=[f"SEED={SEED}"])
async def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What happened, and what was there afterwards."""
    # Said once is enough: that Temporal is away is what is being done to it.
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=None)))
    directory = tmp_path_factory.mktemp("cdcrandom")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICEFLEET_LOCAL_DIR", str(directory / "stack"))
        try:
            done = await run_at_random(directory, request.param, SIZE, Plan())
        except BaseException as failed:
            failed.add_note(f"to repeat it: make test-cdc-random SEED={SEED} SIZE={SIZE:g}; logs are in {directory}")
            raise
    # The stack is gone; for whoever wants to look closer there is everything that was seen.
    await asyncio.to_thread((directory / "run.pickle").write_bytes, pickle.dumps(done))
    print(f"\n{done.summary()}\n", flush=True)  # noqa: T201 - the evidence is for whoever started the run
    return done
