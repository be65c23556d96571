"""What is said when a table is held against its source: a look that writes nothing, so no loop is needed for it."""

from dataclasses import dataclass, field
from typing import Any

from temporalio import activity

VERIFY_WORKFLOW = "VerifyTable"

LISTED_FINDINGS = 100
"""Findings that a page or a report names; it counts all of them."""
SOUND = ("proved", "empty", "open")
"""States of a partition that are no finding: it is as it should be, has no rows anywhere, or moved meanwhile."""
KINDS = {
    "missing": "the source has rows, and the table has no file",
    "stale": "the source has newer rows than the file",
    "shrunk": "the source holds less than the file",
    "rows": "the file has fewer rows than the source, which has nothing newer",
    "duplicate": "more than one file of the table holds the partition",
    "unexpected": "the table holds something that is not expected: a file outside of the network's range, or deletes",
    "gone": "the object that the table names is not there",
    "size": "the object has another size than the table says",
    "unreadable": "the object cannot be read, or its values cannot be read under the table's types",
    "checksum": "the values of file and source differ",
}
"""Every kind of finding."""


@dataclass(frozen=True)
class VerifyRequest:
    """What a person or a Schedule asks for: that a table be held against its source.

    `from` and `to` are partitions, both inclusive, as in an export; without them it is the whole network.
    """

    table: str
    network: str
    environment: str = "local"
    from_: str | int = ""
    to: str | int = ""
    newest: int = 0
    """Only so many of the newest partitions; 0 for all."""
    deep: bool = False
    """Also read every file and the source's rows, and compare their checksums."""
    carried: dict[str, Any] | None = None
    """What a long run hands to its successor; leave it out."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    kind: str
    """One of `KINDS`."""
    partition: str
    """Empty when it concerns the table as a whole."""
    message: str


@dataclass
class VerifyReport:
    """What was found. Counts are partitions unless they say otherwise."""

    status: str = "proved"
    """`proved`, or `findings`."""
    message: str = ""
    expected: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """State (`proved`, `empty`, `open`, or a kind of finding) → partitions in it."""
    rows: int = 0
    """Of the files that were looked at."""
    bytes: int = 0
    read: int = 0
    """Partitions whose values were compared."""
    found: int = 0
    """All findings."""
    findings: list[Finding] = field(default_factory=list)
    """The first hundred of them."""
    not_compared: dict[str, int] = field(default_factory=dict)
    """Column that the file or the source lacks → partitions of which its values were not compared."""


@dataclass(frozen=True)
class LookInput:
    """Look at the next page of partitions."""

    environment: str
    table: str
    network: str
    request: dict[str, Any]
    """A `VerifyRequest`, as plain JSON."""
    first: str = ""
    """The page's first partition; empty at the start."""
    last: str = ""
    """The last partition of all pages; empty at the start."""


@dataclass(frozen=True)
class PartitionToRead:
    """A partition whose values are to be compared; its file is sound as far as could be seen."""

    partition: str
    rows: int


@dataclass(frozen=True)
class Looked:
    """A page of partitions that were looked at."""

    first: str
    """Where the next page begins; empty when this is the last."""
    last: str
    looked: list[list[str]]
    """First and last partition of every range of this page, without those that moved meanwhile."""
    expected: int
    """Partitions of this page."""
    left: int
    """Partitions of the pages that follow."""
    counts: dict[str, int]
    rows: int
    bytes: int
    findings: list[Finding]
    to_read: list[PartitionToRead]
    """Of a deep look."""
    parallel: int
    """How many may be read at once."""
    pages_per_run: int
    """Pages of one run of the workflow before it continues as new."""


@dataclass(frozen=True)
class ReadInput:
    """Compare the values of some partitions."""

    environment: str
    table: str
    network: str
    partitions: list[str]


@dataclass(frozen=True)
class ReadReport:
    """What became of them."""

    counts: dict[str, int]
    """`proved`, `open`, `checksum`, `unreadable`."""
    findings: list[Finding]
    not_compared: dict[str, int]


class VerifyActivities:
    """What `VerifyTable` asks of the world. `activities.verify` implements it."""

    @activity.defn(name="look_at_partitions")
    async def look_at_partitions(self, look: LookInput) -> Looked:
        """Hold the files of a page of partitions against the source's counts and the objects in the store."""
        raise NotImplementedError

    @activity.defn(name="compare_values")
    async def compare_values(self, read: ReadInput) -> ReadReport:
        """Read the values of partitions at the source and in their files, and compare the checksums."""
        raise NotImplementedError
