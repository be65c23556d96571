"""Tidying: announced, expired, deleted after a grace period, and never what somebody needs."""

import asyncio
from dataclasses import replace

import pyarrow as pa
import pytest

from activities import failpoints, sweeping, upkeep_metrics
from activities.core.faults import BusUnavailable
from activities.core.mirrors import INDEX, CompactionRules, ExpiryRules, IndexPointer
from activities.lake import changelogtag
from activities.lake.changescan import tag_name
from activities.lake.mirrornames import metadata_place
from support.lakereaders import plain
from support.measured import measured
from support.mirrorcontext import mirror_context
from support.mirrors import gone, opened, put, update

AT_ONCE = ExpiryRules(keep_snapshots=1, snapshot_age_seconds=0, grace_seconds=0)
LATER = replace(AT_ONCE, grace_seconds=3600)


@pytest.fixture
async def orders(fleet, monkeypatch):
    monkeypatch.setattr(sweeping, "SKEW_SECONDS", -2)  # the store counts in whole seconds
    async with opened(fleet, compaction=CompactionRules(small_files=3), expiry=AT_ONCE) as mirror:
        yield mirror


async def metadata(orders, ending=".avro"):
    bucket, prefix = metadata_place(orders.table())
    store = orders.context.store.bucket(bucket)
    return {one.key async for page in store.objects(prefix) for one in page if one.key.endswith(ending)}


async def fill(orders, merges=3):
    for number in range(merges):
        await orders.write(*(put(key, name=f"n{key}") for key in range(number * 5, number * 5 + 5)), gone(number))
        await orders.merge()


async def test_every_snapshot_is_announced_once_with_what_it_merged(fleet, orders):
    await fill(orders, 2)
    assert (await orders.tidy()).announced == 2
    await orders.compact(thorough=True)
    assert (await orders.tidy()).announced == 1
    assert (await orders.tidy()).announced == 0
    first, second, third = await fleet.events(orders.config.mirror.rpartition(".")[2])
    assert [one["operation"] for one in (first, second, third)] == ["append", "overwrite", "replace"]
    last = orders.watermark()
    assert second["mirror"] == {
        "changelog": orders.config.changelog,
        "changelogSnapshotId": str(last.snapshot_id),
        "lastSequence": last.newest,
        "upserted": "5",
        "deleted": "1",
    }
    assert (second["sourceTable"], "mirror" in third, third["filesRemoved"]) == (orders.config.changelog, False, "2")
    assert third["partitions"][0]["objectKey"].startswith("mirrors/")


async def test_what_no_snapshot_names_goes_and_the_rest_is_read_as_before(orders):
    await fill(orders, 4)
    await orders.compact()
    await orders.write(update(7, name="after"))
    await orders.merge()
    before, manifests = await orders.objects(), await metadata(orders)
    report = await orders.tidy()
    assert (report.expired, report.deleted, report.problem) == (5, 0, "")
    [listed] = await orders.objects(sweeping.FOLDER)
    assert await orders.objects() == before | {listed}
    done = await orders.tidy()
    left, kept = await orders.objects(), await metadata(orders)
    assert done.deleted == len(before - left) + len(manifests - kept)
    assert listed not in left
    assert (len(orders.table().snapshots()), len({key for key in left if "/data/" in key})) == (1, 2)
    assert len(kept) < len(manifests)
    orders.check()
    orders.by_all_readers()
    # The index still has all that it needs, also on a worker that has cached nothing.
    orders.context = replace(orders.context, cache_directory=orders.fleet.directory / "another")
    await orders.write(gone(9), put(3, 1, name="late"))
    assert (await orders.merge()).index_rebuilt == ""
    orders.check()


async def test_a_dry_run_says_what_the_next_turn_does_counts_nothing_and_changes_nothing(orders):
    await fill(orders, 4)
    await orders.compact()
    await orders.tidy()
    await orders.write(update(7, name="after"))
    await orders.merge()

    async def there():
        table = orders.table()
        return await orders.objects(), await metadata(orders, ""), table.metadata_location, orders.changelog().metadata

    before = await there()
    with measured(upkeep_metrics) as counted:
        dry = await orders.tidy(dry_run=True)
        assert (await there(), counted()) == (before, {})
        done = await orders.tidy()
        said = counted()
    assert (dry.announced, done.announced, dry.problem) == (0, 1, "")
    assert (dry.expired, dry.deleted, dry.bytes) == (done.expired, done.deleted, done.bytes)
    sums = {"snapshots_expired": done.expired, "files_deleted": done.deleted, "bytes_freed": done.bytes}
    assert 0 not in sums.values()
    assert said == {f"icefleet.upkeep.{name}": [({"kind": "mirror"}, count)] for name, count in sums.items()}


