"""What is said about orphans: objects of a table that no snapshot of it names."""

from dataclasses import dataclass, field

from activities.contracts.reports import Report

WORK_SECONDS = 60
"""How long one attempt deletes; what is left then is a further page's."""
REQUEST_SECONDS = 30
"""How long one deletion may wait for its answer, with all tries of the client."""
SIGNATURE_SECONDS = 15 * 60
"""How long a store accepts a request that was signed and then held up somewhere."""
DELETION_SECONDS = WORK_SECONDS + REQUEST_SECONDS + SIGNATURE_SECONDS + 30
"""After so long nothing that an attempt has sent can still take effect, whatever became of its worker."""

LISTED_KEYS = 100


@dataclass(frozen=True)
class OrphansRequest:
    """What a person asks for: that a table's orphans of some age be deleted."""

    table: str
    network: str
    older_than: str
    """Such as `24h`, `90m` or `7d`."""
    environment: str = "local"
    metadata: bool = False
    """Also manifests and manifest lists that no snapshot names."""
    dry_run: bool = False


@dataclass
class OrphansReport(Report):
    """What became of such a request."""

    deleted: int = 0
    """Everything that was deleted; in a dry run, what would be."""
    bytes: int = 0
    """Of deleted objects; how much an unfinished upload held is not known."""
    young: int = 0
    """Kept, since they may still be needed."""
    foreign: int = 0
    """Kept, since icefleet did not make them."""
    keys: list[str] = field(default_factory=list)
    """The first hundred of what was deleted, as `<kind>: <key>`."""
    waiting: str = ""
    """Why nothing more goes yet; empty when everything has been looked at."""


@dataclass(frozen=True)
class OrphansInput:
    """Delete a page of one table's orphans."""

    environment: str
    table: str
    network: str
    older_than: str
    metadata: bool = False
    dry_run: bool = False
    line: int = 0
    """What was made before it may go, in seconds since the epoch; 0 on the first page, which works it out."""
    cursor: str = ""
    """Where the page before ended; empty at the start."""
    after_expiry: bool = False
    """For upkeep: no age is named, so the least one that is allowed holds; a table that is not there is none to
    complain about; and of partitions that the table does not hold nothing goes."""


@dataclass(frozen=True)
class OrphansPage:
    """What one page did; the counts are those of the report."""

    line: int
    cursor: str
    """Where the next page begins; empty when this was the last."""
    deleted: int
    bytes: int
    young: int
    foreign: int
    keys: list[str]
    waiting: str = ""
    """Why nothing goes yet: readers may be with snapshots that have expired a moment ago."""
    kept: int = 0
    """Data objects of partitions that the table does not hold, which upkeep leaves alone."""
