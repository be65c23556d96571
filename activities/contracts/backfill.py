"""What is said about backfills: many tables and networks, long ranges, one report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from activities.contracts.reports import Report

BACKFILL_WORKFLOW = "Backfill"
PAUSE_SIGNAL = "pause"
RESUME_SIGNAL = "resume"
PARALLELISM_SIGNAL = "set_parallelism"
SKIP_SIGNAL = "skip"

MOST_PARALLEL = 100
"""Tables and networks that one backfill may work on at once."""
MOST_PARTITIONS = 10_000
"""Partitions that one request of a backfill to a table's loop may be for."""
LISTED_LANES = 1000
LISTED_FAILURES = 100
LONGEST_MESSAGE = 500
"""Characters of a failure's message that a backfill keeps; the loop's history has all of it."""


@dataclass(frozen=True)
class BackfillRequest:
    """What a person asks for: ranges of many tables and networks, or everything that is due of them.

    Each of `tables` is a table's name, a pattern (`canonical_execution_*`), or a group of tables.yaml (its name, or
    `group:daily`). `from` and `to` are partitions as in `ExportRequest`, and must fit every table that is chosen;
    tables that are cut by numbers also take dates, if config names their clock.
    """

    tables: list[str]
    environment: str = "local"
    networks: list[str] = field(default_factory=list)
    """Empty: all that a table has."""
    from_: str | int = ""
    to: str | int = ""
    oldest_first: bool = False
    force: bool = False
    allow_shrink: bool = False
    """With `force`: also replace partitions of which the source holds less than the table."""
    dry_run: bool = False
    max_parallel: int = 4
    """Tables and networks that are worked on at once."""
    partitions_per_request: int = 1000
    """The most partitions that a table's loop is asked for at a time; best a multiple of `partitions_per_plan`."""


@dataclass(frozen=True)
class Lane:
    """One table and network of a backfill, and how much of it was asked for."""

    table: str
    network: str
    total: int | None = None
    """Closed partitions in the range; None when only the source could say."""
    from_: str = ""
    to: str = ""
    """The range as this table is cut: dates became values of an integer column."""
    nothing: bool = False
    """The source has nothing at the dates that were asked for."""


@dataclass(frozen=True)
class ResolvedBackfill:
    """What a request chooses of the environment's tables, in the order in which it is begun."""

    lanes: list[Lane]
    slices_per_run: int
    """Requests to loops after which the backfill continues as new."""


@dataclass(frozen=True)
class EstimateInput:
    """Say what a request would do to one table and network."""

    environment: str
    table: str
    network: str
    request: dict[str, Any]
    """An `ExportRequest`."""


@dataclass(frozen=True)
class TableEstimate:
    """What a request would do, as counted by the source. Rows include duplicates that the export will drop."""

    expected: int
    present: int
    missing: int
    stale: int
    forced: int
    suspended: int
    empty: int
    open: int
    rows: int
    bytes: int
    """Rows times the mean size of a row: an estimate."""
    bytes_from: str
    """What the mean was taken from: `table` (its committed files), `source` (as stored there) or `nothing`."""


@dataclass
class LaneReport:
    """What became of one table and network. Counts are partitions unless they say otherwise."""

    table: str
    """The Iceberg identifier."""
    status: str
    """`waiting`, `running`, `paused`, `skipped`, `done`, `partial` or `failed`; in a dry run `planned`."""
    total: int | None = None
    """Partitions asked for; None when it is not known."""
    expected: int = 0
    """Looked at so far; what is there, empty or was exported is among them."""
    present: int = 0
    missing: int = 0
    stale: int = 0
    forced: int = 0
    suspended: int = 0
    empty: int = 0
    open: int = 0
    shrunk: int = 0
    exported: int = 0
    already_there: int = 0
    failed: int = 0
    moved: int = 0
    """Counted as open as well: they got rows whenever they were exported."""
    rows: int = 0
    bytes: int = 0
    snapshots: int = 0
    bytes_from: str = ""
    cause: str = ""
    """Of a table that failed as a whole: the name of the fault."""
    message: str = ""
    who: str = ""


@dataclass(frozen=True)
class BackfillFailure:
    """A partition, or a whole table, that failed after every retry, and why."""

    table: str
    partition: str
    """Empty when it is the table."""
    cause: str
    message: str
    who: str


@dataclass
class BackfillReport(Report):
    """What became of a backfill; the counts are the sums of `lanes`."""

    expected: int = 0
    present: int = 0
    missing: int = 0
    stale: int = 0
    forced: int = 0
    suspended: int = 0
    empty: int = 0
    open: int = 0
    shrunk: int = 0
    exported: int = 0
    already_there: int = 0
    failed: int = 0
    moved: int = 0
    rows: int = 0
    bytes: int = 0
    snapshots: int = 0
    tables: Mapping[str, int] = field(default_factory=dict)
    """How many tables (of a network) ended in which state."""
    lanes: list[LaneReport] = field(default_factory=list)
    """The first thousand of them."""
    failures: list[BackfillFailure] = field(default_factory=list)
    """The first hundred."""
