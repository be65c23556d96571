"""What tests of traces share: a worker that replays all the time, commands that are traced, and what events carry."""

import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.busreader import messages
from support.fleet import Fleet
from support.processes import running

FORGETFUL = """
import functools, sys
import worker.serving
worker.serving.FleetWorker = functools.partial(worker.serving.FleetWorker, max_cached_workflows=0)
from starter.main import main
sys.argv = ["icefleet", "worker", "-e", sys.argv[1]]
main()
"""


@asynccontextmanager
async def forgetful(fleet: Fleet, variables: Mapping[str, str]) -> AsyncIterator[Path]:
    """A worker of everything that the fleet has, which forgets every workflow after each of its steps.

    So each step begins with a replay. `variables` are further ones; answers where the worker logs.
    """
    log = fleet.directory / "forgetful.log"
    command = [sys.executable, "-c", FORGETFUL, fleet.name]
    async with running(command, {**fleet.variables(), **variables}, log):
        yield log


@contextlib.contextmanager
def set_for_commands(variables: Mapping[str, str]) -> Iterator[None]:
    """Commands that begin meanwhile have these variables, too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@dataclass(frozen=True)
class Sent:
    """An event as a stranger hears it."""

    table: str
    """Its name without the namespace."""
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def trace(self) -> str:
        """The trace to go on with."""
        return self.headers["traceparent"].split("-")[1]

    @property
    def span(self) -> str:
        """The span to go on with."""
        return self.headers["traceparent"].split("-")[2]


async def sent_events(fleet: Fleet) -> list[Sent]:
    """Every event of a snapshot of the environment, in order."""
    found = await messages(fleet.stack.ports["nats"], f"icefleet.{fleet.name}.snapshot.>")
    return [Sent(one.subject.split(".")[-1], dict(one.headers or {}), json.loads(one.data)) for one in found]
