"""A table is read with nothing but its URL: as it is, whole at every moment, and by whoever comes after a failure."""

import asyncio
import json
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
import requests
from temporalio.exceptions import ApplicationError

from activities import errors, export_metrics, publishing
from activities.core.faults import StoreUnavailable
from activities.publishing import _enter
from support.direct import Hands
from support.evidence import all_objects, public_metadata, retried
from support.faultproxy import Answer, HttpFaults
from support.fleet import eventually
from support.gate import failing_at, gate_at
from support.lakereaders import _ask_clickhouse
from support.leftovers import delete_before, found, keys, next_second
from support.measured import measured
from support.publicreaders import anonymous_duckdb, got, scan, url_of

LAG = "icefleet.publication.lag"
STEPS = ["before-public-manifest", "before-public-list", "before-public-version", "before-public-hint"]


@pytest.fixture
async def hands(fleet):
    """A worker's hands on a table of six days, none of which is exported yet."""
    await fleet.make_days(days=6, rows=5)
    async with fleet.context() as context:
        yield Hands(fleet, context)


def rows(fleet):
    """Every row as the catalog's own client reads it, in order."""
    read = fleet.table().scan(selected_fields=("number", "name", "updated")).to_arrow()
    return sorted((int(row["number"]), row["name"], row["updated"].timestamp()) for row in read.to_pylist())


def public_rows(fleet, duck=None):
    """The same by URL."""
    return scan(duck or anonymous_duckdb(), url_of(fleet), "number::BIGINT, name, epoch(updated)")


def hint(fleet):
    return int(got(f"{url_of(fleet)}/metadata/version-hint.text"))


async def replaced(hands, day, number):
    """Export a day again from a source whose rows have changed, and commit it."""
    await hands.fleet.insert("events", f"toDateTime('{day} 01:00:00', 'UTC')", 5, updated="2024-05-01", offset=number)
    forced = Hands(hands.fleet, hands.context, request_id=f"forced-{number}")
    return await forced.run(from_=day, to=day, force=True)


async def test_by_its_url_a_table_is_what_it_is_after_every_commit_and_only_what_is_new_is_written(fleet, hands):
    duck = anonymous_duckdb()
    plan = await hands.plan(oldest_first=True)
    files = await hands.export_all(plan)
    with pytest.raises(requests.HTTPError, match="404"):
        hint(fleet)
    written = []
    for page in (files[:2], files[2:3], files[3:4], None):
        before = all_objects(fleet)
        await (hands.commit(page) if page else replaced(hands, "2024-03-16", 1_000))
        made = all_objects(fleet)
        assert (await hands.publish()).published
        after = all_objects(fleet)
        assert public_rows(fleet, duck) == rows(fleet)
        changed = {key for key in after if after[key] != made.get(key)}
        written.append(len(changed))
        assert all(after[key] == before[key] for key in before.keys() - changed)
        assert [key for key in before.keys() & changed if not key.endswith("/version-hint.text")] == []
    # A manifest, the list, the metadata and the hint. A replacement makes three manifests: of what came, of what went,
    # and of what was in one with that.
    assert written == [4, 4, 4, 6]
    settled = all_objects(fleet)
    assert (await hands.publish()) == publishing.PublishReport(hint(fleet), published=False)
    assert all_objects(fleet) == settled
    # Another reader, which asks the store without a signature.
    source = f"icebergS3('{url_of(fleet)}/', NOSIGN, SETTINGS iceberg_use_version_hint = 1)"
    query = f"SELECT toInt64(number) AS number FROM {source} ORDER BY number"
    [answer] = await asyncio.to_thread(_ask_clickhouse, [], [query])
    assert [number for (number,) in answer] == [number for number, *_ in rows(fleet)]


