"""What is said about upkeep of many tables of whatever kind: one request, one report."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from activities.contracts.reports import Report

MAINTAIN_WORKFLOW = "MaintainTables"

EXPORT, CHANGELOG, MIRROR = "export", "changelog", "mirror"
KINDS = (EXPORT, CHANGELOG, MIRROR)
MOST_PARALLEL = 100
"""Tables that one request may have under way at once."""
TABLES_PER_RUN = 200
"""After so many the request continues as new."""
MAINTAIN_SECONDS = 86_400
"""How long the upkeep of one table may take; the next request finds what is left."""
LISTED_TABLES = 1000
LISTED_PROBLEMS = 100
LONGEST_MESSAGE = 300
COUNTED = ("expired", "deleted", "freed", "manifests", "compacted", "refreshed")
"""What of every table's report is summed up."""


@dataclass(frozen=True)
class MaintainRequest:
    """What a person or a Schedule asks for: that the tables of an environment be kept in order.

    Each of `tables` is an Iceberg identifier (`mainnet.canonical_execution_block`), the name behind its namespace, or a
    pattern of either; none: all of them.
    """

    tables: list[str] = field(default_factory=list)
    environment: str = "local"
    kinds: list[str] = field(default_factory=list)
    """`export`, `changelog`, `mirror`; none: all."""
    dry_run: bool = False
    max_parallel: int = 4
    """Tables that are worked on at once."""


@dataclass(frozen=True)
class MaintainedTable:
    """One table, and which loop keeps it in order."""

    table: str
    """The Iceberg identifier."""
    kind: str
    pipeline: str = ""
    """Of a changelog."""
    task_queue: str = ""
    """Where the door of its loop is served; empty: where this request is."""
    unserved: str = ""
    """The task queue in which its upkeep would wait for ever, since nobody serves that; empty: somebody does."""


@dataclass(frozen=True)
class ResolvedMaintenance:
    """What a request chooses."""

    tables: list[MaintainedTable]


@dataclass(frozen=True)
class TableMaintained:
    """What became of one table."""

    table: str
    kind: str
    status: str
    """`complete`, `nothing_to_do`, `dry_run`, `partial`, `cancelled` or `failed`."""
    message: str = ""
    cause: str = ""
    who: str = ""


@dataclass
class MaintainReport(Report):
    """What became of such a request. In a dry run: what would have."""

    tables: int = 0
    ended: Mapping[str, int] = field(default_factory=dict)
    """How many tables ended with which status."""
    expired: int = 0
    """Snapshots."""
    deleted: int = 0
    """Objects."""
    freed: int = 0
    """Bytes of those."""
    manifests: int = 0
    """That heads have fewer."""
    compacted: int = 0
    """Files that were put together with others."""
    refreshed: int = 0
    """Public objects."""
    each: list[TableMaintained] = field(default_factory=list)
    """The first thousand of those with which something was done or wrong."""
    problems: list[str] = field(default_factory=list)
    """The first hundred of what could not be done, each with its table; the next run tries again."""
