"""Upkeep of changelogs: fewer files in order, nothing merged twice, nothing lost that anybody may need."""

import asyncio

import pytest

from activities import failpoints, sweeping
from activities.core.changelogs import sequence_number
from activities.lake import changelogupkeep
from activities.lake.changelog import SNAPSHOT
from activities.lake.changelogupkeep import MIRROR_TAG
from support.changelogs import lines, opened
from support.gate import failing_at
from support.keeping import announce, keep, keep_all, metadata, objects, sequences, with_pipeline
from support.mirrors import same_by_all_readers


@pytest.fixture
async def orders(fleet, monkeypatch):
    monkeypatch.setattr(sweeping, "SKEW_SECONDS", -2)  # the store counts in whole seconds
    async with opened(fleet) as found:
        changelog = with_pipeline(found)
        await changelog.create()
        yield changelog


async def fill(orders, batches=9, start=1, day="2024-03-20"):
    for number in range(start, start + 2 * batches, 2):
        await orders.append(number, number + 1, day=day)
    await announce(orders)


def table(orders):
    return orders.context.lake.load(orders.identifier)


def files(orders):
    return table(orders).inspect.files().to_pylist()


async def test_small_files_of_a_day_become_one_in_the_order_of_sequence_numbers_case_48(fleet, orders):
    await fill(orders, 9)
    await fill(orders, 2, start=100, day="2024-03-21")
    before = same_by_all_readers(fleet, [orders.identifier])
    dry = await keep(orders, "compact", dry_run=True)
    page = await keep(orders, "compact")
    assert (dry.compacted, page.compacted, page.more, page.snapshot) == (9, 9, False, True)
    assert sorted(one["record_count"] for one in files(orders)) == [2, 2, 18]
    assert same_by_all_readers(fleet, [orders.identifier]) == before
    [large] = [one for one in files(orders) if one["record_count"] == 18]
    rows = [row for row in sequences(fleet, orders.identifier) if row <= sequence_number(50, 0)]
    assert rows == [sequence_number(number, 0) for number in range(1, 19)]
    assert "/compacted/" in large["file_path"]
    head = table(orders).current_snapshot()
    said = head.summary.additional_properties
    assert (head.summary.operation.value, said["total-records"], said["total-data-files"]) == ("replace", "22", "3")
    # The pipeline goes on where it was, and finds nothing wrong.
    state = orders.state()
    assert (state.rolled_back, state.position, state.holds_rows) == (False, 103, True)
    await orders.append(200, 201)
    assert (await keep(orders, "compact")).compacted == 0


async def test_what_nothing_names_goes_after_the_grace_period_and_not_before(fleet, orders):
    await fill(orders)
    begun = table(orders).scan()
    before = await objects(orders)
    old_metadata = await metadata(orders)
    waiting = with_pipeline(orders, grace_seconds=3600)
    await announce(waiting)
    first = await keep_all(waiting)
    assert first["compact"].compacted == 9
    await announce(waiting)
    await orders.append(100, 101)
    await announce(waiting)
    second = await keep_all(waiting)
    assert (first["expire"].expired, second["expire"].expired, second["note"].noted > 9) == (8, 2, True)
    assert (await keep(waiting, "delete")).deleted == 0
    assert begun.to_arrow().num_rows == 18  # a reader that began before all that
    assert before <= await objects(orders)

    named = {one["file_path"].partition(sweeping.FOLDER)[0] for one in files(orders)}
    dry = await keep(orders, "delete", dry_run=True)
    done = await keep(orders, "delete")
    assert dry.deleted == done.deleted == second["note"].noted + first["note"].noted
    left = await objects(orders)
    assert len({key for key in left if key.endswith(".parquet")}) == len(named) == 2
    assert not {key for key in left if key.startswith(sweeping.FOLDER)}
    gone = old_metadata - await metadata(orders)
    assert {name.rpartition(".")[2] for name in gone} >= {"avro"}
    assert len(same_by_all_readers(fleet, [orders.identifier])[0]) == 20
    assert (await keep(orders, "delete")).deleted == 0


async def test_metadata_files_beyond_those_that_the_table_keeps_go(orders):
    with table(orders).transaction() as change:
        change.set_properties({"write.metadata.previous-versions-max": "3"})
    await fill(orders, 8)
    there = {name for name in await metadata(orders) if name.endswith(".metadata.json")}
    await keep(orders, "note")
    await keep(orders, "delete")
    kept = {name for name in await metadata(orders) if name.endswith(".metadata.json")}
    named = {entry.metadata_file.rpartition("/")[2] for entry in table(orders).metadata.metadata_log[-3:]}
    named.add(table(orders).metadata_location.rpartition("/")[2])
    assert kept == there & named
    assert len(kept) < len(there)


