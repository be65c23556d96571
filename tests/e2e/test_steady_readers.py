"""Readers that never stop, while partitions are replaced and public keys refreshed: each read is one version, whole."""

import asyncio
import io
import threading
import time
from collections import deque
from collections.abc import Callable
from importlib import metadata
from typing import Any, Self

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from support.fleet import eventually
from support.lakereaders import open_pyiceberg
from support.leftovers import prefix_of_table
from support.upkeep import read_object, start_upkeep

ROWS = 5_000
PATIENCE = 3
"""Seconds that a snapshot stays after another one took its place: how long a reader may take for one read."""
DAYS = ("2024/3/19", "2024/3/20")


async def test_readers_of_table_and_public_urls_see_one_whole_version_whenever_they_look(fleet):
    fleet.set_export(keep_snapshots=1, snapshot_age_seconds=PATIENCE)
    await fleet.make_days(days=len(DAYS), rows=1)
    await fleet.run_sql(f"TRUNCATE TABLE {fleet.database}.events")
    await make_version(fleet, 1)
    async with fleet.worker():
        await fleet.request()
        with (
            Reader(whole_table(fleet)) as table,
            Reader(public_object(fleet)) as public,
            Reader(ranges(fleet)) as parts,
        ):
            for version in (2, 3):
                await make_version(fleet, version)
                report = await fleet.request()
                assert (report.stale, len(report.snapshots)) == (len(DAYS), 1)
                await eventually(lambda: refreshed(fleet))
                for reader in (table, public, parts):
                    await eventually(lambda: reader.torn or version in reader.seen)  # noqa: B023 - it is awaited within the turn
        await fleet.loop_ended()
    for reader in (table, public, parts):
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
    """A thread that reads until it is told to stop."""

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
        while not self._stop.is_set():
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
        broken: Exception | None = None
        try:
            rows = table.scan(selected_fields=("at", "name")).to_arrow()
            if rows.num_rows != promised:
                broken = ValueError(f"{rows.num_rows} rows of a snapshot with {promised}")
        except Exception as failed:  # noqa: BLE001 - one that came too late may find its files gone
            broken = failed
        if time.monotonic() - began > PATIENCE:
            raise TooSlowError
        if broken is not None:
            raise broken
        days = pc.day(rows["at"])
        return [rows.filter(pc.equal(days, int(day[-2:]))) for day in DAYS]

    return read


def public_object(fleet) -> Callable[[], list[pa.Table]]:
    def read() -> list[pa.Table]:
        return [pq.read_table(io.BytesIO(read_object(fleet, f"{DAYS[-1]}.parquet")), columns=["name"])]

    return read


def ranges(fleet) -> Callable[[], list[pa.Table]]:
    """Range by range, as an engine reads it: it must not put two versions together, and may have to begin again."""
    storage = fleet.settings().environment(fleet.name).storage
    duck = duckdb.connect()
    load_httpfs(duck)
    duck.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{storage.access_key.get_secret_value()}', "
        f"SECRET '{storage.secret_key.get_secret_value()}', ENDPOINT '{storage.endpoint.partition('//')[2]}', "
        "URL_STYLE 'path', USE_SSL false)"
    )
    path = f"s3://{storage.bucket}/{prefix_of_table(fleet)}{DAYS[-1]}.parquet"

    def read() -> list[pa.Table]:
        while True:
            try:
                return [duck.execute(f"SELECT name FROM read_parquet('{path}')").to_arrow_table()]
            except duckdb.HTTPException as moved:
                if "ETag" not in str(moved):
                    raise

    return read


def load_httpfs(duck: Any) -> None:
    [found] = [file for file in metadata.files("duckdb-extension-httpfs") or [] if file.suffix == ".duckdb_extension"]
    duck.execute(f"INSTALL '{found.locate()}'; LOAD httpfs")
