"""A worker is killed as a power cut would, between any two steps of an ingest or a copy: another one finishes.

All victims share a fleet and a database, and each has a pipeline of its own.
"""

import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from activities import failpoints
from activities.contracts.cdc import CopyReport, IngestReport
from activities.core.changelogs import lsn_number
from support.buffers import delete, insert, schema_event, update
from support.dying import deaths
from support.ingests import Ingest, opened, place

POINTS = sorted(failpoints.INGEST_NAMES)
AHEAD = (
    *("cdc-after-claim:2", "cdc-before-upload", "cdc-before-commit", "cdc-after-commit"),
    *("cdc-before-upload:2", "cdc-before-commit:2", "cdc-after-commit:2"),
)
"""Where to die in a turn of two batches, of which the second one is read while the first one lands."""
ANNOUNCING = ("after-announce", "before-announce")
COPIES = sorted(failpoints.COPY_NAMES)


@dataclass(frozen=True)
class Aftermath:
    """What became of the batch of one victim."""

    signal: int
    report: IngestReport
    rows: list[tuple[str, int]]
    snapshots: int
    left: int
    """Events that the buffer still has."""
    before: set[str]
    """Data files that the victim left."""
    after: set[str]


@dataclass(frozen=True)
class Copied:
    """What became of one victim's copy of two rows, when the source had a third one before the next try."""

    signal: int
    state: str
    """What the buffer said of the table in between."""
    before: set[str]
    """Data files that the victim left."""
    report: CopyReport
    rows: list[tuple[str, int]]
    snapshots: int
    size: int
    """Bytes of the files that the changelog names."""
    known: tuple[str, int]
    """State and position of the table in the end."""


@dataclass(frozen=True)
class Announced:
    """What one victim announced of two snapshots, and what was announced in the end."""

    signal: int
    before: list[str]
    after: list[str]
    expected: list[str]


@pytest.fixture(scope="module")
async def aftermaths(stack, tmp_path_factory) -> dict[str, Aftermath | Copied | Announced]:
    async with place(stack, tmp_path_factory.mktemp("crashes")) as (fleet, own), AsyncExitStack() as held:
        victims = {}
        for number, point in enumerate([*POINTS, *(f"{point} ahead" for point in AHEAD)]):
            more = {"batch_events": 3} if point.endswith(" ahead") else {}
            one = await held.enter_async_context(opened(fleet, own, pipeline=f"p{number}", schema=f"p{number}", **more))
            await one.producer.transaction(schema_event(), insert(1), insert(2))
            await one.producer.transaction(update(1), delete(2))
            victims[point] = one
        await own.run(
            "CREATE TABLE orders (id bigint PRIMARY KEY, name text, amount numeric(10,2))",
            "INSERT INTO orders VALUES (1, 'a', 1), (2, 'b', 2)",
        )
        for number, point in enumerate(COPIES):
            victims[point] = one = await held.enter_async_context(
                opened(fleet, own, pipeline=f"c{number}", schema=f"c{number}", source=own.config())
            )
            await one.buffer.set_copying("public", "orders")
        for number, point in enumerate(ANNOUNCING):
            victims[point] = one = await held.enter_async_context(
                opened(fleet, own, pipeline=f"a{number}", schema=f"a{number}")
            )
            for events in ((schema_event(), insert(1)), (update(1),)):
                await one.producer.transaction(*events)
                await one.batch()
        asked = [
            [str(fleet.directory), fleet.name, one.name, doing(point), point.removesuffix(" ahead")]
            for point, one in victims.items()
        ]
        ended = await deaths(fleet, "dyingpipelines.py", asked)
        await own.run("INSERT INTO orders VALUES (3, 'committed after the crash', 3)")
        return {
            point: await {"copy": copied, "announce": announced, "batch": aftermath}[doing(point)](how, one)
            for (point, one), how in zip(victims.items(), ended, strict=True)
        }


