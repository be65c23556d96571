"""The same tables with every decision turned round: what must be found nowhere else must be found here."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from support.planted import NUMBER, Finding, Piece, findings
from support.traces import announced, histories, stored
from support.xatulake import PROFILES, XatuLake, exported, people
from support.xatuschemas import read_schemas

CONTROL = "beacon_api_eth_v1_events_block"
"""The real table that is published as it is; its sensitive columns are those that all of them have."""
PLANTED_NAME = f"people_{NUMBER}"
"""The name of a table is known to events, logs and histories, so that the search has something to find there."""


@dataclass(frozen=True)
class Searched:
    """What one lake's exports left behind: how much of each kind, and where needles were found."""

    lake: XatuLake
    counts: Mapping[str, int]
    findings: tuple[Finding, ...]


async def _search(lake: XatuLake) -> Searched:
    pieces = [*await announced(lake.fleet), *await histories(lake.fleet)]
    pieces.append(Piece("log", lake.log.name, lake.log.read_bytes()))

    def look() -> tuple[dict[str, int], list[Finding]]:
        counts: dict[str, int] = {}
        found = []
        for piece in [*pieces, *stored(lake.environment, lake.fleet.network)]:
            counts[piece.kind] = counts.get(piece.kind, 0) + 1
            found += findings([piece])
        return counts, found

    counts, found = await asyncio.to_thread(look)
    return Searched(lake, counts, tuple(found))


@pytest.fixture(scope="session")
async def redacted(xatu: Mapping[str, XatuLake]) -> dict[str, Searched]:
    """Profile → what is left of the tables as config says they are published."""
    return {profile: await _search(lake) for profile, lake in xatu.items()}


@pytest.fixture(scope="session")
async def allowed(stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Searched]]:
    """Profile → what is left of tables whose sensitive columns are all published as they are."""
    real = [schema for name, schema in read_schemas().items() if name == CONTROL]
    async with AsyncExitStack() as lakes:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
            opened = [
                lakes.enter_async_context(
                    exported(
                        stack,
                        tmp_path_factory.mktemp(f"allowed-{profile}"),
                        profile,
                        [*real, people(PLANTED_NAME)],
                        allowed=True,
                    )
                )
                for profile in PROFILES
            ]
            found = await asyncio.gather(*opened)
        yield {lake.profile: await _search(lake) for lake in found}
