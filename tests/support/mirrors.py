"""A changelog of the test's own, the mirror that is merged from it, and a dict that says what must be there.

    async with opened(fleet) as orders:
        await orders.write(put(1, name="a"), put(2, name="b"))
        await orders.merge()
        orders.check()

Changelogs are written through PyIceberg, as anybody would; `support.changelogs` and `support.ingests` write our own.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
from pyiceberg.io.pyarrow import _dataframe_to_data_files, schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from temporalio.testing import ActivityEnvironment

from activities.compacting import compact_mirror
from activities.contracts.mirrors import CompactReport, MergeInput, MergeReport, MirrorInput, TidyReport
from activities.core.iceberg_types import parse_iceberg
from activities.core.mirrors import WATERMARK as SAID
from activities.core.mirrors import MirrorConfig, Watermark
from activities.lake import changelog
from activities.lake import mirror as mirrors
from activities.lake.catalog import Lake
from activities.lake.schema import fields_schema
from activities.merging import merge_mirror
from activities.mirror_context import MirrorContext
from activities.tidying import tidy_mirror
from support.changelogs import SYSTEM
from support.fleet import Fleet, replace_ports
from support.lakereaders import by_clickhouse, by_duckdb, by_pyiceberg
from support.mirrorcontext import mirror_context
from support.mirrorentries import entries_said, entries_there
from worker.lake import open_lake

FIELDS = {"id": "long", "name": "string"}
AT = datetime(2024, 3, 20, 12, tzinfo=UTC)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Row:
    """A row of a changelog."""

    operation: str
    values: Mapping[str, Any]
    number: int | None = None
    """Its LSN; None: the next."""
    ordinal: int = 0
    unchanged: tuple[str, ...] = ()

    @property
    def sequence(self) -> str:
        return f"{self.number or 0:016x}{self.ordinal:016x}"


def put(key: Any, number: int | None = None, *, ordinal: int = 0, unchanged: Sequence[str] = (), **values: Any) -> Row:
    """An insert, or an update when something is unchanged."""
    return Row("update" if unchanged else "insert", {"id": key, **values}, number, ordinal, tuple(unchanged))


def update(key: Any, number: int | None = None, *, ordinal: int = 0, **values: Any) -> Row:
    return Row("update", {"id": key, **values}, number, ordinal)


def gone(key: Any, number: int | None = None, *, ordinal: int = 0) -> Row:
    """A delete."""
    return Row("delete", {"id": key}, number, ordinal)


def truncated(number: int | None = None) -> Row:
    return Row("truncate", {}, number)


@dataclass
class Mirror:
    """One changelog and its mirror."""

    fleet: Fleet
    context: MirrorContext
    config: MirrorConfig
    written: list[Row] = field(default_factory=list)
    lsn: int = 0x100

    @cached_property
    def lake(self) -> Lake:
        """The catalog, past any proxy: a test that waits for it stops the proxies that it runs."""
        return open_lake(replace_ports(self.fleet.settings().environment(self.fleet.name), self.fleet.stack))

    # --- the changelog ----------------------------------------------------------------------------------------

    def changelog(self) -> Table:
        table = self.lake.load(self.config.changelog)
        assert table is not None
        return table

    def make(self, fields: Mapping[str, str]) -> None:
        """Make the changelog, with our columns before the fields."""
        kinds = {name: parse_iceberg(kind) for name, kind in fields.items()}
        schema = fields_schema({**changelog.system_types(SYSTEM), **kinds})
        self.make_table(self.config.changelog, schema)

    def make_table(self, identifier: str, schema: Schema) -> None:
        catalog = self.lake.catalog
        catalog.create_namespace_if_not_exists(identifier.rpartition(".")[0])
        catalog.create_table(identifier, schema)

    async def write(self, *rows: Row) -> None:
        """Append rows in one snapshot, one by one with the next LSN unless they have one."""
        await asyncio.to_thread(self.append, self.numbered(rows))

    def numbered(self, rows: Sequence[Row]) -> list[Row]:
        done = []
        for row in rows:
            if row.number is None:
                self.lsn += 0x10
                row = replace(row, number=self.lsn)  # noqa: PLW2901 - the row as it is written
            done.append(row)
            self.lsn = max(self.lsn, row.number or 0)
        return done

    def append(self, rows: Sequence[Row]) -> None:
        table = self.changelog()
        shape: pa.Schema = schema_to_pyarrow(table.schema())
        lines = [self._line(row) for row in rows]
        # Rows without columns of their own stay so: whoever reads the changelog says null.
        columns = [pa.array([line.get(one.name) for line in lines], one.type) for one in shape]
        table.append(pa.Table.from_arrays(columns, schema=shape))
        self.written += rows

    def _line(self, row: Row) -> dict[str, Any]:
        ours: dict[str, Any] = {
            "cdc_operation": row.operation,
            "cdc_sequence_number": row.sequence,
            "cdc_lsn": f"0/{row.number or 0:X}",
            "cdc_timestamp": AT,
            "cdc_unchanged": list(row.unchanged) or None,
        }
        if self.config.sequence_column not in ours:
            ours[self.config.sequence_column] = row.number
        return {**ours, self.config.operation_column: row.operation, **row.values}

    # --- the mirror -------------------------------------------------------------------------------------------

    def configure(self, **changes: Any) -> None:
        """Change what config says of it."""
        self.config = replace(self.config, **changes)
        self.context = replace(self.context, mirrors={self.config.mirror: self.config})

    async def merge(self, *, pieces: int = 0, seconds: float = 60) -> MergeReport:
        """One turn."""
        asked = MergeInput(self.fleet.name, self.config.mirror, seconds, pieces)
        return await ActivityEnvironment().run(merge_mirror, self.context, asked)

    async def compact(self, *, thorough: bool = False) -> CompactReport:
        """One turn of compaction."""
        asked = MirrorInput(self.fleet.name, self.config.mirror, thorough)
        return await ActivityEnvironment().run(compact_mirror, self.context, asked)

    async def tidy(self, *, dry_run: bool = False) -> TidyReport:
        """One turn of tidying."""
        asked = MirrorInput(self.fleet.name, self.config.mirror, dry_run=dry_run)
        return await ActivityEnvironment().run(tidy_mirror, self.context, asked)

    async def drain(self) -> list[MergeReport]:
        """Turns until nothing is left to do."""
        reports = [await self.merge()]
        while reports[-1].more:
            reports.append(await self.merge())
        return reports

    def table(self) -> Table:
        """The PyIceberg table of the mirror."""
        table = self.lake.load(self.config.mirror)
        assert table is not None
        return table

    def snapshots(self) -> list[Mapping[str, str]]:
        """The summaries of the mirror's snapshots, oldest first."""
        return [one.summary.additional_properties for one in self.table().snapshots() if one.summary]

    def watermark(self) -> Watermark:
        """Of the head."""
        return Watermark.load(self.snapshots()[-1][SAID], self.config.mirror)

    async def objects(self, under: str = "") -> set[str]:
        """The keys of the mirror's objects."""
        prefix = self.context.prefix(self.config) + under
        return {found.key async for page in self.context.store.objects(prefix) for found in page}

    def rows(self) -> list[dict[str, Any]]:
        """What PyIceberg finds in the mirror, in the order of keys."""
        found = self.table().scan().to_arrow().to_pylist()
        return sorted(found, key=lambda row: repr([row[name] for name in self.config.primary_keys]))

    def read(self, *columns: str) -> list[tuple[Any, ...]]:
        """Some columns of the same."""
        return [tuple(row[name] for name in columns) for row in self.rows()]

    # --- what must be there -----------------------------------------------------------------------------------

    def expected(self) -> list[dict[str, Any]]:
        """The fold of everything that was written, in plain Python (case I1)."""
        state: dict[Any, tuple[int, dict[str, Any] | None]] = {}
        floor = max((int(row.sequence, 16) for row in self.written if row.operation == "truncate"), default=-1)
        for row in sorted(self.written, key=lambda one: int(one.sequence, 16)):
            number = int(row.sequence, 16)
            if row.operation == "truncate" or number < floor:
                continue
            key = tuple(row.values.get(name) for name in self.config.primary_keys)
            held = state.get(key)
            if held is not None and held[0] >= number:
                continue
            if row.operation == "delete":
                state[key] = (number, None)
                continue
            old = (held[1] if held else None) or {}
            kept = {name: old.get(name) for name in row.unchanged}
            state[key] = (number, {self.config.sequence_column: row.sequence, **row.values, **kept})
        return [row for _, row in state.values() if row is not None]

    def check(self) -> None:
        """The mirror holds exactly what it must, as PyIceberg reads it."""
        names = [one.name for one in self.table().schema().fields]
        wanted = [{name: row.get(name) for name in names} for row in self.expected()]
        wanted.sort(key=lambda row: repr([row[name] for name in self.config.primary_keys]))
        assert self.rows() == wanted

    def check_index(self) -> None:
        """Every live row has exactly one entry, and every entry of a row points at one (I3)."""
        mirror = mirrors.read(self.lake, self.config)
        assert mirror is not None
        said = entries_said(self.lake, mirror, self.context.cache_directory)
        assert said == entries_there(self.lake, self.config, mirror)

    def by_all_readers(self) -> list[tuple[Any, ...]]:
        """The rows, which PyIceberg, DuckDB and ClickHouse all find (case 46)."""
        [rows] = same_by_all_readers(self.fleet, [self.config.mirror])
        return rows


