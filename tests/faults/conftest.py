"""Proxies through which a test's environment reaches its catalog and its store."""

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
