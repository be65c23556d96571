"""Gauges that age: what waits grows older, and what was said long ago is said no more."""

from types import SimpleNamespace

import pytest
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions
from opentelemetry.sdk.metrics import MeterProvider

from activities import export_metrics, gauges, watching
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
    waiting.set(980, ABOUT)
    clock[0] += 60
    waiting.still(ABOUT)
    assert told(waiting) == [(80, ABOUT)]
    waiting.still({"table": "other"})
    clock[0] += 1
    assert told(waiting) == [(81, ABOUT), (1, {"table": "other"})]


def test_one_try_that_failed_is_forgotten_when_none_follows_here(clock):
    """The next one succeeded on another worker: an hour of this would be an alert about nothing."""
    waiting = Waiting("lag", "", forget_seconds=3600)
    waiting.still(ABOUT)
    clock[0] += 900
    assert told(waiting) == [(900, ABOUT)]
    clock[0] += 1
    waiting.still(ABOUT)
    assert told(waiting) == [(0, ABOUT)]
    clock[0] += 901
    assert told(waiting) == []
    waiting.set(0, ABOUT)
    clock[0] += 3600
    assert told(waiting) == [(0, ABOUT)]


def test_what_was_not_said_again_for_long_is_another_workers_to_say(clock):
    lately = Lately("bytes", "", forget_seconds=900)
    lately.set(5, ABOUT)
    clock[0] += 900
    assert told(lately) == [(5, ABOUT)]
    clock[0] += 1
    assert told(lately) == []
    lately.set(6, ABOUT)
    assert told(lately) == [(6, ABOUT)]


def test_that_a_slot_is_gone_is_told_for_longer_than_what_another_worker_saw_of_it(clock):
    zero_seconds = watching._RETAINED._zero_seconds
    here, there = (Lately("bytes", "", zero_seconds=zero_seconds) for _ in range(2))
    there.set(5, ABOUT)
    here.set(0, ABOUT)
    clock[0] += 901
    assert (told(there), told(here)) == ([], [(0, ABOUT)])
    clock[0] += 900
    assert told(here) == []


class AwayError(Exception):
    """The bus did not answer."""


@pytest.mark.parametrize(("waits", "age"), [((), 30), ((400,), 630), ((400, 700), 330)])
def test_an_event_waits_since_its_snapshot_and_none_waits_longer_than_anybody_knows(clock, monkeypatch, waits, age):
    """The table's last commit was long ago: with the bus away, nobody can tell whether it was announced."""
    lag = Waiting("lag", "")
    monkeypatch.setattr(export_metrics, "_UNANNOUNCED", lag)
    table = SimpleNamespace(name=lambda: ("mainnet", "blocks"), metadata=SimpleNamespace(last_updated_ms=1))

    def announce():
        with export_metrics.announcing(table) as is_next:
            for second in waits:
                is_next(SimpleNamespace(timestamp_ms=second * 1000))
            raise AwayError

    with pytest.raises(AwayError):
        announce()
    clock[0] += 30
    about = {"network": "mainnet", "table": "blocks"}
    assert told(lag) == [(age, about)]
    with export_metrics.announcing(table):
        pass
    assert told(lag) == [(0, about)]


def test_of_hundreds_that_wait_the_one_of_each_network_is_told_that_has_been_waiting_for_longest(clock):
    waiting = LongestWaiting("lag", "")
    for number in range(300):
        waiting.set(0 if number == 7 else 400 + number, {"network": "a", "table": str(number)})
        waiting.set(0, {"network": "b", "table": str(number)})
    assert told(waiting) == [(600, {"network": "a", "table": "0"}), (0, {"network": "b", "table": "0"})]
    clock[0] += 10
    waiting.set(0, {"network": "a", "table": "0"})
    assert told(waiting)[0] == (609, {"network": "a", "table": "1"})
