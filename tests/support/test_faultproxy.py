"""The proxies themselves: what they pass on is what was sent, and each fault is the fault it says."""

import asyncio

import aiohttp
import pytest

from support.faultproxy import (
    Answer,
    AnswerInstead,
    CutAfter,
    CutBefore,
    CutBody,
    CutUpload,
    HoldBody,
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


async def test_what_is_cut_before_it_was_forwarded_has_not_landed_and_what_is_cut_after_has(fleet, s3):
    before = s3.on(CutBefore(), method="PUT", path="/before$")
    torn = s3.on(CutUpload(100_000), method="PUT", path="/torn$")
    after = s3.on(CutAfter(), method="PUT", path="/after$")
    async with fleet.context() as context:
        # The client tries again, and its second try creates the object, unless the first one has.
        assert await context.store.create(f"{fleet.name}/before", b"x", "r")
        assert await context.store.create(f"{fleet.name}/torn", b"x" * 1_000_000, "r")
        assert not await context.store.create(f"{fleet.name}/after", b"x", "r")
    assert [rule.times_struck for rule in (before, torn, after)] == [1, 1, 1]
    assert [rule.landed.is_set() for rule in (before, torn, after)] == [False, False, True]


async def test_a_body_can_be_cut_and_an_answer_replaced(fleet, s3):
    url = f"http://127.0.0.1:{s3.port}/"
    async with aiohttp.ClientSession() as client:
        whole = await (await client.get(url)).read()
        s3.on(CutBody(5))
        with pytest.raises(aiohttp.ClientError):
            await (await client.get(url)).read()
        s3.on(AnswerInstead(502))
        s3.on(Answer(418))
        assert [(await client.get(url)).status for _ in range(2)] == [502, 418]
        assert len(await (await client.get(url)).read()) == len(whole) > 5
    assert s3.count("GET", "^/$") >= 4


async def test_a_body_can_be_held_in_the_middle_and_goes_on_whole(fleet, s3):
    url = f"http://127.0.0.1:{s3.port}/"
    async with aiohttp.ClientSession() as client:
        whole = await (await client.get(url)).read()
        rule = s3.on(HoldBody(5))
        reading = asyncio.create_task((await client.get(url)).read())
        await asyncio.wait_for(rule.fault.held.wait(), 10)
        assert not reading.done()
        rule.fault.released.set()
        assert len(await reading) == len(whole) > 5


async def test_a_dropped_rule_strikes_nobody(fleet, s3):
    s3.drop(s3.on(Answer(418), times=None))
    async with aiohttp.ClientSession() as client:
        assert (await client.get(f"http://127.0.0.1:{s3.port}/")).status != 418


async def test_a_late_request_lands_after_its_client_has_given_up(fleet, s3):
    late = s3.on(Late(), method="PUT", path="/late$")
    async with fleet.context() as context:
        assert await context.store.create(f"{fleet.name}/late", b"second", "second")
        late.fault.released.set()
        await asyncio.wait_for(late.landed.wait(), 10)
        assert (await context.store.head(f"{fleet.name}/late")).recipe == "second"


async def test_a_tcp_part_refuses_hangs_is_cut_and_comes_back_under_its_port():
    async def echo(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, TcpFaults(server.sockets[0].getsockname()[1]) as wire:
        port = wire.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"one\n")
        assert await reader.readline() == b"one\n"
        wire.hang()
        writer.write(b"two\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.2)
        await wire.mend()
        assert await reader.readline() == b"two\n"
        wire.cut()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        await wire.refuse()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
        await wire.mend()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"three\n")
        assert await reader.readline() == b"three\n"
        writer.close()
