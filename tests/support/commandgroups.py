"""Commands of one group, run in the test's own process against the test's environment."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import pytest
from typer.testing import CliRunner

from starter.main import build
from support.fleet import Fleet

Command = Callable[..., Awaitable[tuple[int, str]]]


def commands_of(group: str, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `icefleet <group> …`: exit code and output, with errors if it failed."""
    monkeypatch.setenv("ICEFLEET_CONFIG_DIR", str(fleet.directory))
    monkeypatch.setenv("ICEFLEET_ENVIRONMENT", fleet.name)

    async def run(*words: str) -> tuple[int, str]:
        typed = [group, *words]
        said = await asyncio.to_thread(lambda: CliRunner().invoke(build(typed), typed, env={"COLUMNS": "250"}))
        if said.exception is not None and not isinstance(said.exception, SystemExit):
            raise said.exception
        return said.exit_code, said.stdout if said.exit_code == 0 else said.output

    return run


async def told(command: Command, *words: str, codes: Collection[int] = (0,)) -> Any:
    """What a command prints as JSON, and leaves with one of `codes`."""
    code, output = await command(*words, "--json")
    assert code in codes, output
    return json.loads(output)