async def test_metadata_files_beyond_those_that_the_table_keeps_go(orders):
    await fill(orders, 2)
    with orders.table().transaction() as changing:
        changing.set_properties({"write.metadata.previous-versions-max": "3"})
    await fill(orders, 3)
    before = await metadata(orders, ".metadata.json")
    await orders.tidy()
    await orders.tidy()
    table = orders.table()
    named = [table.metadata_location, *(one.metadata_file for one in table.metadata.metadata_log[-3:])]
    kept = await metadata(orders, ".metadata.json")
    assert kept == {path.removeprefix("s3://").partition("/")[2] for path in named}
    assert len(kept) == 4 < len(before)
    orders.check()


async def test_a_reader_in_flight_never_loses_a_file(orders):
    """It began with a snapshot that has expired since; its files stay for the grace period, whatever else comes."""
    orders.configure(expiry=LATER)
    await fill(orders, 3)
    begun = orders.table().scan()
    rows = sorted(plain(begun.to_arrow()), key=repr)
    await orders.compact()
    for _ in range(3):
        assert (await orders.tidy()).deleted == 0
        await orders.write(update(7, name="again"))
        await orders.merge()
    assert len(orders.table().snapshots()) < 3
    assert sorted(plain(begun.to_arrow()), key=repr) == rows


async def test_what_is_stored_and_not_committed_yet_stays(orders):
    """A merge between upload and commit, while everything else is tidied around it."""
    await fill(orders, 3)
    await orders.write(update(7, name="slow"))
    swept = []

    async def tidy_meanwhile():
        failpoints.disarm()
        swept.extend([await orders.tidy(), await orders.tidy()])

    sweeping.SKEW_SECONDS = 0
    await asyncio.sleep(1)  # the store's clock shows whole seconds: what comes now is newer than the head
    failpoints.arm("merge-before-commit", tidy_meanwhile)
    await orders.merge()
    assert (swept[0].expired, swept[1].deleted > 0) == (2, True)
    orders.check()
    orders.by_all_readers()


async def test_what_an_attempt_that_died_left_goes_once_the_head_has_moved(orders):
    await fill(orders, 2)
    stray = f"{orders.context.prefix(orders.config)}data/stray.parquet"
    await orders.context.store.create(stray, b"x" * 10, "nobody")
    await fill(orders, 1)
    await orders.tidy()
    await orders.tidy()
    assert stray not in await orders.objects()
    orders.check()


async def test_a_list_of_what_is_named_again_deletes_nothing_of_it(orders):
    """Between the look and the deletion somebody tagged what was there; or a list is plainly wrong."""
    await fill(orders, 3)
    await orders.tidy()
    named = [path for path in await orders.objects() if "/data/" in path]
    body = ",".join(f'["{orders.context.store.name}/{path}",1]' for path in named)
    prefix = orders.context.prefix(orders.config)
    await orders.context.store.create(f"{prefix}{sweeping.FOLDER}wrong.json", f"[{body}]".encode(), "nobody")
    await orders.tidy()
    assert set(named) <= await orders.objects()
    orders.check()


async def test_what_a_tag_or_a_branch_of_somebody_names_stays_until_it_is_taken_away(orders):
    """Of a branch also what it came from."""
    await fill(orders, 5)
    ids = [one.snapshot_id for one in orders.table().snapshots()]
    orders.table().manage_snapshots().create_branch(ids[1], "audit").create_tag(ids[2], "bill").commit()

    def rows():
        found = (orders.table().scan(snapshot_id=one).to_arrow().to_pylist() for one in ids[:3])
        return [sorted(map(repr, lines)) for lines in found]

    before = rows()
    assert (await orders.tidy()).expired == 1
    assert (await orders.tidy()).deleted > 0
    assert [one.snapshot_id for one in orders.table().snapshots()] == [*ids[:3], ids[4]]
    assert rows() == before
    orders.table().manage_snapshots().remove_branch("audit").remove_tag("bill").commit()
    assert (await orders.tidy()).expired == 3
    assert (await orders.tidy()).deleted > 0
    orders.check()


