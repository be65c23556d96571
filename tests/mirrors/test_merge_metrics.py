"""What merges tell OpenTelemetry, under the names that users of the earlier merger know."""

import asyncio
import time
from dataclasses import replace

import pytest
from temporalio.testing import ActivityEnvironment

from activities import failpoints, gauges, merge_metrics, mirror_lag
from activities.bootstrapping import bootstrap_mirror
from activities.compacting import compact_mirror
from activities.contracts.mirrors import MergeInput, MergeReport, MirrorInput, MirrorTrouble
from activities.core.faults import BadConfig, StoreUnavailable
from activities.lake import mirror as mirrors
from activities.lake.live import live_files
from activities.merging import merge_mirror
from activities.mirror_head import opened_index
from activities.mirror_index import rebuild_index
from activities.mirror_lag import watch_mirror
from support.fleet import eventually
from support.lakereaders import ALWAYS_TRUE
from support.measured import measured
from support.mirrors import gone, opened, put, update


@pytest.fixture
def told():
    """All points that are told, as name → [(attributes, value)]."""
    with measured(merge_metrics) as points:
        yield points


async def test_a_turn_is_told_with_its_rows_its_phases_and_its_index(fleet, told):
    async with opened(fleet) as mirror:
        await mirror.write(put(1, name="a"), put(2, name="b"), update(1, name="c"))
        await mirror.merge()
        await mirror.write(gone(2), put(3, name="d"))
        await mirror.merge()
        name = mirror.config.mirror
        head = mirrors.read(mirror.lake, mirror.config)
        places = opened_index(mirror.context, head, head.index, live_files(head.table)).head.places
        # While nothing is merged, whoever looks at the mirror says what waits.
        await mirror.write(put(4, name="e"), put(5, name="f"))
        lag = await watch_mirror(mirror.context, MirrorTrouble(fleet.name, name))
        mirror.configure(primary_keys=("nobody",))
        with pytest.raises(BadConfig):
            await mirror.merge()
        found = {
            metric: [(about, value) for about, value in points if about.get("table") in {name, None}]
            for metric, points in told().items()
        }
        # A mirror that finds no changelog has not done well.
        mirror.configure(changelog="no.such", mirror=f"{name}_waiting")
        assert (await mirror.merge()).waiting_for.startswith("changelog no.such is not in the catalog; if")
        waiting = {metric: {about.get("table") for about, _ in points} for metric, points in told().items()}
    assert mirror.config.mirror in waiting["merger.cycle.completed"] - waiting["merger.table.success"]
    of = {"table": name}
    assert found["merger.cycle.completed"] == [(of, 3)]
    assert found["merger.cycle.duration_seconds"] == [(of, 3)]
    assert found["merger.table.success"] == [(of, 2)]
    assert found["merger.table.failure"] == [({**of, "cause": "BadConfig"}, 1)]
    assert found["merger.table.duration_seconds"] == [(of, 2)]
    assert found["merger.rows.scanned"] == [(of, 5)]
    assert found["merger.rows.deduplicated"] == [(of, 1)]
    assert {about.get("phase", "") for about, _ in found["merger.merge.duration_seconds"]} == {
        *("", "read", "lookup", "write", "store", "commit")
    }
    assert (found["merger.index.hits"], found["merger.index.misses"]) == ([(of, 1)], [(of, 3)])
    # Of all that it consists of: this merge's file, and those of earlier ones that it names.
    assert found["merger.index.bytes"] == [(of, sum(place.length for place in places))]
    assert len({place.path for place in places}) > 1
    assert found["merger.watermark.lag_events"] == [(of, 2)] == [(of, lag.events)]
    assert found["merger.watermark.lag_seconds"][0][1] >= lag.seconds > 0
    assert found["merger.memory.resident_bytes"][0][1] > 2**20
    assert found["merger.memory.allocated_bytes"][0][1] >= 0


async def test_an_index_that_is_made_anew_and_changes_that_are_refused_are_told(fleet, told):
    async with opened(fleet) as mirror:
        of = {"table": mirror.config.mirror}
        await mirror.write(put(1, 10, name="a"), gone(2, 20))
        await mirror.merge()
        before = told()
        # What was deleted nobody knows any more: neither an index nor the changelog.
        mirror.changelog().delete(ALWAYS_TRUE)
        for key in await mirror.objects("index/"):
            await mirror.context.store.delete(key)
        cold = mirror.context.cache_directory.with_name("cold")
        mirror.context = replace(mirror.context, cache_directory=cold)
        await mirror.write(put(2, 15, name="late"), put(3, 30, name="new"))
        report = await mirror.merge()
        found = told()
    assert (bool(report.index_rebuilt), report.refused, report.upserted) == (True, 1, 1)
    assert ("merger.index.rebuilds" in before, before["merger.rows.refused"]) == (False, [(of, 0)])
    assert (found["merger.index.rebuilds"], found["merger.rows.refused"]) == ([(of, 1)], [(of, 1)])


