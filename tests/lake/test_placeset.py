"""What upkeep knows of a table of any size: places of objects, of which memory holds a bounded part."""

import tracemalloc
from threading import Lock

import pytest

from activities.lake import placeset
from activities.lake.live import READ_AHEAD, live_entries
from activities.lake.placeset import PlaceSet


def path(number):
    return f"bucket/changelogs/cdc/orders/data/{number:08}.parquet"


@pytest.mark.parametrize("run", [placeset.RUN, 100])
def test_everything_that_was_put_in_is_held_and_nothing_else_in_memory_or_on_disk(monkeypatch, run):
    monkeypatch.setattr(placeset, "RUN", run)
    places = PlaceSet(path(number) for number in range(0, 1000, 2))
    assert places.holds([path(number) for number in range(1002)]) == [
        number % 2 == 0 and number < 1000 for number in range(1002)
    ]
    places.update([path(1), path(1)])
    assert places.holds([path(1), path(3)]) == [True, False]
    assert places.holds([]) == []
    assert PlaceSet().holds([path(1)]) == [False]


def test_memory_does_not_grow_with_the_number_of_places(monkeypatch):
    monkeypatch.setattr(placeset, "RUN", 2_000)
    places = PlaceSet()
    held = []
    tracemalloc.start()
    try:
        for start in range(0, 40_000, 20_000):
            places.update(path(number) for number in range(start, start + 20_000))
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[1] - held[0] < 20_000, "a place takes more than a byte"
    assert places.holds([path(0), path(39_999), path(40_000)]) == [True, True, False]


class Manifest:
    """One that says how many like it are read and not let go."""

    most = held = 0
    lock = Lock()

    def __init__(self, number):
        self.manifest_path = f"memory://{number}"

    def fetch_manifest_entry(self, _, discard_deleted):
        assert discard_deleted
        with self.lock:
            Manifest.held += 1
            Manifest.most = max(Manifest.most, Manifest.held)
        return [self.manifest_path] * 30_000  # more than is remembered


def test_however_many_manifests_there_are_a_few_are_read_ahead():
    manifests = [Manifest(number) for number in range(5 * READ_AHEAD)]
    for manifest, (entry, *_) in zip(manifests, live_entries(None, manifests), strict=True):
        assert entry == manifest.manifest_path
        Manifest.held -= 1
    assert 1 < Manifest.most <= READ_AHEAD + 1
