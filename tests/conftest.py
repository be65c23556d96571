"""Fixtures that every room may ask for."""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from deploy.local.stack import Stack
from support.fleet import Fleet
from support.ownpostgres import OwnPostgres, fresh_database
from support.spreading import Spreading, place_of, scheduler
from support.xatulake import PROFILES, XatuLake, exported, people
from support.xatuschemas import read_schemas
from worker.hidden import SECRETS

# A busy machine is no failure: what takes long is a matter for benchmarks.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Spreading | None:
    """Several processes are kept busy to the end."""
    return scheduler(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In one of several processes, what takes longest comes first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place_of(item.nodeid))


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's secrets are no other test's: some are words that others say, and would find hidden."""
    monkeypatch.setattr(SECRETS, "_values", dict(SECRETS._values))
    monkeypatch.setattr(SECRETS, "_found", SECRETS._found)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole embedded stack on free ports, started for the first test that asks and shared by all.

    When it does not start, the error holds the end of the failing part's log.
    """
    directory: Path = tmp_path_factory.mktemp("stack")
    with ExitStack() as held:
        # Test processes that begin together start theirs one after the other: all at once they keep each other waiting.
        with (tmp_path_factory.getbasetemp().parent / "stack.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            running = held.enter_context(Stack(directory))
        yield running


@pytest.fixture
async def fleet(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    """An environment of the test's own; its name, network, database and task queue meet no other test's."""
    monkeypatch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
    async with Fleet(stack, tmp_path / "config") as own:
        yield own


@pytest.fixture
async def postgres(stack: Stack) -> AsyncIterator[OwnPostgres]:
    """An empty PostgreSQL database of the test's own."""
    async with fresh_database(stack) as own:
        yield own


@pytest.fixture(scope="session")
async def xatu(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, XatuLake]]:
    """Profile → the 21 real tables and one of ours, filled at random and exported, redacted as config says."""
    schemas = [*read_schemas().values(), people()]
    async with AsyncExitStack() as lakes:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
            opened = [
                lakes.enter_async_context(exported(stack, tmp_path_factory.mktemp(profile), profile, schemas))
                for profile in PROFILES
            ]
            found = await asyncio.gather(*opened)
        yield {lake.profile: lake for lake in found}
