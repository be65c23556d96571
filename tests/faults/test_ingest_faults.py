"""Ingest while answers are lost, locks change hands, and store or catalog say no: nothing lost, nothing twice."""

import asyncio
import itertools
import threading

import pytest
from pyiceberg.types import DecimalType

from activities import failpoints, ingesting
from activities.batches import Batch
from activities.core.faults import (
    CatalogRefused,
    CatalogUnavailable,
    CommitConflict,
    LockTaken,
    PostgresUnavailable,
    StoreRefused,
    StoreUnavailable,
)
from activities.lake.rows import ChangelogFiles
from support.buffers import insert, schema_event
from support.faultproxy import Answer, AnswerInstead, CutAfter
from support.fleet import eventually
from support.ingests import opened, shared_place
from support.lostanswers import deletions

COMMIT = {"method": "POST", "path": r"/tables/public_orders_changelog(\?|$)"}
PUT = {"method": "PUT", "path": r"/cdc/"}


shared, fleet, postgres = shared_place()


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.disarm()


async def orders(ingest, *numbers: int) -> None:
    await ingest.producer.transaction(*(insert(number) for number in numbers))


async def begun(ingest) -> None:
    """The changelog is there, with one event."""
    await ingest.producer.transaction(schema_event(), insert(0))
    await ingest.batch()


async def test_a_landed_commit_is_recognised_whatever_was_answered_cases_24_and_25(fleet, postgres, catalog, s3):
    answers = [*(AnswerInstead(status, b"{}") for status in (500, 502, 503, 504, 409)), CutAfter()]
    async with opened(fleet, postgres) as ingest:
        await begun(ingest)
        for number, answer in enumerate(answers, 1):
            await orders(ingest, number)
            rule = catalog.on(answer, **COMMIT)
            report = await ingest.batch()
            assert rule.times_struck == 1
            assert (report.events, report.tables[0].failed) == (1, "")
            assert report.tables[0].snapshot_id == str(ingest.table().current_snapshot().snapshot_id)
        assert [number for _, number in ingest.said()] == list(range(7))
        assert (len(ingest.snapshots()), len(await ingest.files()), deletions(s3)) == (7, 7, [])


async def test_files_are_never_deleted_while_their_commit_is_in_doubt_case_26(
    fleet, postgres, catalog, s3, monkeypatch
):
    monkeypatch.setattr("activities.lake.sending.TRIES", 2)
    async with opened(fleet, postgres) as ingest:
        await begun(ingest)
        await orders(ingest, 1)
        rule = catalog.on(Answer(503, b"{}"), **COMMIT, times=None)
        with pytest.raises(CatalogUnavailable):
            await ingest.batch()
        assert rule.times_struck == 2
        kept = await ingest.files()
        catalog.mend()
        await ingest.batch()
        assert [number for _, number in ingest.said()] == [0, 1]
        assert kept < await ingest.files()
        assert deletions(s3) == []


async def lose_lock(ingest) -> None:
    """The session that holds the lock ends, and whoever has it hears of that when it next asks."""
    await ingest.own.rows(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )


@pytest.mark.parametrize("wins", ["zombie", "other"])
async def test_a_zombie_that_lost_the_lock_and_still_commits_brings_nothing_twice_cases_27_and_28(
    fleet, postgres, wins
):
    async with opened(fleet, postgres) as ingest:
        await begun(ingest)
        await orders(ingest, 1, 2)
        others = []

        async def meanwhile() -> None:
            failpoints.disarm()
            await lose_lock(ingest)
            others.append(await ingest.batch_when_free())

        failpoints.arm("cdc-before-commit" if wins == "other" else "cdc-after-commit", meanwhile)
        # It sees that its events are there; what it marks by then is not its own any more.
        with pytest.raises(PostgresUnavailable, match="terminating connection"):
            await ingest.batch()
        [table] = others[0].tables
        assert (table.events, table.already_there) == ((2, 0) if wins == "other" else (0, 2))
        await orders(ingest, 3)
        await ingest.batch()
        assert [number for _, number in ingest.said()] == [0, 1, 2, 3]
        assert len(ingest.snapshots()) == 3


async def test_of_two_workers_that_ingest_at_once_one_waits_for_its_turn_case_28(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), *(insert(number) for number in range(50)))
        both = await asyncio.gather(ingest.batch(), ingest.batch(), return_exceptions=True)
        assert sum(isinstance(one, LockTaken) or one.tables == [] for one in both) == 1
        assert [number for _, number in ingest.said()] == list(range(50))
        assert len(ingest.snapshots()) == 1


