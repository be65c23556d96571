"""The shape of mirrors.yaml: which changelogs become mirrors, and how; and every problem of it at once."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from worker.config_fields import Duration, Part, Positive, PositiveDuration, Text, listed
from worker.config_files import Node, Problem

_PART = re.compile(r"[^\s./\\*>]+")
"""What a word of an identifier may be, as Iceberg, NATS and object keys take it alike."""
_TRANSFORM = re.compile(r"identity|year|month|day|hour|(?:bucket|truncate)\[[1-9]\d{0,8}\]")
_SMALLEST_FILE = 2**20


class PartitionField(Part):
    """One part of how a mirror is partitioned."""

    column: Text
    transform: Text = "identity"
    """As Iceberg calls it: identity, year, month, day, hour, bucket[16], truncate[1000]."""


class Compaction(Part):
    """When files of a mirror are rewritten, and how large they become."""

    target_file_bytes: Annotated[Positive, Field(ge=_SMALLEST_FILE)] = 256 * 2**20
    small_file_bytes: Positive = 32 * 2**20
    small_files: Annotated[Positive, Field(ge=2)] = 16
    deleted_ratio: Annotated[float, Field(ge=0.01, le=1)] = 0.3
    bytes_per_turn: Positive = 2 * 2**30


class Expiry(Part):
    """When old snapshots of a mirror go, and the objects that only they name."""

    keep_snapshots: Positive = 20
    snapshot_age: Duration = 600
    grace: Duration = 3600


class Mirror(Part):
    """One mirror, as the file has it."""

    namespace: str = ""
    """Of whichever of the two tables is named without one."""
    changelog_table: Text
    mirror_table: Text
    primary_keys: Annotated[tuple[Text, ...], BeforeValidator(listed)] = ()
    sequence_column: Text = "cdc_sequence_number"
    sequence_format: Literal["auto", "hex", "decimal"] = "auto"
    operation_column: Text = "cdc_operation"
    unchanged_column: Text = "cdc_unchanged"
    metadata_columns: Annotated[tuple[Text, ...], BeforeValidator(listed)] = (
        "cdc_lsn",
        "cdc_timestamp",
        "cdc_unchanged",
    )
    schema_: Literal["strict", "permissive"] = Field(default="strict", alias="schema")
    partition: tuple[PartitionField, ...] = ()
    merge_interval: PositiveDuration = 3600
    batch_size: Positive = 100_000
    batch_bytes: Annotated[Positive, Field(ge=_SMALLEST_FILE)] = 256 * 2**20
    late_event_horizon: Duration = 7 * 86_400
    compaction: Compaction = Compaction()
    expiry: Expiry = Expiry()

    @property
    def changelog(self) -> str:
        """Iceberg identifier of the changelog."""
        return _identifier(self.changelog_table, self.namespace)

    @property
    def mirror(self) -> str:
        """Iceberg identifier of the mirror."""
        return _identifier(self.mirror_table, self.namespace)


class MergeLimits(Part):
    """How much one worker does for mirrors at once, and where it keeps what it may lose."""

    max_concurrent_activities: Positive = 4
    """Each merge takes memory by its mirror's `batch_bytes`."""
    cache_directory: str = ""
    """Holds segments of indexes, which may be deleted at any time, all but `*.part`, which are being written; empty:
    below the system's temporary directory."""


def _identifier(table: str, namespace: str) -> str:
    return table if "." in table or not namespace else f"{namespace}.{table}"


def mirror_problems(mirror: Mirror, node: Node) -> Iterator[Problem]:
    """What the shape of one mirror does not say: names, and columns that contradict each other."""
    for key in ("changelog_table", "mirror_table"):
        yield from _name_problems(getattr(mirror, key), key, mirror.namespace, node)
    if mirror.changelog == mirror.mirror:
        yield (node.get("mirror_table") or node).problem(
            f"{mirror.mirror!r} is the changelog itself; a mirror is a table of its own"
        )
    if not mirror.primary_keys:
        yield (node.get("primary_keys") or node).problem(
            "a mirror has one row for each key: name the columns of the changelog that tell rows apart; a table "
            "without a key cannot have a mirror",
            "" if node.get("primary_keys") else "primary_keys",
        )
    yield from _column_problems(mirror, node)


def _name_problems(table: str, key: str, namespace: str, node: Node) -> Iterator[Problem]:
    place = node.get(key) or node
    identifier = _identifier(table, namespace)
    if "." not in identifier:
        yield place.problem(f"{table!r} has no namespace: write namespace.{table}, or give `namespace`")
    elif wrong := [part for part in identifier.split(".") if not _PART.fullmatch(part)]:
        yield place.problem(
            f"{identifier!r} cannot be a table: {wrong[0]!r} is empty, or has a blank or one of / \\ * >"
        )


def _column_problems(mirror: Mirror, node: Node) -> Iterator[Problem]:
    said = {getattr(mirror, name): name for name in ("unchanged_column", "operation_column", "sequence_column")}
    if mirror.operation_column == mirror.sequence_column:
        place = node.get("sequence_column") or node.get("operation_column") or node
        yield place.problem(f"{mirror.sequence_column!r} is the `operation_column` as well; they are two columns")
    missing = {mirror.operation_column, mirror.unchanged_column, *mirror.metadata_columns}
    seen: set[str] = set()
    for index, column in enumerate(mirror.primary_keys):
        place = node.get("primary_keys", index) or node.get("primary_keys") or node
        if column in seen:
            yield place.problem(f"{column!r} is listed twice")
        elif column in said:
            yield place.problem(f"{column!r} is the `{said[column]}`, which tells changes apart and not rows")
        elif column in missing:
            yield place.problem(f"{column!r} is among `metadata_columns`, which a mirror lacks")
        seen.add(column)
    if mirror.sequence_column in mirror.metadata_columns:
        yield (node.get("metadata_columns") or node.get("sequence_column") or node).problem(
            f"{mirror.sequence_column!r} is the `sequence_column`, by which a mirror tells late changes: it keeps it"
        )
    for index, part in enumerate(mirror.partition):
        place = node.get("partition", index) or node
        if part.column in missing:
            yield (place.get("column") or place).problem(f"{part.column!r} is no column of the mirror")
        if not _TRANSFORM.fullmatch(part.transform):
            yield (place.get("transform") or place).problem(
                f"{part.transform!r} is no transform: identity, year, month, day, hour, bucket[16] or truncate[1000]"
            )


def clashing_mirrors(found: Sequence[tuple[str, Mirror, Node]], catalogs: Mapping[str, object]) -> Iterator[Problem]:
    """Every mirror (with its environment) after the first of its table, and every one whose changelog is a mirror.

    `catalogs` tells environments' lakes apart.
    """
    first: dict[tuple[object, str], Node] = {}
    for environment, mirror, node in found:
        place = (catalogs.get(environment, environment), mirror.mirror)
        if place in first:
            where = first[place]
            yield (node.get("mirror_table") or node).problem(
                f"mirror {mirror.mirror!r} is already at {where.file}:{where.line}; a mirror has one changelog, and "
                "one environment that writes it"
            )
        first.setdefault(place, node)
    for environment, mirror, node in found:
        place = (catalogs.get(environment, environment), mirror.changelog)
        if place in first and mirror.changelog != mirror.mirror:
            where = first[place]
            yield (node.get("changelog_table") or node).problem(
                f"{mirror.changelog!r} is the mirror at {where.file}:{where.line}, which says what rows are and not "
                "how they changed; name the changelog of that mirror"
            )
