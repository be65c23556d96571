"""What is said about upkeep: old snapshots expire, and public keys get the newest rows."""

from dataclasses import dataclass, field

from activities.contracts.orphans import SIGNATURE_SECONDS
from activities.contracts.reports import Report

LOOK_SECONDS = 5 * 60
"""How long reading the table's manifests may take."""
WORK_SECONDS = 60
"""How long one attempt begins further copies; what is left then is a further page's."""
COPY_SECONDS = 10 * 60
"""How long the copy of one object may take, with all tries of the client."""
PURGE_SECONDS = 2 * 60
"""How long the cache may take to hear of one page."""
REFRESH_SECONDS = LOOK_SECONDS + WORK_SECONDS + COPY_SECONDS + PURGE_SECONDS + SIGNATURE_SECONDS + 60
"""After so long nothing that an attempt has sent can still take effect, whatever became of its worker."""

LISTED_KEYS = 100


@dataclass(frozen=True)
class UpkeepRequest:
    """What a person or a Schedule asks for: that one table be kept in order."""

    table: str
    network: str
    environment: str = "local"
    take_over: bool = False
    """Also overwrite objects at public keys that icefleet did not make, once no snapshot names them."""
    dry_run: bool = False
    thorough: bool = False
    """Also merge small manifests, and delete what nothing names any more since snapshots expired long enough ago."""


@dataclass
class UpkeepReport(Report):
    """What became of such a request. In a dry run: what would have."""

    expired: int = 0
    """Snapshots that went."""
    retained: int = 0
    """Snapshots that stayed, the head included."""
    refreshed: int = 0
    """Public objects that have the newest rows now, and had not."""
    bytes: int = 0
    """Of those."""
    fresh: int = 0
    """Public objects beside a newer file that were as new already."""
    waiting: int = 0
    """Public objects that a retained snapshot still names."""
    foreign: int = 0
    """Public objects that are older and that icefleet did not make; `take_over` overwrites them."""
    purged: int = 0
    """Public URLs of which the cache was told."""
    problems: list[str] = field(default_factory=list)
    """What could not be done, and why; the next upkeep tries again."""
    keys: list[str] = field(default_factory=list)
    """The first hundred of what was refreshed."""
    deleted: int = 0
    """Objects that nothing named any more: data, manifests, manifest lists, metadata files, unfinished uploads."""
    freed: int = 0
    """Bytes of those."""
    manifests: int = 0
    """Manifests that the head has fewer."""
    compacted: int = 0
    """Files that were put together with others; only of changelogs."""
    noted: int = 0
    """Objects that nothing names any more, and that go once nobody can be reading them; only of changelogs."""
    kept: int = 0
    """Data objects that nothing names, of partitions that the table does not hold; only of exports."""


@dataclass(frozen=True)
class ExpireInput:
    """Let the old snapshots of one table go."""

    environment: str
    table: str
    network: str
    dry_run: bool = False


@dataclass(frozen=True)
class ExpirePage:
    """What became of the snapshots."""

    expired: int
    retained: int
    """0: there is no table, or it has never had any."""
    problem: str = ""
    """Why none may go now."""


@dataclass(frozen=True)
class ManifestsInput:
    """Put together the small manifests of one table."""

    environment: str
    table: str
    network: str
    dry_run: bool = False


@dataclass(frozen=True)
class ManifestsPage:
    """How many manifests the head had, and how many it has."""

    before: int
    after: int
    more: bool = False
    """Whether another turn has something to do."""


@dataclass(frozen=True)
class RefreshInput:
    """Refresh a page of one table's public keys."""

    environment: str
    table: str
    network: str
    take_over: bool = False
    dry_run: bool = False
    began: int = 0
    """When the first page began, by the store's clock; 0 on the first page, which answers it."""
    cursor: str = ""
    """The last partition of the page before; empty at the start."""
    all_purged: bool = True
    """Whether the cache has heard of everything on the pages before."""


@dataclass(frozen=True)
class RefreshPage:
    """What one page did; the counts are those of the report."""

    began: int
    cursor: str
    """The last partition that is done."""
    done: bool
    """Whether everything is."""
    refreshed: int = 0
    bytes: int = 0
    fresh: int = 0
    waiting: int = 0
    foreign: int = 0
    purged: int = 0
    problem: str = ""
    """Why nothing was touched, or the cache did not hear of everything."""
    keys: list[str] = field(default_factory=list)