async def test_a_publisher_that_died_at_any_step_leaves_what_was_public_and_the_next_one_repairs_it(fleet, hands):
    duck = anonymous_duckdb()
    files = await hands.export_all(await hands.plan(oldest_first=True))
    await hands.commit(files[:1])
    await hands.publish()
    for step, file in zip(STEPS, files[1:], strict=False):
        await hands.commit([file])
        before = public_rows(fleet, duck)
        async with failing_at(step, lambda: StoreUnavailable("a power cut"), times=1) as failed:
            with pytest.raises(ApplicationError, match="a power cut"):
                await hands.publish()
        assert failed == [step]
        assert public_rows(fleet, duck) == before != rows(fleet)
        assert (await hands.publish()).published
        assert public_rows(fleet, duck) == rows(fleet)
    # What died before it moved the hint had a number that nobody knew: the next one takes it.
    assert hint(fleet) == 1_000_000_001 + len(STEPS)
    # Without a hint no number comes again that somebody may know.
    await hands.context.store.delete(next(key for key in public_metadata(fleet) if key.endswith(".text")))
    assert (await hands.publish()).version == hint(fleet) == 1_000_000_002 + len(STEPS)
    # Somebody deletes what is public: it is made again from the table.
    there = public_metadata(fleet)
    for missing in ([key for key in there if key.endswith(".avro")], list(there)):
        for key in missing:
            await hands.context.store.delete(key)
        assert (await hands.publish()).published == (missing == list(there))
        assert public_rows(fleet, duck) == rows(fleet)


@pytest.mark.parametrize("point", STEPS[2:])
async def test_a_publisher_that_was_overtaken_never_puts_an_older_head_in_the_place_of_a_newer_one(fleet, hands, point):
    files = await hands.export_all(await hands.plan(oldest_first=True, from_="2024-03-19"))
    await hands.commit(files[:1])
    async with gate_at(point) as gate:
        slow = [asyncio.create_task(hands.publish()) for _ in range(3)]
        await eventually(lambda: gate.passed == 3)
        gate.let_by()
        await hands.commit(files[1:])
        quick = await hands.publish()
        newest = rows(fleet)
        assert public_rows(fleet) == newest
        public = public_metadata(fleet)
        gate.open()
        reports = await asyncio.gather(*slow)
    assert public_metadata(fleet) == public
    assert quick.published
    assert [report.published for report in reports] == [False] * 3
    assert {report.version for report in reports} == {quick.version} == {hint(fleet)}
    assert public_rows(fleet) == newest


class DrowsyLake:
    """The first who loads a table gets it late, when others may have gone on."""

    def __init__(self, lake):
        self._lake = lake
        self.loaded, self.awake = threading.Event(), threading.Event()

    def load(self, identifier):
        table = self._lake.load(identifier)
        self.loaded.set()
        self.awake.wait(20)
        return table


async def test_a_publisher_that_was_slow_to_load_the_table_does_not_publish_what_has_become_old(fleet, hands):
    files = await hands.export_all(await hands.plan(oldest_first=True, from_="2024-03-19"))
    await hands.commit(files[:1])
    lake = DrowsyLake(hands.context.lake)
    slow = asyncio.create_task(Hands(fleet, replace(hands.context, lake=lake)).publish())
    await eventually(lake.loaded.is_set)
    await hands.commit(files[1:])
    newest = (await hands.publish()).version
    lake.awake.set()
    assert await slow == publishing.PublishReport(newest, published=False)
    assert public_rows(fleet) == rows(fleet)


async def test_a_reader_that_loops_while_commits_land_never_fails_and_never_sees_half(fleet, hands):
    await hands.run(from_="2024-03-19")
    await hands.publish()
    states, seen, failures, done = [rows(fleet)], [], [], threading.Event()

    def read():
        duck = anonymous_duckdb()
        # It asks for the hint's size first, and would rather fail than read another hint than that.
        duck.execute("SET unsafe_disable_etag_checks = true")
        while not done.is_set():
            try:
                seen.append(public_rows(fleet, duck))
            except Exception as failed:  # noqa: BLE001 - whatever it is, it is what must not be
                failures.append(failed)

    reading = asyncio.create_task(asyncio.to_thread(read))
    await eventually(lambda: seen or failures)
    for number in range(4):
        await replaced(hands, f"2024-03-{19 + number % 2}", 1_000 * (number + 1))
        states.append(rows(fleet))
        await hands.publish()
    passed = len(seen)
    await eventually(lambda: len(seen) > passed + 1 or failures)
    done.set()
    await reading
    assert failures == []
    order = [states.index(one) for one in seen]
    assert order == sorted(order)
    assert order[-1] == 4
    assert len(set(order)) > 2


