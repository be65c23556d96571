"""Proxies to catalog and store: `catalog` and `s3` stand before them for the whole of a test's environment."""

import pytest

from support.faultproxy import HttpFaults


@pytest.fixture
async def catalog(fleet):
    async with HttpFaults(fleet.stack.ports["catalog"]) as proxy:
        fleet.point(catalog=proxy.port)
        yield proxy
        fleet.point(catalog=fleet.stack.ports["catalog"])


@pytest.fixture
async def s3(fleet):
    async with HttpFaults(fleet.stack.ports["s3"]) as proxy:
        fleet.point(s3=proxy.port)
        yield proxy
        fleet.point(s3=fleet.stack.ports["s3"])


@pytest.fixture
async def proxies(fleet):
    """One to the catalog and one to the store, which a test has its environment reach when it is ready."""
    async with HttpFaults(fleet.stack.ports["catalog"]) as catalog, HttpFaults(fleet.stack.ports["s3"]) as s3:
        yield catalog, s3
