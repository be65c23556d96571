"""What probes and scrapers are told."""

import asyncio
import socket
import time
import urllib.error
import urllib.request

import pytest

from activities.core.faults import BadRequest
from worker import monitor
from worker.monitor import Monitor, address_of


def test_without_a_host_it_listens_on_loopback_and_what_is_no_address_is_refused():
    assert address_of(":9090") == address_of("9090") == ("127.0.0.1", 9090)
    assert address_of("0.0.0.0:80") == ("0.0.0.0", 80)
    assert address_of("[::1]:0") == ("::1", 0)
    for wrong in ("nowhere", "127.0.0.1:", "host:99999", ":-1"):
        with pytest.raises(BadRequest, match="expected HOST:PORT"):
            address_of(wrong)


async def test_a_port_that_is_taken_is_refused_and_without_an_address_nothing_listens():
    with Monitor() as silent, Monitor("127.0.0.1:0") as listening:
        assert silent.port == 0
        assert listening.port > 0
        with (
            pytest.raises(BadRequest, match=f"--listen 127.0.0.1:{listening.port}: Address already in use"),
            Monitor(f"127.0.0.1:{listening.port}"),
        ):
            pass


async def test_it_listens_on_every_address_of_a_machine_whichever_protocols_it_has(monkeypatch):
    with Monitor("[::]:0") as both:
        found = [await asyncio.to_thread(ask, both.port, "/livez", host) for host in ("127.0.0.1", "[::1]")]
    assert found == [(200, b"ok\n")] * 2
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with Monitor("[::]:0") as old:
        assert await asyncio.to_thread(ask, old.port, "/livez") == (200, b"ok\n")
        with pytest.raises(urllib.error.URLError, match="refused"):
            await asyncio.to_thread(ask, old.port, "/livez", "[::1]")


async def test_metrics_are_those_that_are_rendered_and_a_process_that_starts_is_not_ready():
    with Monitor(":0", render=lambda: b"up 1\n") as listening:
        found = [await asyncio.to_thread(ask, listening.port, path) for path in ("/metrics", "/readyz", "/livez?a=b")]
    assert found == [(200, b"up 1\n"), (503, b"starting\n"), (200, b"ok\n")]


async def test_a_loop_that_stands_still_is_dead_and_one_that_turns_again_lives(monkeypatch):
    monkeypatch.setattr(monitor, "STUCK_SECONDS", 1.5)
    with Monitor(":0") as listening:
        later = asyncio.to_thread(ask_after, 2.0, listening.port, "/livez")
        asking = asyncio.create_task(later)
        await asyncio.sleep(0)
        time.sleep(2.5)  # noqa: ASYNC251 - a loop that is blocked is the point
        status, why = await asking
        assert (status, why.startswith(b"the event loop has stood still for")) == (503, True)
        await asyncio.sleep(monitor.TURN_SECONDS + 0.1)
        assert await asyncio.to_thread(ask, listening.port, "/livez") == (200, b"ok\n")


def ask_after(seconds, port, path):
    time.sleep(seconds)
    return ask(port, path)


def ask(port, path, host="127.0.0.1"):
    """Status and body."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()