async def test_the_loop_publishes_after_its_commits_and_makes_good_what_a_run_before_it_lost(fleet):
    await fleet.make_days(days=3, rows=5)
    fleet.set_export(partitions_per_commit=1)
    async with fleet.worker():
        assert (await fleet.request(from_="2024-03-19")).exported == 2
        await fleet.loop_ended()
        assert public_rows(fleet) == rows(fleet)
        async with gate_at("before-public-hint") as gate:
            assert (await fleet.request()).exported == 1
            await gate.reached()
            await fleet.loop().terminate("as a test of what is left")
            behind = public_rows(fleet)
        assert len(behind) == 10
        assert (await fleet.request()).status == "nothing_to_do"
        await fleet.loop_ended()
    assert public_rows(fleet) == rows(fleet)
    assert len(rows(fleet)) == 15


async def test_a_store_that_takes_no_metadata_delays_it_and_holds_up_neither_exports_nor_events(fleet):
    await fleet.make_days(days=2, rows=5)
    async with HttpFaults(fleet.stack.ports["s3"]) as store:
        fleet.point(s3=store.port)
        # An answer that the library below does not ask again for by itself.
        later = Answer(409, b"<Error><Code>OperationAborted</Code><Message>later</Message></Error>", "application/xml")
        store.on(later, method="PUT", path="/metadata/v", times=None)
        async with fleet.worker():
            first = await fleet.request(from_="2024-03-19", to="2024-03-19")
            second = await fleet.request()
            said = await eventually(lambda: retried(fleet, "publish_metadata"))
            events = await eventually(lambda: events_of(fleet, 2))
            store.mend()
            assert await fleet.loop_ended() == "COMPLETED"
    assert (first.exported, second.exported) == (1, 1)
    assert [event["snapshotId"] for event in events] == [*first.snapshots, *second.snapshots]
    assert "OperationAborted" in said
    assert public_rows(fleet) == rows(fleet)


async def test_a_store_that_refuses_metadata_is_told_of_and_asked_again_until_somebody_has_mended_it(
    fleet, monkeypatch
):
    monkeypatch.setattr(errors, "AGAIN_AFTER", timedelta(seconds=1))
    await fleet.make_days(days=1, rows=5)
    about = {"network": fleet.network, "table": "events"}
    async with HttpFaults(fleet.stack.ports["s3"]) as store:
        fleet.point(s3=store.port)
        denied = b"<Error><Code>AccessDenied</Code><Message>not below metadata</Message></Error>"
        store.on(Answer(403, denied, "application/xml"), method="PUT", path="/metadata/v", times=None)
        with measured(export_metrics) as told:
            async with fleet.worker():
                report = await fleet.request()
                said = await eventually(lambda: retried(fleet, "publish_metadata"))
                [(whose, waits)] = told()[LAG]
                await eventually(lambda: told()[LAG][0][1] > waits + 0.1)
                events = await eventually(lambda: events_of(fleet, 1))
                store.mend()
                assert await fleet.loop_ended() == "COMPLETED"
                mended = told()[LAG]
    assert (whose, mended) == (about, [(about, 0)])
    assert [event["snapshotId"] for event in events] == report.snapshots
    assert "not below metadata" in said
    assert public_rows(fleet) == rows(fleet)


async def events_of(fleet, count):
    events = await fleet.events()
    return events if len(events) == count else []