def doing(point: str) -> str:
    """What a victim of that point does."""
    return "copy" if point in COPIES else "announce" if point in ANNOUNCING else "batch"


async def aftermath(ended: int, one: Ingest) -> Aftermath:
    before = await one.files()
    report = await one.batch_when_free()
    [(left,)] = await one.own.rows(f"SELECT count(*) FROM {one.buffer.schema}.events")
    return Aftermath(ended, report, one.said(), len(one.snapshots()), left, before, await one.files())


async def announced(ended: int, one: Ingest) -> Announced:
    async def heard() -> list[str]:
        return [event["snapshotId"] for event in await one.fleet.events("public_orders_changelog", one.namespace)]

    before = await heard()
    await one.announce()
    return Announced(ended, before, await heard(), [str(one.snapshot_id) for one in one.table().snapshots()])


async def copied(ended: int, one: Ingest) -> Copied:
    [(state, _)] = (await one.tables()).values()
    before, report = await one.files(), await one.copy()
    [known] = await one.own.rows(f"SELECT state, copied_lsn::text FROM {one.buffer.schema}.tables")
    size = sum(file["file_size_in_bytes"] for file in one.table().inspect.files().to_pylist())
    at = (known[0], lsn_number(known[1]))
    return Copied(ended, state, before, report, one.said(), len(one.snapshots()), size, at)


@pytest.mark.parametrize("point", POINTS)
def test_whoever_comes_after_a_crash_finishes_the_batch_and_brings_nothing_twice_cases_21_22_23_26(aftermaths, point):
    one = aftermaths[point]
    assert one.signal == signal.SIGKILL
    assert one.rows == [("insert", 1), ("insert", 2), ("update", 1), ("delete", 2)]
    assert (one.snapshots, one.left) == (1, 0)
    # What is in doubt is never deleted.
    assert one.before <= one.after
    had_landed = point in {"cdc-after-commit", "cdc-after-mark"}
    if point == "cdc-after-mark":
        assert one.report.tables == []
    else:
        [table] = one.report.tables
        assert (table.events, table.already_there) == ((0, 4) if had_landed else (4, 0))
    has_file = point in {"cdc-after-upload", "cdc-before-commit", "cdc-after-commit", "cdc-after-mark"}
    assert len(one.before) == has_file
    assert len(one.after) == 1 + (has_file and not had_landed)


@pytest.mark.parametrize("point", AHEAD)
def test_a_crash_while_one_batch_lands_and_the_next_is_read_loses_nothing_and_brings_nothing_twice(aftermaths, point):
    one = aftermaths[f"{point} ahead"]
    assert one.signal == signal.SIGKILL
    assert one.rows == [("insert", 1), ("insert", 2), ("update", 1), ("delete", 2)]
    assert (one.snapshots, one.left) == (2, 0)
    assert one.before <= one.after


@pytest.mark.parametrize("point", COPIES)
def test_a_copy_whose_worker_was_killed_lands_once_as_it_is_at_one_position_cases_12_23_26(aftermaths, point):
    one = aftermaths[point]
    assert (one.signal, one.state) == (signal.SIGKILL, "copying")
    # One that had landed is recognised; what was committed later comes by the stream.
    had_landed = point == "cdc-after-copy-commit"
    rows = [("insert", 1), ("insert", 2)] if had_landed else [("insert", 1), ("insert", 2), ("insert", 3)]
    assert (one.rows, one.report.rows, one.snapshots) == (rows, len(rows), 1)
    assert one.report.bytes == one.size
    assert one.known == ("active", lsn_number(one.report.copied_lsn))
    assert len(one.before) == (point != "cdc-during-copy")


@pytest.mark.parametrize("point", ANNOUNCING)
def test_what_a_killed_worker_did_not_announce_is_announced_once_and_in_order_case_23(aftermaths, point):
    one = aftermaths[point]
    assert one.signal == signal.SIGKILL
    assert one.before == one.expected[: point == "after-announce"]
    assert (one.after, len(one.expected)) == (one.expected, 2)
