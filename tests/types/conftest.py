"""Every type, exported once in either profile by the real thing."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.fleet import Fleet
from support.typecases import cases
from support.typeoverrides import OVERRIDDEN
from support.typetables import ROWS, make_table

PROFILES = ("portable", "as_published")


@pytest.fixture(scope="session")
async def lake(stack, tmp_path_factory) -> AsyncIterator[Fleet]:
    """One fleet with a table of every type for each profile, and one whose types config says, exported.

    Read it, and leave it as it is.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
        async with Fleet(stack, tmp_path_factory.mktemp("types")) as fleet:
            for profile in PROFILES:
                await make_table(fleet, profile, cases(profile), profile=profile)
            await make_table(fleet, "overridden", OVERRIDDEN)
            async with fleet.worker():
                reports = await asyncio.gather(*(fleet.request(table) for table in (*PROFILES, "overridden")))
            for report in reports:
                assert (report.status, report.rows) == ("complete", ROWS), report
            yield fleet