def unavailable_after(times):
    """The store goes away when a point has been reached so often."""

    async def fail():
        nonlocal times
        times -= 1
        if times < 0:
            raise StoreUnavailable("away")

    return fail


async def test_what_was_committed_counts_whatever_comes_after_and_long_work_tells_how_much_waits(fleet, told):
    async with opened(fleet, batch_rows=1) as mirror:
        asked, of = MirrorInput(fleet.name, mirror.config.mirror), {"table": mirror.config.mirror}

        async def run(work):
            return await ActivityEnvironment().run(work, mirror.context, asked)

        await mirror.write(put(1, name="a"), put(2, name="b"))
        try:
            failpoints.arm("merge-before-commit", unavailable_after(1))
            with pytest.raises(StoreUnavailable):
                await mirror.merge()
            turn = told()
            failpoints.arm("merge-before-commit", unavailable_after(0))
            with pytest.raises(StoreUnavailable):
                await run(bootstrap_mirror)
        finally:
            failpoints.disarm()
        failed = told()
        await run(bootstrap_mirror)
        begun = told()
        waits = []
        await mirror.write(put(3, name="c"))
        await run(rebuild_index)
        waits += told()["merger.watermark.lag_events"]
        await mirror.merge()
        await mirror.write(put(4, name="d"), put(5, name="e"))
        assert (await mirror.compact(thorough=True)).snapshot_id
        waits += told()["merger.watermark.lag_events"]
    assert turn["merger.rows.scanned"] == failed["merger.rows.scanned"] == [(of, 1)]
    assert failed["merger.table.failure"] == [({**of, "cause": "StoreUnavailable"}, 2)]
    assert failed["merger.watermark.lag_events"] == [(of, 2)]
    assert begun["merger.rows.scanned"] == [(of, 3)]
    assert waits == [(of, 1), (of, 2)]


@pytest.mark.parametrize(
    ("work", "point"),
    [
        (merge_mirror, "merge-before-commit"),
        (bootstrap_mirror, "merge-before-commit"),
        (rebuild_index, "rebuild-before-commit"),
        (compact_mirror, "compact-before-commit"),
    ],
    ids=["merge", "bootstrap", "rebuild-index", "compact"],
)
async def test_the_lag_is_told_for_as_long_as_one_step_takes(fleet, told, monkeypatch, work, point):
    monkeypatch.setattr(mirror_lag, "LOOK_SECONDS", 0.05)
    async with opened(fleet) as mirror:
        name, of = mirror.config.mirror, {"table": mirror.config.mirror}
        for key in (1, 2):
            await mirror.write(put(key, name="a"))
            await mirror.merge()
        await mirror.write(put(3, name="c"))
        seen = []

        async def hold():
            """What waits is told anew though nothing else is done meanwhile: also what came since, and that it ages."""
            failpoints.disarm()
            for number, waiting in enumerate([1, 2, 3]):
                if number:
                    await mirror.write(put(3 + number, name="later"))
                await eventually(lambda count=waiting: told().get("merger.watermark.lag_events") == [(of, count)])
                seen.append(told()["merger.watermark.lag_seconds"][0][1])

        failpoints.arm(point, hold)
        try:
            asked = (
                MergeInput(fleet.name, name) if work is merge_mirror else MirrorInput(fleet.name, name, thorough=True)
            )
            await ActivityEnvironment().run(work, mirror.context, asked)
        finally:
            failpoints.disarm()
    assert len(seen) == 3
    assert 0 < seen[0] < seen[1] < seen[2]


def test_a_turn_that_is_paused_is_no_failure_and_begins_no_lag(told):
    with pytest.raises(asyncio.CancelledError), merge_metrics.turn_told("shop.paused"):
        raise asyncio.CancelledError
    found = told()
    assert [value for about, value in found["merger.cycle.completed"] if about == {"table": "shop.paused"}] == [1]
    assert "merger.table.failure" not in found
    assert found.get("merger.watermark.lag_seconds", []) == []


def test_changes_that_waited_when_a_worker_last_looked_are_forgotten_in_time(told, monkeypatch):
    with merge_metrics.turn_told("shop.orders") as reports:
        reports.append(MergeReport(lag_events=5, lag_seconds=9.0))
    assert told()["merger.watermark.lag_events"] == [({"table": "shop.orders"}, 5)]
    later = time.time() + 3601
    monkeypatch.setattr(gauges.time, "time", lambda: later)
    assert told().get("merger.watermark.lag_events", []) == []