@pytest.mark.parametrize(
    ("part", "answer", "fault"),
    [
        pytest.param("s3", Answer(503, b"<Error><Code>SlowDown</Code></Error>", "application/xml"), StoreUnavailable),
        pytest.param("catalog", Answer(429, b"{}"), CatalogUnavailable),
    ],
)
async def test_throttling_fails_the_batch_so_that_it_is_tried_again_and_nothing_is_lost_case_64(
    fleet, postgres, catalog, s3, part, answer, fault, monkeypatch
):
    monkeypatch.setattr("activities.lake.sending.TRIES", 2)
    # The S3 library's own patience, which is its matter.
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    async with opened(fleet, postgres) as ingest:
        await begun(ingest)
        await orders(ingest, 1)
        where = {"s3": (s3, PUT), "catalog": (catalog, COMMIT)}[part]
        where[0].on(answer, **where[1], times=None)
        with pytest.raises(fault) as failed:
            await ingest.batch()
        assert failed.value.retryable
        where[0].mend()
        await ingest.batch()
        assert [number for _, number in ingest.said()] == [0, 1]


@pytest.mark.parametrize(
    ("part", "answer", "fault", "told"),
    [
        pytest.param(
            "s3",
            Answer(403, b"<Error><Code>ExpiredToken</Code><Message>expired</Message></Error>", "application/xml"),
            StoreRefused,
            "ExpiredToken",
        ),
        pytest.param(
            "catalog",
            Answer(401, b'{"error": {"message": "token expired", "type": "NotAuthorizedException", "code": 401}}'),
            CatalogRefused,
            "check its credential, warehouse and rights in environments.yaml",
        ),
    ],
)
async def test_credentials_that_expired_are_said_clearly_and_stop_no_table_case_65(
    fleet, postgres, catalog, s3, part, answer, fault, told
):
    async with opened(fleet, postgres) as ingest:
        await begun(ingest)
        await orders(ingest, 1)
        proxy, path = {"s3": (s3, r"/cdc/"), "catalog": (catalog, r"/v1/")}[part]
        proxy.on(answer, path=path, times=None)
        with pytest.raises(fault, match=told) as failed:
            await ingest.batch()
        assert not failed.value.retryable
        proxy.mend()
        await ingest.batch()
        assert [number for _, number in ingest.said()] == [0, 1]


async def test_a_table_that_fails_again_and_again_leaves_the_batch_to_others(fleet, postgres, catalog, monkeypatch):
    monkeypatch.setattr("activities.lake.sending.TRIES", 1)
    async with opened(fleet, postgres, batch_events=5) as ingest:
        await begun(ingest)
        await orders(ingest, *range(1, 6))
        await ingest.producer.transaction(schema_event(table="other"), insert(1, table="other"))
        # A conflict with foreign writers that never ends is this table's own; it has the whole first batch.
        catalog.on(Answer(409, b"{}"), **COMMIT, times=None)
        report = await ingest.batch()
        assert [(table.table, table.events, table.stopped) for table in report.tables] == [
            ("public.orders", 0, False),
            ("public.other", 1, False),
        ]
        assert report.tables[0].failed.startswith("CommitConflict: ")
        catalog.mend()
        await ingest.drain()
        assert [number for _, number in ingest.said()] == [0, 1, 2, 3, 4, 5]


async def test_damaged_tables_leave_the_batch_to_others_whatever_is_answered_of_them_case_61(
    fleet, postgres, catalog, s3
):
    """A part that says no of one table alone is well, however it says so."""
    damaged = ("orders", "late")
    async with opened(fleet, postgres, batch_events=5) as ingest:
        for table in damaged:
            await ingest.producer.transaction(schema_event(table=table), insert(0, table=table))
        await ingest.batch()
        for table in damaged:
            await ingest.producer.transaction(*(insert(number, table=table) for number in range(1, 6)))
        await ingest.producer.transaction(schema_event(table="other"), insert(1, table="other"))
        orders = ingest.table()
        orders.io.delete(orders.current_snapshot().manifest_list)
        denied = Answer(403, b"<Error><Code>AccessDenied</Code></Error>", "application/xml")
        s3.on(denied, method="PUT", path=r"/public_late_changelog/", times=None)
        report = await ingest.batch()
        assert [(table.table, table.events, table.failed.partition(":")[0]) for table in report.tables] == [
            ("public.orders", 0, "StoreUnavailable"),
            ("public.late", 0, "StoreRefused"),
            ("public.other", 1, ""),
        ]
        # Alone they fail the batch, so that it is tried again.
        with pytest.raises((StoreRefused, StoreUnavailable)):
            await ingest.batch()
        assert (await ingest.tables())["other"] == ("active", 0)