async def test_what_a_batch_has_under_way_and_what_was_put_aside_is_never_deleted(fleet, orders):
    """A batch between upload and commit; and a changelog that was renamed, whose files lie where the new one's do."""
    await fill(orders, 2)
    sweeping.SKEW_SECONDS = 0
    await asyncio.sleep(1)  # the store's clock shows whole seconds: what comes now is newer than the last snapshot
    state = orders.state()
    stored = await orders.write(state, [lines([50, 51])], 51)
    await keep(orders, "note")
    await keep(orders, "delete")
    assert orders.commit(state, 51, files=stored).landed
    assert table(orders).scan().to_arrow().num_rows == 6

    sweeping.SKEW_SECONDS = -2
    aside = f"{orders.identifier}_aside"
    catalog = orders.context.lake.catalog
    catalog.rename_table(orders.identifier, aside)
    await orders.create()
    await orders.append(100, 101)
    await keep(orders, "note")
    assert (await keep(orders, "delete")).deleted == 0
    assert fleet.load(aside).scan().to_arrow().num_rows == 6


async def test_a_file_that_no_commit_can_bring_any_more_goes(orders):
    """A worker died between upload and commit, and the batch was carried by another one, under another key."""
    await orders.append(1, 2)
    state = orders.state()
    [stray] = await orders.write(state, [lines([3, 4])], 4)
    await orders.append(3, 4, 5)
    await keep(orders, "note")
    assert (await keep(orders, "delete")).deleted >= 1
    assert stray.path.rpartition("/")[2] not in {key.rpartition("/")[2] for key in await objects(orders)}
    assert len(files(orders)) == 2


async def test_a_mirror_that_has_not_passed_a_rewrite_keeps_every_snapshot_since_its_tag_case_47(orders):
    await fill(orders, 3)
    tag = table(orders).current_snapshot().snapshot_id
    table(orders).manage_snapshots().create_tag(tag, f"{MIRROR_TAG}x--y").commit()
    await fill(orders, 6, start=20)
    assert (await keep(orders, "compact")).compacted == 9
    await fill(orders, 3, start=60)
    newer = 6 + 1 + 3
    await announce(orders)
    assert (await keep(orders, "expire")).expired == 2
    assert len(table(orders).snapshots()) == newer + 1
    # Once it has passed it, they go; where nothing was rewritten since the tag, its files tell what is new.
    head = table(orders).current_snapshot().snapshot_id
    table(orders).manage_snapshots().create_tag(head, f"{MIRROR_TAG}x--y").commit()
    assert (await keep(orders, "expire")).expired == newer


async def test_a_changelog_is_not_compacted_while_its_mirror_is_far_behind(orders, monkeypatch):
    await fill(orders, 3)
    tag = table(orders).snapshots()[0].snapshot_id
    table(orders).manage_snapshots().create_tag(tag, f"{MIRROR_TAG}x--y").commit()
    await fill(orders, 9, start=20)
    monkeypatch.setattr(changelogupkeep, "MOST_BEHIND_MS", 1)
    page = await keep(orders, "compact")
    assert (page.compacted, page.problem.partition(":")[0]) == (0, "not compacted")


async def test_the_pipelines_last_snapshot_stays_so_that_a_rollback_is_seen_and_none_is_imagined(orders):
    """Upkeep makes snapshots of its own while nothing comes from the source."""
    await fill(orders, 9)
    last = int(table(orders).properties[SNAPSHOT])
    table(orders).manage_snapshots().create_tag(last, f"{MIRROR_TAG}x--y").commit()
    await keep(orders, "compact")
    table(orders).append(table(orders).scan(limit=0).to_arrow())  # somebody else, twice
    table(orders).append(table(orders).scan(limit=0).to_arrow())
    await announce(orders)
    await keep(orders, "expire")
    assert table(orders).snapshot_by_id(last) is not None
    assert orders.state().rolled_back is False


async def test_a_death_between_two_steps_leaves_a_readable_changelog_and_the_next_run_finishes(fleet, orders):
    rows = 0
    for turn, point in enumerate(sorted(failpoints.CHANGELOG_UPKEEP_NAMES)):
        await fill(orders, 9, start=1 + 100 * turn)
        rows += 18
        async with failing_at(point, lambda: asyncio.CancelledError("the worker died"), times=1):
            with pytest.raises(asyncio.CancelledError):
                await keep_all(orders)
        assert table(orders).scan().to_arrow().num_rows == rows
    failpoints.disarm()
    await announce(orders)
    await keep_all(orders)
    await orders.append(1000, 1001)
    await announce(orders)
    await keep_all(orders)
    await keep(orders, "delete")
    assert len({key for key in await objects(orders) if key.endswith(".parquet")}) == len(files(orders)) < 9
    assert len(same_by_all_readers(fleet, [orders.identifier])[0]) == rows + 2
