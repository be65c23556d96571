"""What the source holds during a run: tables of every kind, rows that come late, and what both sides must agree on."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Literal

import pyarrow as pa

from support.fleet import Fleet

Tallies = dict[str, tuple[int, int]]
"""Partition → how many rows it has, and the sum of the digests of all of them, modulo 2⁶⁴."""

END = datetime(2024, 3, 21, tzinfo=UTC)
CHUNK = 1_000
WIDTH = 100_000
"""Numbers that a day or an hour has for itself."""
STEPS = {"daily": 86_400, "hourly": 3_600}
LABELS = {
    "daily": "formatDateTime(at, '%Y-%m-%d', 'UTC')",
    "hourly": "formatDateTime(at, '%Y-%m-%dT%H', 'UTC')",
    "chunked": f"toString(intDiv(number, {CHUNK}) * {CHUNK})",
}
DIGEST = (
    "reinterpretAsUInt64(substring(MD5(concat(toString(number), '|', toString(toUnixTimestamp(at)), '|', "
    "toString(toUnixTimestamp(updated)), '|', text)), 1, 8))"
)


@dataclass(frozen=True)
class Source:
    """One table of the source."""

    name: str
    group: Literal["daily", "hourly", "chunked"]
    partitions: int
    rows: int
    """Of every partition, before rows come late."""
    versioned: bool = True
    """A ReplacingMergeTree, read with FINAL; else a plain one, whose partitions are stale when they have more rows."""
    text: str = "concat('n', toString(number % 97))"
    gaps: frozenset[int] = frozenset()
    """Partitions that are expected and have no rows at first."""

    def label(self, index: int) -> str:
        """How a request names a partition; 0 is the oldest."""
        if self.group == "chunked":
            return str(index * CHUNK)
        start = self._start + timedelta(seconds=index * STEPS[self.group])
        return start.strftime("%Y-%m-%d" if self.group == "daily" else "%Y-%m-%dT%H")

    @property
    def _start(self) -> datetime:
        return END - timedelta(seconds=self.partitions * STEPS.get(self.group, 86_400))

    def place(self, index: str, row: str) -> tuple[str, str]:
        """SQL for `at` and `number` of the row that SQL counts as the n-th of a partition."""
        start = int(self._start.timestamp())
        if self.group == "chunked":
            # The last row has the last number of its chunk, so that the newest chunk is whole.
            number = f"{index} * {CHUNK} + intDiv(({row}) * {CHUNK - 1}, {self.rows - 1})"
            return f"toDateTime({start} + {index} * 60 + {row}, 'UTC')", number
        step = STEPS[self.group]
        return f"toDateTime({start} + {index} * {step} + ({row}) * 7919 % {step}, 'UTC')", f"{index} * {WIDTH} + {row}"

    def network(self) -> dict[str, Any]:
        """What config expects of the table."""
        if self.group == "chunked":
            return {"start_index": 0}
        last = END - timedelta(seconds=1)
        return {"start_date": self._start.strftime("%Y-%m-%d"), "end_date": last.strftime("%Y-%m-%d")}


def make_sources(rng: Random, size: float) -> list[Source]:
    """Tables of every kind; at size 1 they have 364 partitions between them, of which a few are empty at first."""
    days = max(2, round(5 * size))
    wanted = [
        Source("days", "daily", max(20, round(100 * size)), 120),
        Source("hours", "hourly", days * 24, 40),
        Source("chunks", "chunked", max(20, round(80 * size)), 50),
        Source("plain", "daily", max(20, round(60 * size)), 80, versioned=False),
        Source("bulky", "daily", 4, 24_000, text="base64Encode(randomString(750))"),
    ]
    return [_with_gaps(source, rng) for source in wanted]


def _with_gaps(source: Source, rng: Random) -> Source:
    inner = range(1, source.partitions - 1)
    gaps = frozenset(rng.sample(inner, len(inner) // 20))
    return Source(**{**vars(source), "gaps": gaps})


async def create(fleet: Fleet, source: Source) -> None:
    """Make the table, fill it, and put it into config."""
    engine = "ReplacingMergeTree(updated)" if source.versioned else "MergeTree"
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.{source.name} (updated DateTime, at DateTime, number UInt32, text String, "
        f"network LowCardinality(String)) ENGINE = {engine} ORDER BY (network, at, number)"
    )
    at, place = source.place("i", "j")
    gaps = ", ".join(map(str, sorted(source.gaps))) or "-1"

    def rows(updated: str, text: str, where: str) -> str:
        return (
            f"INSERT INTO {fleet.database}.{source.name} (updated, at, number, text, network) "
            f"SELECT toDateTime('{updated}', 'UTC'), {at}, {place}, {text}, '{fleet.network}' FROM "
            f"(SELECT toInt64(intDiv(number, {source.rows})) AS i, toInt64(number % {source.rows}) AS j, number "
            f"FROM numbers({source.partitions * source.rows})) WHERE i NOT IN ({gaps}) AND {where}"
        )

    await fleet.run_sql(rows("2024-04-01 00:00:00", source.text, "1"))
    # Every tenth row twice, of which FINAL sees the newer one.
    await fleet.run_sql(rows("2024-04-01 00:00:01", "concat('again', toString(number))", "j % 10 = 0"))
    fleet.add_table(
        source.group, source.name, "number" if source.group == "chunked" else "at", network=source.network()
    )


def late_rows(fleet: Fleet, source: Source, index: int, wave: int) -> str:
    """SQL that inserts five rows into a partition, newer with each wave: more rows or, in a chunk, other versions."""
    number = f"{50_000 + wave * 5} + number" if source.group != "chunked" else f"({wave} * 5 + number) % {source.rows}"
    at, place = source.place(str(index), number)
    return (
        f"INSERT INTO {fleet.database}.{source.name} (updated, at, number, text, network) "
        f"SELECT toDateTime('2024-05-01 00:00:00', 'UTC') + {wave}, {at}, {place}, "
        f"concat('late', toString({wave})), '{fleet.network}' FROM numbers(5)"
    )


async def source_tallies(fleet: Fleet, source: Source) -> Tallies:
    """What the engine itself says of its rows."""
    final = "FINAL" if source.versioned else ""
    found = await fleet.sql(
        f"SELECT {LABELS[source.group]} AS label, count() AS rows, sum({DIGEST}) AS digest "
        f"FROM {fleet.database}.{source.name} {final} GROUP BY label"
    )
    return {str(row["label"]): (int(row["rows"]), int(row["digest"])) for row in found}


def lake_tallies(fleet: Fleet, source: Source) -> Tallies:
    """The same of the Iceberg table, as PyIceberg reads it; call it in a thread."""
    found: Tallies = {}
    for batch in fleet.table(source.name).scan().to_arrow_batch_reader():
        for at, updated, number, text in zip(*map(_plain, _columns(batch)), strict=True):
            label = _label(source, at, number)
            line = hashlib.md5(f"{number}|{at}|{updated}|{text}".encode(), usedforsecurity=False).digest()
            rows, digest = found.get(label, (0, 0))
            found[label] = rows + 1, (digest + int.from_bytes(line[:8], "little")) % 2**64
    return found


def _columns(batch: pa.RecordBatch) -> list[pa.Array]:
    return [batch.column(name) for name in ("at", "updated", "number", "text")]


def _plain(column: pa.Array) -> Iterable[Any]:
    if pa.types.is_timestamp(column.type):
        return (micros // 1_000_000 for micros in column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist())
    return column.to_pylist()


def _label(source: Source, at: int, number: int) -> str:
    if source.group == "chunked":
        return str(int(number) // CHUNK * CHUNK)
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d" if source.group == "daily" else "%Y-%m-%dT%H")


def label_of_file(source: Source, path: str) -> str:
    """The partition whose file lies at a path below the table's prefix."""
    *folders, name = path.removesuffix(".parquet").split("/")
    parts = [*folders, name.split("-")[0]]
    if source.group == "chunked":
        return parts[-1]
    text = f"{int(parts[0]):04}-{int(parts[1]):02}-{int(parts[2]):02}"
    return text if source.group == "daily" else f"{text}T{int(parts[3]):02}"