async def test_what_is_read_while_a_batch_lands_is_given_up_when_that_fails(fleet, postgres, catalog, monkeypatch):
    """Also what would stop its table, which it says in its turn."""
    monkeypatch.setattr("activities.lake.sending.TRIES", 1)
    async with opened(fleet, postgres, batch_events=2) as ingest:
        await begun(ingest)
        await orders(ingest, 1, 2)
        await ingest.producer.transaction(schema_event([{"name": "id", "type": "text", "id": 1}]), insert(3))
        read = asyncio.Event()
        table_read = Batch.table_read

        def noted(batch, *about) -> None:
            table_read(batch, *about)
            if batch.before:
                read.set()

        monkeypatch.setattr(Batch, "table_read", noted)
        # The first one does not go on before the second is read.
        failpoints.arm("cdc-before-commit", read.wait)
        rule = catalog.on(Answer(409, b"{}"), **COMMIT, times=None)
        with pytest.raises(CommitConflict):
            await ingest.batch()
        assert rule.times_struck == 1
        assert (len(ingest.snapshots()), len(await ingest.files())) == (1, 2)
        assert await ingest.tables() == {"orders": ("active", 4)}
        catalog.mend()
        [table] = [table for report in await ingest.drain() for table in report.tables if table.failed]
        assert table.stopped
        assert [number for _, number in ingest.said()] == [0, 1, 2]
        assert await ingest.tables() == {"orders": ("stopped", 2)}


async def test_what_was_read_ahead_is_read_again_when_the_changelog_is_not_as_expected(fleet, postgres):
    async with opened(fleet, postgres, batch_events=2) as ingest:
        await begun(ingest)
        await orders(ingest, 1, 2)
        await orders(ingest, 3, 4)
        claims = itertools.count(1)

        async def make_anew() -> None:
            """Once the first batch has landed, somebody makes a column anew, so that it is another field."""
            if next(claims) == 1:
                for step in ("delete", "add"):
                    with ingest.table().update_schema(allow_incompatible_changes=True) as change:
                        if step == "delete":
                            change.delete_column("amount")
                        else:
                            change.add_column("amount", DecimalType(10, 2))

        failpoints.arm("cdc-after-commit", make_anew)
        report = await ingest.batch()
        failpoints.disarm()
        assert (report.events, report.tables[0].failed) == (4, "")
        amounts = [str(row["amount"]) for row in ingest.rows()]
        assert (amounts, ingest.said()[-1]) == (["None", "None", "None", "1.00", "1.00"], ("insert", 4))
        assert len(ingest.snapshots()) == 3


async def test_a_cancelled_batch_is_taken_again_from_where_it_was(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await begun(ingest)
        await orders(ingest, 1)
        reached = asyncio.Event()

        async def stay() -> None:
            reached.set()
            await asyncio.Event().wait()

        failpoints.arm("cdc-before-commit", stay)
        running = asyncio.create_task(ingest.batch())
        await reached.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
        failpoints.disarm()
        # The lock is free at once.
        await ingest.batch()
        assert [number for _, number in ingest.said()] == [0, 1]


@pytest.mark.parametrize("step", ["add", "finish"])
async def test_a_cancelled_batch_leaves_its_files_to_the_thread_that_writes_them(fleet, postgres, monkeypatch, step):
    """A worker may die of Parquet writers that are closed while they write."""
    began, cancelled, left, writing = threading.Event(), threading.Event(), threading.Event(), []
    work, leave = getattr(ChangelogFiles, step), ChangelogFiles.__exit__

    def slowly(*about):
        began.set()
        cancelled.wait(60)
        left.wait(0.5)  # whoever does not wait for this thread leaves meanwhile
        found = work(*about)
        began.clear()
        return found

    def looking(files, *about):
        writing.append(began.is_set())
        left.set()
        return leave(files, *about)

    monkeypatch.setattr(ChangelogFiles, step, slowly)
    monkeypatch.setattr(ChangelogFiles, "__exit__", looking)
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1))
        running = asyncio.create_task(ingest.batch())
        await eventually(began.is_set, every=0.01)
        running.cancel()
        cancelled.set()
        await asyncio.gather(running, return_exceptions=True)
    assert (running.cancelled(), set(writing)) == (True, {False})


@pytest.mark.parametrize("ending", [asyncio.CancelledError, PostgresUnavailable])
async def test_a_turn_that_ends_in_a_later_batch_tells_what_those_before_it_brought(
    fleet, postgres, monkeypatch, ending
):
    monkeypatch.setattr(ingesting, "TURN_SECONDS", 60)
    async with opened(fleet, postgres, batch_events=2) as ingest:
        await begun(ingest)
        await orders(ingest, *range(1, 8))
        claims = itertools.count(1)

        async def end() -> None:
            if next(claims) == 3:
                raise ending

        failpoints.arm("cdc-after-claim", end)
        report = await ingest.batch()
        failpoints.disarm()
        [table] = report.tables
        assert (report.events, table.events, table.failed, report.more) == (4, 4, "", True)
        assert table.snapshot_id == str(ingest.table().current_snapshot().snapshot_id)
        # The rest comes with one turn, as more waits than a batch takes.
        report = await ingest.batch()
        assert (report.events, len(report.tables), report.more) == (3, 1, False)
        assert [number for _, number in ingest.said()] == list(range(8))
        assert len(ingest.snapshots()) == 5
