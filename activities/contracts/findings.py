"""What is said about findings: partitions of a table that people must look at."""

from dataclasses import dataclass, field
from typing import Any

SHRUNK = "shrunk"
"""The source holds less than the table."""
VERIFIED = "verify"
"""A verification found something in counts, files and objects: its detail says what."""
VALUES = "values"
"""A deep verification found values that are not the source's, which any other look cannot take back."""
RETAINED = "retained-wal"
"""A pipeline's slot holds back much of its source's log, or was given up: the detail says which."""
LET_GO = "let-go"
"""Events of a pipeline's stopped tables were let go, since they were too many: each is copied anew to go on."""
MERGE = "merge"
"""A mirror cannot go on until somebody has acted: the detail says why."""
UPKEEP = "upkeep"
"""Compaction or tidying of a mirror keeps failing: the detail says why."""

LISTED_FOUND = 200
"""Partitions that one look names; the others are counted."""
LISTED_RANGES = 200
"""Ranges that one look may have looked at: with more, the oldest count as not looked at."""


@dataclass(frozen=True)
class FoundPartition:
    """One partition, and what is wrong with it."""

    partition: str
    rows: int | None = None
    """In the table; None where nobody counted."""
    source_rows: int | None = None
    """At the source, duplicates included; None where nobody counted."""
    detail: str = ""
    """In words, where numbers do not say it."""


@dataclass(frozen=True)
class Look:
    """What one look at a table found of one kind, and where it looked: what it did not find there has gone."""

    environment: str
    table: str
    network: str
    kind: str
    """`SHRUNK`, `VERIFIED` or `VALUES`."""
    looked: list[list[str]] = field(default_factory=list)
    """First and last partition of every range that was looked at, both inclusive."""
    found: list[FoundPartition] = field(default_factory=list)
    omitted: int = 0
    """Found beyond those."""


@dataclass(frozen=True)
class FindingsReport:
    """What became of a look."""

    published: bool
    """Whether it differed from what was known."""
    standing: int
    """Findings of this kind that the table has now."""


def read_look(dumped: dict[str, Any]) -> Look:
    """A look that was dumped as plain JSON."""
    return Look(**{**dumped, "found": [FoundPartition(**one) for one in dumped["found"]]})