async def test_what_others_commit_while_the_changelog_is_quiet_stays_until_the_next_merge_has_followed_it(orders):
    """Without it a merge could not tell that the mirror was not rolled back."""
    await fill(orders, 2)
    theirs = orders.table().scan(limit=1).to_arrow().to_pylist()[0]
    for key in range(77, 82):
        shape = orders.table().schema().as_arrow()
        orders.table().append(pa.Table.from_pylist([theirs | {"id": key, "name": "theirs"}], shape))
    expired = [(await orders.tidy()).expired for _ in range(2)]
    assert (expired, len(orders.table().snapshots())) == ([1, 0], 6)
    await orders.write(update(77, name="ours"))
    report = await orders.merge()
    assert (report.commits, report.upserted) == (1, 1)
    orders.check_index()
    assert (77, "ours") in orders.read("id", "name")
    assert (81, "theirs") in orders.read("id", "name")
    assert (await orders.tidy()).expired == 6
    assert len(orders.table().snapshots()) == 1


async def test_a_mirror_that_was_put_aside_by_renaming_keeps_its_files_beside_its_successor(fleet, orders):
    await fill(orders, 2)
    aside = f"{orders.config.mirror}_aside"
    orders.context.lake.catalog.rename_table(orders.config.mirror, aside)
    held = plain(fleet.load(aside).scan().to_arrow())
    await fill(orders, 3)
    for _ in range(3):
        assert not (await orders.tidy()).problem
    assert plain(fleet.load(aside).scan().to_arrow()) == held
    orders.by_all_readers()


async def test_a_mirror_of_a_namespace_that_begins_with_anothers_name_keeps_its_files(fleet, orders):
    inner = f"{orders.config.mirror}.archive"
    config = replace(orders.config, mirror=inner)
    cache = fleet.directory / "cache"
    async with mirror_context(fleet.settings(), fleet.name, fleet.temporal, cache, config) as context:
        archive = replace(orders, context=context, config=config)
        await fill(orders, 2)
        await archive.merge()
        before, held = await archive.objects(), archive.rows()
        assert before
        await fill(orders, 3)
        for _ in range(3):
            await orders.tidy()
        assert await archive.objects() == before
        assert archive.rows() == held


async def test_an_index_that_cannot_be_read_keeps_everything_and_says_so(orders):
    await fill(orders, 3)
    await orders.tidy()
    before = await orders.objects("data/")
    pointer = IndexPointer.load(orders.snapshots()[-1][INDEX])
    await orders.context.store.delete(orders.context.store.key(pointer.path))
    orders.context = replace(orders.context, cache_directory=orders.fleet.directory / "another")
    report = await orders.tidy()
    assert (report.deleted, "Unknown: the index in" in report.problem) == (0, True)
    assert await orders.objects("data/") == before


async def test_the_changelogs_tag_follows_the_watermark_and_holds_it_against_expiry(orders, monkeypatch):
    await fill(orders, 1)
    await orders.tidy()

    def tagged():
        return orders.changelog().metadata.refs[tag_name(orders.config)].snapshot_id

    first = orders.changelog().current_snapshot().snapshot_id
    assert tagged() == first
    await fill(orders, 1)
    await orders.tidy()
    assert tagged() == first  # a move is a commit to the changelog
    monkeypatch.setattr(changelogtag, "ADVANCED_AFTER_MS", 0)
    await orders.tidy()
    assert tagged() == orders.watermark().snapshot_id != first


async def test_nats_being_away_keeps_nothing_else_from_being_done(fleet, orders):
    await fill(orders, 3)
    await orders.compact()
    await orders.tidy()
    before = await orders.objects("data/")
    fleet.point(nats=1)
    settings = fleet.settings()
    async with mirror_context(settings, fleet.name, fleet.temporal, fleet.directory / "away", orders.config) as away:
        orders.context = replace(orders.context, bus=away.bus)
        with pytest.raises(BusUnavailable):
            await orders.tidy()
    assert len(await orders.objects("data/")) == 1 < len(before)
    assert tag_name(orders.config) in orders.changelog().metadata.refs
