"""Proxies to catalog and store: `catalog` and `s3` stand before them for the whole of a test's environment."""

from contextlib import asynccontextmanager

import pytest

from support.faultproxy import HttpFaults


@asynccontextmanager
async def before(fleet, part):
    """A proxy by which a test's environment reaches a part of the stack."""
    port = fleet.stack.ports[part]
    async with HttpFaults(port) as proxy:
        fleet.point(**{part: proxy.port})
        yield proxy
        fleet.point(**{part: port})


@pytest.fixture
async def catalog(fleet):
    async with before(fleet, "catalog") as proxy:
        yield proxy


@pytest.fixture
async def s3(fleet):
    async with before(fleet, "s3") as proxy:
        yield proxy


@pytest.fixture
async def proxies(fleet):
    """One to the catalog and one to the store, which a test has its environment reach when it is ready."""
    async with HttpFaults(fleet.stack.ports["catalog"]) as catalog, HttpFaults(fleet.stack.ports["s3"]) as s3:
        yield catalog, s3
