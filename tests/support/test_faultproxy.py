"""The proxies themselves: what they pass on is what was sent, and each fault is the fault it says."""

import asyncio

import aiohttp
import pytest

from activities.core.faults import BusUnavailable, StoreUnavailable
from support.faultproxy import (
    Answer,
    AnswerInstead,
    CutAfter,
    CutBefore,
    CutBody,
    CutUpload,
    HttpFaults,
    Late,
    TcpFaults,
)

PART = 8 * 2**20


@pytest.fixture
async def s3(fleet):
    async with HttpFaults(fleet.stack.ports["s3"]) as proxy:
        fleet.point(s3=proxy.port)
        yield proxy


async def test_signed_requests_pass_unchanged_whatever_their_size(fleet, s3):
    async with fleet.context() as context:
        body = bytes(range(256)) * 1024 * 40  # 10 MB
        assert await context.store.create(f"{fleet.name}/whole", body, "r")
        upload = await context.store.start(f"{fleet.name}/parts", "r")
        await upload.part(1, body[:PART])
        await upload.part(2, body[PART:])
        assert await upload.complete()
        assert await context.store.tail(f"{fleet.name}/whole", len(body)) == body
        assert await context.store.tail(f"{fleet.name}/parts", len(body)) == body
        assert await context.store.head(f"{fleet.name}/none at all & more") is None
        assert not await context.store.create(f"{fleet.name}/whole", b"other", "r")


async def test_a_request_cut_before_it_was_forwarded_has_not_landed_and_one_cut_after_has(fleet, s3):
    before, after = s3.on(CutBefore(), method="PUT", path="/before$", times=None), s3.on(CutAfter(), path="/after$")
    async with fleet.context() as context:
        with pytest.raises(StoreUnavailable):
            await context.store.create(f"{fleet.name}/before", b"x", "r")
        assert before.times_struck > 1  # the client tries again
        assert await context.store.head(f"{fleet.name}/before") is None
        # Its second try meets the object of the first.
        assert not await context.store.create(f"{fleet.name}/after", b"x", "r")
        assert (after.times_struck, after.landed.is_set()) == (1, True)


async def test_an_upload_that_is_cut_leaves_no_object(fleet, s3):
    s3.on(CutUpload(100_000), method="PUT", path="/torn$", times=None)
    async with fleet.context() as context:
        with pytest.raises(StoreUnavailable):
            await context.store.create(f"{fleet.name}/torn", b"x" * 1_000_000, "r")
        s3.mend()
        assert await context.store.head(f"{fleet.name}/torn") is None


async def test_a_body_can_be_cut_and_an_answer_replaced(fleet, s3):
    url = f"http://127.0.0.1:{s3.port}/"
    async with aiohttp.ClientSession() as client:
        whole = await (await client.get(url)).read()
        s3.on(CutBody(5))
        answer = await client.get(url)
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
        s3.on(AnswerInstead(502))
        s3.on(Answer(418))
        assert [(await client.get(url)).status for _ in range(2)] == [502, 418]
        assert await (await client.get(url)).read() == whole.replace(b"", b"") or whole


async def test_a_late_request_lands_after_its_client_has_given_up(fleet, s3):
    late = s3.on(Late(), method="PUT", path="/late$")
    async with fleet.context() as context:
        assert await context.store.create(f"{fleet.name}/late", b"second", "second")
        late.fault.released.set()
        await asyncio.wait_for(late.landed.wait(), 10)
        assert (await context.store.head(f"{fleet.name}/late")).recipe == "second"


async def test_a_query_ends_at_the_source_when_the_client_behind_the_proxy_leaves(fleet):
    async with HttpFaults(fleet.stack.ports["clickhouse"]) as proxy:
        fleet.point(clickhouse=proxy.port)
        async with fleet.context() as context:
            source = context.find_source(f"{fleet.name}.default")
            assert await source.rows(__import__("activities.core.query").core.query.Query("SELECT 1 AS x")) == [
                {"x": 1}
            ]
        assert proxy.count("POST") >= 1


async def test_nats_refused_cut_and_hanging_is_unavailable_and_comes_back(fleet):
    async with TcpFaults(fleet.stack.ports["nats"]) as nats:
        fleet.point(nats=nats.port)
        async with fleet.context() as context:
            subject = f"icefleet.{fleet.name}.snapshot.a.b"
            assert await context.bus.last(subject) is None
            await nats.refuse()
            with pytest.raises(BusUnavailable):
                await context.bus.last(subject)
            await nats.mend()
            assert await context.bus.last(subject) is None
            nats.cut()
            await asyncio.sleep(0)
            await nats.mend()
