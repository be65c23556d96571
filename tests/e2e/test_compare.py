"""Two published trees or tables, partition by partition."""

import asyncio
import functools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from activities.core.faults import BadRequest, StoreRefused
from support.evidence import _bucket, prefix_of
from support.fleet import Fleet
from worker.compare import CompareReport, Comparison
from worker.compare_tables import Compared, compare_all, understand


class Ranges(BaseHTTPRequestHandler):
    """Serves the files of a directory, whole or by ranges; what is not there is 404."""

    protocol_version = "HTTP/1.1"
    ranges = True

    def __init__(self, *args: Any, root: Path, asked: list[str]) -> None:
        self._root = root
        self._asked = asked
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self._root / self.path.lstrip("/")
        self._asked.append(f"{self.command} {self.path}")
        data = path.read_bytes() if path.is_file() else b""
        wanted = self.headers.get("Range") if self.ranges else None
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            data = data[int(first) : int(last) + 1]
        self.send_response(404 if not path.is_file() else 206 if wanted else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@contextmanager
def served(root: Path, *, ranges: bool = True) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (Ranges,), {"ranges": ranges})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, root=root, asked=asked))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def download(fleet: Fleet, root: Path) -> Path:
    """Everything that the fleet has published, as files; answers the directory of 2024/3."""
    with _bucket(fleet) as client:
        listed = client.list_objects_v2(Bucket="icefleet", Prefix=prefix_of(fleet))["Contents"]
        for entry in listed:
            (root / entry["Key"]).parent.mkdir(parents=True, exist_ok=True)
            client.download_file("icefleet", entry["Key"], str(root / entry["Key"]))
    return root / prefix_of(fleet) / "databases" / fleet.database / "events" / "2024" / "3"


async def compared_all(fleet: Fleet, left: str, right: str, **options: Any) -> Compared:
    """What one command finds."""
    return await in_a_thread(fleet, understand(fleet.settings(), left, right, fleet.name, **options))


async def in_a_thread(fleet: Fleet, asked: list[Comparison]) -> Compared:
    """With a loop of its own, as the command has it."""
    return await asyncio.to_thread(lambda: asyncio.run(compare_all(fleet.settings(), asked)))


async def compared(fleet: Fleet, left: str, right: str, **options: Any) -> CompareReport:
    """What is found of the one table that there is."""
    [report] = (await compared_all(fleet, left, right, **options)).tables.values()
    return report


def kinds(report: CompareReport) -> list[tuple[str, str]]:
    return [(difference.partition, difference.kind) for difference in report.differences]


def rewrite(path: Path, change: Any, **options: Any) -> None:
    pq.write_table(change(pq.read_table(path, partitioning=None)), path, **options)


