"""Readers that never stop, while partitions are replaced and public keys refreshed: each read is one version, whole."""

import asyncio
import io
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Self

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from activities import publishing
from support.fleet import eventually
from support.lakereaders import open_pyiceberg
from support.publicreaders import anonymous_duckdb, got, url_of
from support.upkeep import start_upkeep

ROWS = 5_000
PATIENCE = 3
"""Seconds that a snapshot stays after another one took its place: how long a reader may take for one read."""
BREATH = 0.02
"""Seconds between two reads."""
DAYS = ("2024/3/19", "2024/3/20")


async def test_readers_of_table_and_public_urls_see_one_whole_version_whenever_they_look(fleet, monkeypatch):
    monkeypatch.setattr(publishing, "KEEP_SECONDS", PATIENCE)
    fleet.set_export(keep_snapshots=1, snapshot_age_seconds=PATIENCE)
    await fleet.make_days(days=len(DAYS), rows=1)
    await fleet.run_sql(f"TRUNCATE TABLE {fleet.database}.events")
    await make_version(fleet, 1)
    async with fleet.worker():
        await fleet.request()
        await fleet.loop_ended()  # and has published
        with (
            Reader(whole_table(fleet)) as table,
            Reader(public_table(fleet)) as by_url,
            Reader(public_object(fleet)) as public,
            Reader(ranges(fleet)) as parts,
        ):
            for version in (1, 2, 3):
                if version > 1:
                    await make_version(fleet, version)
                    report = await fleet.request()
                    assert (report.stale, len(report.snapshots)) == (len(DAYS), 1)
                    await eventually(lambda: refreshed(fleet), every=0.5)
                for reader in (table, by_url, public, parts):
                    await eventually(lambda: reader.torn or version in reader.seen)  # noqa: B023 - it is awaited within the turn
        await fleet.loop_ended()
    for reader in (table, by_url, public, parts):
        assert reader.torn == []
        assert sorted(reader.seen) == [1, 2, 3]


async def make_version(fleet, version):
    """Every row of every day anew: all say the version, and there are so many that the count tells it too."""
    days = ", ".join(f"'2024-03-{day[-2:]}'" for day in DAYS)
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.events SELECT toDateTime('2024-05-0{version} 00:00:00', 'UTC'), "
        f"toDateTime(arrayJoin([{days}]), 'UTC') + number, number, 'version {version}', '{fleet.network}' "
        f"FROM numbers({ROWS * version})"
    )


async def refreshed(fleet):
    """Upkeep, as a schedule would run it, until it has refreshed every public key."""
    report = await asyncio.wait_for((await start_upkeep(fleet)).result(), 30)
    assert report.problems == []
    return report.fresh + report.refreshed == len(DAYS) and report.waiting == 0


class Reader:
    """A thread that reads until it is told to stop, with a breath between, which leaves the machine to the others."""

    def __init__(self, read: Callable[[], list[pa.Table]]) -> None:
        self.seen: dict[int, int] = {}
        """Version → how often it was read."""
        self.torn: list[str] = []
        self._read = read
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(BREATH):
            try:
                days = self._read()
                found = {version_of(day) for day in days}
                self.torn += [f"versions {found}"] if len(found) > 1 or None in found else []
                for version in found - {None}:
                    self.seen[version] = self.seen.get(version, 0) + 1
            except TooSlowError:
                continue
            except Exception as broken:  # noqa: BLE001 - whatever goes wrong is what the test is about
                self.torn.append(repr(broken))


class TooSlowError(Exception):
    """A reader took longer than it was promised."""


def version_of(day: pa.Table) -> int | None:
    """What all rows of one day say, if they are all there."""
    names = pc.unique(day["name"]).to_pylist()
    version = int(names[0].rpartition(" ")[2]) if len(names) == 1 else None
    return version if version is not None and day.num_rows == ROWS * version else None


def whole_table(fleet) -> Callable[[], list[pa.Table]]:
    """A reader that takes its time between looking at the newest snapshot and opening its files."""
    lake = open_pyiceberg(fleet.settings().environment(fleet.name))
    looked: deque[tuple[float, Any]] = deque()

    def read() -> list[pa.Table]:
        looked.append((time.monotonic(), lake.load_table(f"{fleet.network}.events")))
        time.sleep(0.1)  # a look every so often
        if time.monotonic() - looked[0][0] < PATIENCE * 2 / 3:
            return []
        began, table = looked.popleft()
        promised = int(table.current_snapshot().summary["total-records"])
        rows = in_time(began, lambda: table.scan(selected_fields=("at", "name")).to_arrow())
        if rows.num_rows != promised:
            raise ValueError(f"{rows.num_rows} rows of a snapshot with {promised}")
        return by_day(rows)

    return read


def public_table(fleet) -> Callable[[], list[pa.Table]]:
    """A reader of the table who has nothing but its URL."""
    duck = anonymous_duckdb()
    # Who reads in a loop would rather read a hint that has moved than fail; docs/guides/public.md.
    duck.execute("SET unsafe_disable_etag_checks = true")
    query = f"SELECT \"at\", name FROM iceberg_scan('{url_of(fleet)}')"

    def read() -> list[pa.Table]:
        time.sleep(0.1)  # a look every so often
        return by_day(in_time(time.monotonic(), lambda: duck.execute(query).to_arrow_table()))

    return read


def public_object(fleet) -> Callable[[], list[pa.Table]]:
    url = f"{url_of(fleet)}/{DAYS[-1]}.parquet"

    def read() -> list[pa.Table]:
        return [pq.read_table(io.BytesIO(got(url)), columns=["name"])]

    return read


def ranges(fleet) -> Callable[[], list[pa.Table]]:
    """Range by range, as an engine reads it: it must not put two versions together, and may have to begin again."""
    duck = anonymous_duckdb()
    query = f"SELECT name FROM read_parquet('{url_of(fleet)}/{DAYS[-1]}.parquet')"

    def read() -> list[pa.Table]:
        while True:
            try:
                return [duck.execute(query).to_arrow_table()]
            except duckdb.HTTPException as moved:
                if "ETag" not in str(moved):
                    raise

    return read


def in_time(began: float, read: Callable[[], pa.Table]) -> pa.Table:
    """What is read, unless that took longer than its files were promised to stay."""
    broken: Exception | None = None
    try:
        rows = read()
    except Exception as failed:  # noqa: BLE001 - one that came too late may find its files gone
        broken = failed
    if time.monotonic() - began > PATIENCE:
        raise TooSlowError
    if broken is not None:
        raise broken
    return rows


def by_day(rows: pa.Table) -> list[pa.Table]:
    days = pc.day(rows["at"])
    return [rows.filter(pc.equal(days, int(day[-2:]))) for day in DAYS]