async def test_what_no_reader_may_still_be_with_goes_and_what_one_may_be_with_stays(fleet, hands, monkeypatch):
    monkeypatch.setattr(publishing, "SWEEP_EVERY", 1)
    url, duck = url_of(fleet), anonymous_duckdb()
    files = await hands.export_all(await hands.plan(oldest_first=True, from_="2024-03-17"))
    published = []
    for number, file in enumerate(files):
        await hands.commit([file])
        if number == 3:
            await next_second(hands.context)
            monkeypatch.setattr(publishing, "KEEP_SECONDS", 0)
        published.append(((await hands.publish()).version, rows(fleet)))
    there = {key.rpartition("/")[2] for key in public_metadata(fleet)}
    kept = {f"v{version}.metadata.json" for version, _ in published[2:]}
    assert {name for name in there if name.startswith("v1")} == kept
    # Two lists, and a manifest of each of the four commits.
    assert len([name for name in there if name.endswith(".avro")]) == 2 + 4
    for version, state in published[2:]:
        what = "number::BIGINT, name, epoch(updated)"
        assert scan(duck, f"{url}/metadata/v{version}.metadata.json", what) == state
    assert public_rows(fleet, duck) == rows(fleet)


async def test_the_public_copy_is_no_orphan_and_nobody_elses(fleet, hands):
    await hands.run(from_="2024-03-19")
    await hands.publish()
    there = public_metadata(fleet)
    assert len(there) == 4
    assert await found(fleet, metadata=True) == []
    line = await next_second(hands.context)
    impatient = replace(hands.context, orphan_age_seconds=1)
    page = await delete_before(fleet, impatient, line, metadata=True)
    assert (page.deleted, page.foreign, page.young) == (0, 0, 0)
    assert public_metadata(fleet) == there
    assert len(keys(fleet)) == 2


async def test_writers_of_the_catalog_that_meet_lose_no_entry(fleet, hands):
    own = replace(hands.context, key_prefix=f"xatu/{fleet.network}")
    entries = [{"name": f"table{number}"} for number in range(6)]

    async def enter(entry):
        while not await _enter(own, entry):
            pass

    await asyncio.gather(*(enter(entry) for entry in entries))
    url = f"{own.public_url}/{own.key('xatu/catalog.json')}"
    assert json.loads(got(url))["tables"] == entries
    answer = await asyncio.to_thread(requests.head, url, timeout=10)
    assert (answer.headers["Content-Type"], answer.headers["Cache-Control"]) == ("application/json", "no-cache")


async def test_the_catalog_names_a_published_table_and_its_query_works(fleet, hands):
    await hands.run(from_="2024-03-19")
    await hands.publish()
    catalog = json.loads(got(f"{hands.context.public_url}/xatu/catalog.json"))
    [entry] = [one for one in catalog["tables"] if one["network"] == fleet.network]
    assert (entry["name"], entry["url"]) == (f"{fleet.network}.events", url_of(fleet))
    assert entry["partition"] == {"column": "at", "kind": "daily"}
    assert len(anonymous_duckdb().execute(entry["scan"]).fetchall()) == 10


async def test_where_nothing_is_public_nothing_is_published(fleet, hands):
    await hands.run(from_="2024-03-19")
    private = Hands(fleet, replace(hands.context, public_url=""))
    assert await private.publish() == publishing.PublishReport(0, published=False)
    assert public_metadata(fleet) == {}


async def test_anybody_may_get_objects_of_the_public_bucket_and_do_nothing_else_anywhere(fleet, hands):
    await hands.run(from_="2024-03-19")
    bucket = hands.context.public_url
    data, _ = fleet.table().inspect.files()["file_path"].to_pylist()
    private = fleet.table().metadata_location.replace("s3://", f"{bucket.rpartition('/')[0]}/")
    assert got(data.replace("s3://icefleet", bucket))[:4] == b"PAR1"
    key = data.replace("s3://icefleet", bucket)
    tries = [("GET", private), ("GET", bucket), ("GET", f"{bucket}?list-type=2"), ("GET", bucket.rpartition("/")[0])]
    tries += [("PUT", f"{bucket}/new"), ("PUT", key), ("DELETE", key), ("POST", f"{key}?uploads")]
    for method, url in tries:
        answer = await asyncio.to_thread(requests.request, method, url, timeout=10)
        assert answer.status_code == 403, (method, url)
    assert got(key)[:4] == b"PAR1"