def compact(table: Table) -> None:
    """What another engine's compaction does: all rows in one new file, in one snapshot."""
    rows = table.scan().to_arrow()
    with table.transaction() as transaction:
        [made] = _dataframe_to_data_files(table.metadata, rows, table.io)
        producer = transaction.update_snapshot().overwrite()
        for task in table.scan().plan_files():
            producer.delete_data_file(task.file)
        producer.append_data_file(made)
        producer.commit()


def same_by_all_readers(fleet: Fleet, tables: Sequence[str]) -> list[list[tuple[Any, ...]]]:
    """The sorted rows of each table, which all three readers agree about."""
    environment = replace_ports(fleet.settings().environment(fleet.name), fleet.stack)
    answers = [
        [sorted(map(_plain, rows), key=repr) for rows in read(environment, tables)]
        for read in (by_pyiceberg, by_duckdb, by_clickhouse)
    ]
    for table, *found in zip(tables, *answers, strict=True):
        assert found[1] == found[0], f"{table}: DuckDB and PyIceberg differ"
        assert found[2] == found[0], f"{table}: ClickHouse and PyIceberg differ"
    return answers[0]


def _plain(row: Sequence[Any]) -> tuple[Any, ...]:
    # To ClickHouse a list is never null.
    return tuple(() if value is None else value for value in row)


@asynccontextmanager
async def opened(fleet: Fleet, fields: Mapping[str, str] | None = FIELDS, **config: Any) -> AsyncIterator[Mirror]:
    """A changelog with some fields (None: not made yet) and its mirror; `config` are further fields of its config."""
    number = next(_numbers)
    name = f"{fleet.network}.t{number}"
    keys = {"primary_keys": ("id",), **config}
    found = MirrorConfig(f"{name}_changelog", name, **keys)
    cache = fleet.directory / "cache"
    async with mirror_context(fleet.settings(), fleet.name, fleet.temporal, cache, found) as context:
        mirror = Mirror(fleet, context, found)
        if fields is not None:
            await asyncio.to_thread(mirror.make, fields)
        yield mirror
