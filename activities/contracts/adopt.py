"""What is said about adopting: Parquet files that lie under a table's public keys become part of the table."""

from dataclasses import dataclass, field

from activities.contracts.reports import Report

LISTED_REFUSALS = 100


@dataclass(frozen=True)
class AdoptRequest:
    """What a person asks for: that a table's published files be registered, all of them or those of a range.

    `from` and `to` are partitions, both inclusive, as in an export's request.
    """

    table: str
    network: str
    environment: str = "local"
    from_: str | int = ""
    to: str | int = ""
    dry_run: bool = False
    extra_columns: list[str] = field(default_factory=list)
    """Columns that files have and the source has not: they become columns of the Iceberg table, for good."""
    unredacted: list[str] = field(default_factory=list)
    """Redacted columns whose values in the files are known, and may be read from the table as they are."""


@dataclass(frozen=True)
class RefusedFile:
    """A file that stays out of the table."""

    key: str
    reason: str
    """One of `activities.core.adopting.REASONS`."""
    why: str


@dataclass
class AdoptReport(Report):
    """What became of such a request. Counts are files; in a dry run, what they would be."""

    adopted: int = 0
    already_there: int = 0
    rows: int = 0
    bytes: int = 0
    not_asked: int = 0
    """Outside of the range that was asked for; nobody looked into them."""
    refused: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    """Reason → how many were refused for it."""
    refusals: list[RefusedFile] = field(default_factory=list)
    """The first hundred of them."""
    lacking: dict[str, int] = field(default_factory=dict)
    """Column of the table → how many adopted files have none of it, so that it reads null in them."""
    snapshots: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class AdoptInput:
    """Adopt the next page of a table's files."""

    environment: str
    table: str
    network: str
    from_: str | int = ""
    to: str | int = ""
    dry_run: bool = False
    extra_columns: list[str] = field(default_factory=list)
    unredacted: list[str] = field(default_factory=list)
    cursor: str = ""
    """The last key of the page before; empty at the start."""


@dataclass(frozen=True)
class AdoptPage:
    """What one page did; the counts are those of the report."""

    cursor: str
    """After which key the next page begins; empty when this was the last."""
    snapshot_id: str
    """Empty when nothing was committed."""
    adopted: int
    already_there: int
    rows: int
    bytes: int
    not_asked: int
    refused: int
    reasons: dict[str, int]
    refusals: list[RefusedFile]
    lacking: dict[str, int]
