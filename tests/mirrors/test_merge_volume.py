"""Much at once: cut into pieces that fit into memory, each of them whole."""

import asyncio
import os
import time
from contextlib import contextmanager
from types import SimpleNamespace

import duckdb
import pyarrow as pa
import pytest
from temporalio.testing import ActivityEnvironment

from activities import failpoints, merging
from activities.contracts.mirrors import VerifyMirrorInput
from activities.lake.changelog import PIPELINE
from activities.verifymirror import verify_mirror
from support.mirrors import AT, Row, gone, opened, put, update
from worker import mirror_status

TRANSACTION = int(os.environ.get("MERGE_TRANSACTION") or 60_000)
"""Changes of one transaction; `make test-large` has it as large as case 59 says."""
PIECE = min(TRANSACTION // 6, 100_000)
MINUTES = 1 + TRANSACTION // 500_000


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.disarm()


@contextmanager
def own_pool():
    """Where Arrow's memory comes from meanwhile: a pool that nobody else takes from, so its peak is the block's own.

    It lives as long as the process, as what was taken from it may.
    """
    before = pa.default_memory_pool()
    own = pa.system_memory_pool() if before.backend_name != "system" else pa.mimalloc_memory_pool()
    pa.set_memory_pool(own)
    try:
        yield own
    finally:
        pa.set_memory_pool(before)


def changes(mirror, rows, *, number=0x5000, keys=None):
    """Many changes of one transaction, as a table: inserts, whose ordinals say their order."""
    with duckdb.connect() as duck:
        made = duck.execute(
            "SELECT 'insert' AS cdc_operation, printf('%016x%016x', $number, i) AS cdc_sequence_number, "
            "i % $keys AS id, 'name ' || i AS name FROM range($rows) t(i)",
            {"number": number, "keys": keys or rows, "rows": rows},
        ).to_arrow_table()
    columns = {name: made.column(name) for name in made.column_names}
    columns["cdc_timestamp"] = pa.repeat(pa.scalar(AT, pa.timestamp("us", "UTC")), rows)
    shape = mirror.changelog().schema().as_arrow()
    return pa.Table.from_arrays(
        [columns[one.name].cast(one.type) if one.name in columns else pa.nulls(rows, one.type) for one in shape],
        schema=shape,
    )


async def check_index(mirror):
    """Of each row of a small mirror by hand, which of a large one is the product's to do."""
    if TRANSACTION <= 100_000:
        mirror.check_index()
        return
    asked = VerifyMirrorInput(mirror.fleet.name, mirror.config.mirror)
    report = await ActivityEnvironment().run(verify_mirror, mirror.context, asked)
    assert (report.status, report.index) == ("equal", "whole"), report.message


@pytest.mark.timeout(MINUTES * 60)
async def test_one_transaction_that_is_larger_than_a_batch_is_merged_in_pieces_in_flat_memory_cases_58_59(fleet):
    async with opened(fleet, batch_rows=PIECE) as mirror:
        mirror.changelog().append(changes(mirror, TRANSACTION))
        peaks = []
        with own_pool() as pool:

            async def weigh():
                peaks.append(pool.max_memory())

            failpoints.arm("merge-before-commit", weigh)
            reports = await mirror.drain()
            failpoints.disarm()
        assert sum(one.scanned for one in reports) == TRANSACTION
        assert sum(one.commits for one in reports) == -(-TRANSACTION // PIECE)
        # Whatever the first piece took at most, none of the others takes much more.
        assert peaks[-1] < 1.2 * peaks[0]
        assert mirror.table().scan().count() == TRANSACTION
        await check_index(mirror)
        # A piece that was merged in part is known to be: the next turn of another worker goes on there.
        mirror.changelog().append(changes(mirror, 25 * PIECE // 10, number=0x6000))
        assert (await mirror.merge(pieces=1)).more
        assert mirror.watermark().partial
        while (await mirror.merge(pieces=1)).more:
            pass
        assert mirror.watermark().partial == ""
        names = {row["name"] for row in mirror.table().scan(limit=10).to_arrow().to_pylist()}
        assert all(name.startswith("name ") for name in names)
        await check_index(mirror)


async def test_a_batch_is_cut_by_its_bytes_when_rows_are_wide_case_58(fleet):
    async with opened(fleet, batch_bytes=2**20) as mirror:
        await mirror.write(*(put(key, name=f"{key} " * 20_000) for key in range(60)))
        reports = await mirror.drain()
        assert sum(one.commits for one in reports) > 3
        mirror.check()
        mirror.check_index()


async def test_bounds_of_a_changelog_that_a_writer_has_cut_keep_no_changes_from_the_pieces_of_a_snapshot_case_58(fleet):
    async with opened(fleet, batch_rows=4) as mirror:
        with mirror.changelog().transaction() as changing:
            changing.set_properties({PIPELINE: "shop"})
        await mirror.write(*(put(key, name="x") for key in range(20)))
        [file] = mirror.changelog().inspect.data_files().to_pylist()
        assert len(file["readable_metrics"]["cdc_sequence_number"]["upper_bound"]) == 16
        assert sum(report.commits for report in await mirror.drain()) > 1
        mirror.check()


async def test_a_hundred_thousand_changes_of_ten_keys_leave_ten_rows_case_60(fleet):
    async with opened(fleet) as mirror:
        rows = 100_000
        mirror.changelog().append(changes(mirror, rows, keys=10))
        report = await mirror.merge()
        assert (report.scanned, report.upserted, report.superseded) == (rows, 10, rows - 10)
        assert sorted(mirror.read("name")) == [(f"name {ordinal}",) for ordinal in range(rows - 10, rows)]


async def test_a_delete_and_the_insert_that_belongs_to_it_are_never_parted(fleet):
    """A key update whose new row lives of the old one's values, wherever the pieces are cut."""
    async with opened(fleet, batch_rows=1) as mirror:
        await mirror.write(put(1, name="long"))
        await mirror.merge()
        number = 0x7000
        await mirror.write(
            *(gone(1, number, ordinal=0), Row("insert", {"id": 2}, number, 1, ("name",))),
            *(gone(2, number, ordinal=2), Row("insert", {"id": 3}, number, 3, ("name",))),
            update(9, number, ordinal=4, name="other"),
        )
        await mirror.drain()
        assert mirror.read("id", "name") == [(3, "long"), (9, "other")]


async def test_a_delete_and_an_insert_of_more_bytes_than_a_batch_may_have_are_merged_together_case_58(fleet):
    """They cannot be parted, so trying smaller pieces would have no end."""
    async with opened(fleet, batch_bytes=2**20) as mirror:
        await mirror.write(put(1, name="short"), put(2, name="other"))
        await mirror.merge()
        number, wide = 0x7000, "x" * 700_000
        await mirror.write(
            *(Row("delete", {"id": 1, "name": wide}, number, 0), Row("insert", {"id": 3, "name": wide}, number, 1)),
            *(update(2, number, ordinal=2, name=wide), update(3, number, ordinal=3, name="last")),
        )
        async with asyncio.timeout(30):
            await mirror.drain()
        assert mirror.read("id", "name") == [(2, wide), (3, "last")]


async def test_one_turn_stops_when_its_time_is_up_and_says_what_is_left(fleet):
    async with opened(fleet, batch_rows=2) as mirror:
        await mirror.write(*(put(key, name="x") for key in range(10)))
        report = await mirror.merge(seconds=0)
        assert (report.commits, report.more, report.lag_events) == (1, True, 10)
        assert report.lag_seconds > 0
        assert (await mirror.drain())[-1].lag_events == 0
        mirror.check()


async def test_lag_is_that_of_the_oldest_change_though_a_mirror_begins_with_all_of_them_at_once(fleet, monkeypatch):
    async with opened(fleet, batch_rows=1) as orders:
        await orders.write(put(1, name="a"))
        await orders.write(put(2, name="b"))
        first, second = (one.timestamp_ms / 1000 for one in orders.changelog().snapshots())
        clock = SimpleNamespace(time=lambda: second + 100, monotonic=time.monotonic)
        for room in (merging, mirror_status):
            monkeypatch.setattr(room, "time", clock)
        since_first = pytest.approx(second - first + 100, abs=0.001)
        assert mirror_status._tables(orders.lake, orders.config).lag_seconds == since_first
        assert (await orders.merge(pieces=1)).lag_seconds == since_first
        assert mirror_status._tables(orders.lake, orders.config).lag_seconds == since_first
        await orders.drain()
        assert mirror_status._tables(orders.lake, orders.config).lag_seconds == 0
        await orders.write(put(3, name="c"))
        assert mirror_status._tables(orders.lake, orders.config).lag_seconds < 100
