"""A changelog as three engines read it, and what its metadata says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from pyiceberg.types import BinaryType, IcebergType, ListType

from activities.core.changelogs import SystemColumns
from cdcrandom.pgtext import clock
from support.fleet import Fleet, replace_ports
from support.lakereaders import Rows, ask_clickhouse, by_duckdb, by_pyiceberg

SYSTEM = SystemColumns()
Values = dict[str, Any]
"""Field → value."""


class Row(NamedTuple):
    """One row of a changelog, in plain values."""

    sequence: str
    lsn: str
    at: int
    operation: str
    unchanged: tuple[str, ...]
    values: dict[str, Any]
    """Field → value, of those that are not null."""


@dataclass
class Changelog:
    """All that there is to see of one changelog."""

    identifier: str
    types: dict[str, str]
    """Field → Iceberg type, ours left out."""
    properties: dict[str, str]
    snapshots: list[str]
    """Oldest first."""
    added: list[list[str]] = field(default_factory=list)
    """Snapshot by snapshot: the sequence numbers of the rows that came with it, sorted."""
    rows: dict[str, list[Row]] = field(default_factory=dict)
    """Reader → every row, in the order of sequence numbers."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """What the stream holds of it."""


def look_at(fleet: Fleet, identifiers: Sequence[str]) -> dict[str, Changelog]:
    """Each of these changelogs; call it in a thread."""
    tables = {identifier: fleet.load(identifier) for identifier in identifiers}
    found = {identifier: _metadata(identifier, table) for identifier, table in tables.items()}
    for reader, answered in read_by_all(fleet, tables).items():
        for identifier, rows in answered.items():
            found[identifier].rows[reader] = sorted(map(_row, rows), key=lambda row: row.sequence)
    return found


def read_by_all(fleet: Fleet, tables: Mapping[str, Any]) -> dict[str, dict[str, list[Values]]]:
    """Reader → identifier → the rows of a table in any order, each field → value; call it in a thread."""
    direct = replace_ports(fleet.settings().environment(fleet.name), fleet.stack)
    kinds = {
        identifier: {one.name: one.field_type for one in table.schema().fields} for identifier, table in tables.items()
    }
    quoted = [".".join(f'"{part}"' for part in identifier.split(".")) for identifier in tables]
    readers: dict[str, Callable[[], list[Rows]]] = {
        "PyIceberg": lambda: by_pyiceberg(direct, list(tables)),
        "DuckDB": lambda: by_duckdb(direct, quoted),
        "ClickHouse": lambda: ask_clickhouse(direct, [_for_clickhouse(one, kinds[one]) for one in tables]),
    }
    return {
        reader: {
            identifier: [_values(kinds[identifier], row) for row in rows]
            for identifier, rows in zip(tables, read(), strict=True)
        }
        for reader, read in readers.items()
    }


def _metadata(identifier: str, table: Any) -> Changelog:
    return Changelog(
        identifier=identifier,
        types={one.name: str(one.field_type) for one in table.schema().fields if one.name not in SYSTEM.names},
        properties=dict(table.properties),
        snapshots=[str(snapshot.snapshot_id) for snapshot in table.snapshots()],
        added=[_added(table, snapshot) for snapshot in table.snapshots()],
    )


def _added(table: Any, snapshot: Any) -> list[str]:
    found: list[str] = []
    for manifest in snapshot.manifests(table.io):
        if manifest.added_snapshot_id != snapshot.snapshot_id:
            continue
        for entry in manifest.fetch_manifest_entry(table.io):
            if entry.snapshot_id == snapshot.snapshot_id:
                with table.io.new_input(entry.data_file.file_path).open() as file:
                    found += pq.read_table(file, columns=[SYSTEM.sequence])[SYSTEM.sequence].to_pylist()
    return sorted(found)


def _for_clickhouse(identifier: str, kinds: dict[str, IcebergType]) -> str:
    """Bytes as hex: they would come as text that is none."""
    names = {name: name.replace("\\", "\\\\").replace("`", "\\`") for name in kinds}
    columns = [
        f"lower(hex(`{names[name]}`)) AS `{names[name]}`" if isinstance(kind, BinaryType) else f"`{names[name]}`"
        for name, kind in kinds.items()
    ]
    return f"SELECT {', '.join(columns)} FROM lake.`{identifier}`"


def _values(kinds: dict[str, IcebergType], row: Sequence[Any]) -> Values:
    return {name: _plain(kind, value) for (name, kind), value in zip(kinds.items(), row, strict=True)}


def _row(values: Values) -> Row:
    operation, sequence, lsn, at, unchanged = (values.pop(name) for name in SYSTEM.names)
    there = {name: value for name, value in values.items() if value is not None}
    return Row(sequence, lsn, at[1], operation, tuple(sorted(unchanged or ())), there)


def _plain(kind: IcebergType, value: Any) -> Any:
    """What readers say in different ways, in one way."""
    if value is None:
        return None
    if isinstance(kind, ListType):
        return tuple(_plain(kind.element_type, element) for element in value)
    if isinstance(kind, BinaryType) and isinstance(value, str):
        return ("bytes", value)
    if isinstance(value, time):
        return clock(value)
    if isinstance(value, tuple) and value[0] == "local":  # a time without a zone; ClickHouse gives it one
        return ("time", value[1])
    return ("clock", value) if str(kind) == "time" else value
