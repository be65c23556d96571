"""Gauges that age: what waits grows older, and what was said long ago is said no more."""

import pytest
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions
from opentelemetry.sdk.metrics import MeterProvider

from activities import gauges
from activities.gauges import Lately, LongestWaiting, Waiting

ABOUT = {"table": "blocks"}


@pytest.fixture
def clock(monkeypatch):
    """The time of day, as the test says."""
    now = [1000.0]
    monkeypatch.setattr(gauges.time, "time", lambda: now[0])
    monkeypatch.setattr(metrics, "get_meter", MeterProvider().get_meter)
    return now


def told(gauge):
    return [(observed.value, observed.attributes) for observed in gauge._observe(CallbackOptions())]


def test_what_waits_grows_older_until_it_is_done(clock):
    waiting = Waiting("lag", "")
    waiting.set(990, ABOUT)
    clock[0] += 5
    assert told(waiting) == [(15, ABOUT)]
    waiting.set(0, ABOUT)
    clock[0] += 5
    assert told(waiting) == [(0, ABOUT)]


def test_tries_that_fail_leave_what_waits_as_old_as_it_is(clock):
    waiting = Waiting("lag", "")
    waiting.still(ABOUT, 980)
    clock[0] += 60
    waiting.still(ABOUT, 1055)
    assert told(waiting) == [(80, ABOUT)]
    waiting.still({"table": "other"})
    clock[0] += 1
    assert told(waiting) == [(81, ABOUT), (1, {"table": "other"})]


def test_what_was_not_said_again_for_long_is_another_workers_to_say(clock):
    lately = Lately("bytes", "", forget_seconds=900)
    lately.set(5, ABOUT)
    clock[0] += 900
    assert told(lately) == [(5, ABOUT)]
    clock[0] += 1
    assert told(lately) == []
    lately.set(6, ABOUT)
    assert told(lately) == [(6, ABOUT)]


def test_of_hundreds_that_wait_the_one_of_each_network_is_told_that_has_been_waiting_for_longest(clock):
    waiting = LongestWaiting("lag", "")
    for number in range(300):
        waiting.set(0 if number == 7 else 400 + number, {"network": "a", "table": str(number)})
        waiting.set(0, {"network": "b", "table": str(number)})
    assert told(waiting) == [(600, {"network": "a", "table": "0"}), (0, {"network": "b", "table": "0"})]
    clock[0] += 10
    waiting.set(0, {"network": "a", "table": "0"})
    assert told(waiting)[0] == (609, {"network": "a", "table": "1"})
