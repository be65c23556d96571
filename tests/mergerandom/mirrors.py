"""The mirrors of a run: one of every table that has a key, with limits that let everything happen often."""

from collections.abc import Sequence
from typing import Any

from cdcrandom.tables import TABLES, Table

NAMESPACE = "mirrors"
BATCH_ROWS = 50
"""So that most snapshots of a changelog are cut."""
MIRRORED = tuple(table for table in TABLES if table.key and not table.poisoned)
"""What is dropped as a dead letter is not in the mirror either, while PostgreSQL has it."""
PARTITIONS = {
    "public.accounts": [{"column": "owner", "transform": "truncate[1]"}],
    "public.documents": [{"column": "revision", "transform": "bucket[3]"}],
    "public.kinds": [{"column": "day", "transform": "year"}],
}
"""Columns that updates change, null now and then."""


def mirror_of(table: Table) -> str:
    """The identifier of its mirror."""
    return f"{NAMESPACE}.{table.schema}_{table.name}"


def entries(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """The mirrors as `mirrors.yaml` has them."""
    return [
        {
            "changelog_table": table.changelog,
            "mirror_table": mirror_of(table),
            "primary_keys": list(table.key),
            "schema": "permissive",
            "merge_interval": "15s",
            "batch_size": BATCH_ROWS,
            "partition": PARTITIONS.get(table.identifier, []),
            "compaction": {"small_files": 4, "deleted_ratio": 0.2},
            "expiry": {"keep_snapshots": 4, "snapshot_age": "5s", "grace": "5s"},
        }
        for table in tables
    ]