def column(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


async def test_every_difference_between_two_trees_is_named_and_equal_values_are_equal(fleet, tmp_path):
    await fleet.make_days(days=9, rows=50, network={"start_date": "2024-03-10", "end_date": "2024-03-20"})
    async with fleet.worker():
        await fleet.request()
    tree, table = f"{fleet.name}:", f"{fleet.name}:{fleet.network}.events"
    own = await compared(fleet, table, tree, deep=True)
    assert (own.status, own.partitions, own.same, own.rows_left, own.rows_right) == ("same", 9, 9, 450, 450)

    files = download(fleet, tmp_path / "site")
    with served(tmp_path / "site") as (url, asked):
        web = await compared(fleet, url, tree, deep=True)
        assert (web.status, web.same) == ("same", 9)
        assert sum(line.startswith("HEAD") for line in asked) == 11, "each partition of config is asked for once"

        (files / "12.parquet").unlink()
        rewrite(files / "13.parquet", lambda table: table.slice(1))
        shuffled = pa.array([*range(25, 50), *range(25)])
        rewrite(files / "14.parquet", lambda table: table.take(shuffled), row_group_size=7, compression="snappy")
        rewrite(files / "15.parquet", lambda table: column(table, "name", pc.utf8_upper(table["name"])))
        rewrite(files / "16.parquet", lambda table: table.append_column("extra", pa.array(range(50))))
        rewrite(files / "17.parquet", lambda table: column(table, "at", table["at"].cast(pa.timestamp("ms", "UTC"))))
        (files / "18.parquet").write_bytes((files / "18.parquet").read_bytes()[:-3])
        (files / "11.parquet").write_bytes((files / "20.parquet").read_bytes())
        deep = await compared(fleet, url, tree, deep=True)
        assert kinds(deep) == [
            ("2024-03-11", "missing_right"),
            ("2024-03-12", "missing_left"),
            ("2024-03-13", "rows"),
            ("2024-03-15", "checksum"),
            ("2024-03-16", "schema"),
            ("2024-03-17", "schema"),
            ("2024-03-18", "unreadable"),
        ]
        assert (deep.status, deep.partitions, deep.same) == ("different", 10, 3)
        said = {difference.partition: difference.message for difference in deep.differences}
        assert said["2024-03-13"] == "49 rows on the left, 50 on the right"
        assert said["2024-03-16"] == "column extra is only on the left"
        assert said["2024-03-17"].startswith("column at is timestamp[ms, tz=UTC] on the left and timestamp[us")
        assert "18.parquet" in said["2024-03-18"]
        assert url in said["2024-03-18"]

        asked.clear()
        some = await compared(fleet, url, tree, first="2024-03-15", last="2024-03-15")
        assert (some.status, some.partitions, some.same) == ("same", 1, 1), "values are read only when asked to"
        assert all(line.endswith("/15.parquet") for line in asked)
        code, output, errors = await fleet.command(
            *("compare", url, tree, "-t", "events", "-n", fleet.network, "--to", "2024-03-13", "--json")
        )
        assert code == 3, errors
        assert json.loads(output)["counts"] == {"missing_left": 1, "missing_right": 1, "rows": 1}


async def test_a_replaced_partition_is_compared_by_the_file_of_the_table_and_by_the_public_key_of_a_tree(fleet):
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        await fleet.request()
        await fleet.run_sql(
            f"ALTER TABLE {fleet.database}.events UPDATE name = 'new' WHERE toDate(at) = '2024-03-20' "
            "SETTINGS mutations_sync = 2"
        )
        await fleet.request(from_="2024-03-20", to="2024-03-20", force=True)
    table, tree = f"{fleet.name}:{fleet.network}.events", "s3://icefleet/"
    assert kinds(await compared(fleet, table, tree, deep=True)) == [("2024-03-20", "checksum")]


async def test_places_that_cannot_be_compared_are_refused(fleet, tmp_path):
    await fleet.make_days(days=1, rows=10)
    tree = f"{fleet.name}:"
    with pytest.raises(BadRequest, match=r"neither .* has any partition"):
        await compared(fleet, tree, "s3://icefleet/elsewhere")
    with pytest.raises(
        BadRequest, match=f"the catalog of environment {fleet.name} has no table {fleet.network}.events"
    ):
        await compared(fleet, f"{tree}{fleet.network}.events", tree)
    async with fleet.worker():
        await fleet.request()
    download(fleet, tmp_path)
    with served(tmp_path, ranges=False) as (url, _), pytest.raises(StoreRefused, match="whole files only"):
        await compared(fleet, url, tree)


async def test_every_table_of_config_is_compared_by_one_command_and_the_worst_decides(fleet, tmp_path):
    await fleet.make_days(days=2, rows=10)
    await fleet.make_days("others", days=2, rows=10)
    fleet.add_table("daily", "absent", "at", network={"end_date": "2024-03-20"})
    async with fleet.worker():
        await asyncio.gather(fleet.request(), fleet.request("others"))
    download(fleet, tmp_path)
    tree, days = f"{fleet.name}:", ("--from", "2024-03-18", "--to", "2024-03-20")
    names = {short: f"{fleet.network}.{short}" for short in ("events", "others", "absent", "blocks")}
    alike = "2 of 2 partitions are the same by rows and schema; 20 rows on the left, 20 on the right"
    with served(tmp_path) as (url, asked):
        code, said, errors = await fleet.command("compare", url, tree, *days)
        assert said.splitlines() == [
            f"{names['events']}: {alike}",
            f"{names['others']}: {alike}",
            f"neither {url} nor {tree} has any partition of {names['absent']} in this range",
            f"2 of 3 tables and networks are the same, 1 on neither side; {alike.replace('2', '4')}",
        ]
        assert (code, errors) == (0, "")
        assert len([line for line in asked if line.startswith("HEAD")]) == 9

        [other] = tmp_path.rglob("others/2024/3/19.parquet")
        other.unlink()
        # Nobody can list this, and nobody knows the head of its chain.
        fleet.add_table("chunked", "blocks", "number")
        chosen = ("-t", "others", "-t", "[eb]*s", "-n", "net*")
        code, said, errors = await fleet.command("compare", url, url, *chosen, *days, "--json")
        found = json.loads(said)
        assert (code, errors, found["status"], list(found["tables"])) == (
            *(1, "", "failed"),
            [names["others"], names["blocks"], names["events"]],
        )
        assert "say --to" in found["tables"][names["blocks"]]["message"]
        found = await compared_all(fleet, url, tree, tables=["others", "*nt*"], first="2024-03-19", last="2024-03-20")
    assert (found.status, {name: one.status for name, one in found.tables.items()}) == (
        "different",
        {names["others"]: "different", names["events"]: "same", names["absent"]: "nothing"},
    )
    assert (found.partitions, found.same, found.counts) == (4, 3, {"missing_left": 1})
    assert kinds(found.tables[names["others"]]) == [("2024-03-19", "missing_left")]


async def test_a_place_that_goes_away_is_not_waited_for_once_for_every_table(fleet):
    await fleet.make_days(days=1, rows=10)
    for number in range(5):
        fleet.add_table("daily", f"table{number}", "at")
    async with fleet.worker():
        await fleet.request()
    tree = f"{fleet.name}:"
    asked = understand(fleet.settings(), tree, tree, fleet.name)
    gone = [replace(one, left=replace(one.left, root="not-there")) for one in asked[1:]]
    seen = await in_a_thread(fleet, [asked[0], *gone])
    statuses = [(one.status, "in a row" in one.message) for one in seen.tables.values()]
    assert statuses == [("same", False), *[("failed", False)] * 3, *[("failed", True)] * 2]
    assert (seen.status, seen.partitions) == ("failed", 1)
    with pytest.raises(StoreRefused, match="not-there"):
        await in_a_thread(fleet, gone)
