"""The shape of tables.yaml: what moves, how it is cut, and who may see what."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainValidator

from activities.core.tables import SENSITIVE, PartitionKind, Profile
from worker.config_fields import Day, IcebergTypeName, Name, Part, Pattern, Positive, Text, Whole, lag_text, listed


class TableNetwork(Part):
    """One network of a table, and the range that it has."""

    name: Name
    start_date: Day | None = None
    end_date: Day | None = None
    start_index: Whole | None = None
    end_index: Whole | None = None


class TableOverride(Part):
    """What one environment says differently of a table; checked with the table that it is laid over."""

    networks: tuple[TableNetwork, ...] = ()
    types: dict[str, IcebergTypeName] = Field(default_factory=dict)
    enabled: bool | None = None


class Privacy(Part):
    """What tables.yaml says once for all tables of what may identify somebody."""

    redaction_sets: dict[str, tuple[Text, ...]] = Field(default_factory=dict)
    """Name → columns that are redacted wherever a table or a group names the set under `redact`."""
    sensitive_patterns: Annotated[tuple[Pattern, ...], Field(min_length=1)] = SENSITIVE


class PartitionClock(Part):
    """A table of the same database that tells when each value of an integer partition column was."""

    table: Name
    column: Text


class TablePartition(Part):
    """How a table is cut into files."""

    column: Text
    type: PartitionKind
    chunk_size: Positive | None = None
    coarse_chunks: Positive | None = None
    clock: PartitionClock | None = None


class WrittenTable(Part):
    """One entry of a group's `tables`, as the file has it, with the group's defaults below it."""

    name: Name
    database: Name = "default"
    networks: tuple[TableNetwork, ...]
    partition: TablePartition
    lag: Annotated[str, PlainValidator(lag_text)] = "0"
    network_column: str = "meta_network_name"
    enabled: bool = True
    redact: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    """Names of redaction sets."""
    redacted_columns: tuple[Text, ...] = ()
    allowed_columns: tuple[Text, ...] = ()
    sharding_follows: dict[Text, Text] = Field(default_factory=dict)
    """Column of the sharding key → the column of the sorting key that decides its value."""
    types: dict[str, IcebergTypeName] = Field(default_factory=dict)
    profile: Profile = "portable"
    source: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    """The clusters that it comes from; empty: from whichever feeds the destination."""


class TableEntry(WrittenTable):
    """One table of the config; `redacted_columns` are all of them, also those of the sets under `redact`."""

    group: Name
    sensitive_patterns: tuple[str, ...] = SENSITIVE
    lag_amount: int
    """Seconds, or values of the partition column of an integer table."""


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Lag:
    """A lag, in seconds or in values of the partition column; or what is wrong with its text."""

    amount: int = 0
    wrong: str = ""

    @classmethod
    def parse(cls, text: str, kind: Literal["daily", "hourly", "integer"]) -> "Lag":
        """Read `2h`, `1d12h` or, for integer tables, `64`."""
        if text.startswith("-"):
            return cls(wrong=f"must not be negative, and is {text!r}")
        if kind == "integer":
            return (
                cls(int(text)) if text.isdecimal() else cls(wrong=f"an integer table lags by blocks, not by {text!r}")
            )
        if text == "0":
            return cls()
        parts = re.findall(r"(\d+)([smhdw])", text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            return cls(wrong=f"expected a duration such as 2h, 90m or 1d12h, not {text!r}")
        return cls(sum(int(number) * _UNITS[unit] for number, unit in parts))
