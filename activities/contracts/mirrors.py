"""The seam of mirrors: changelogs to tables that hold the latest row of every key.

Rows never cross Temporal: what crosses is names, positions, counts.
"""

from dataclasses import dataclass, field
from typing import Any

from temporalio import activity

MERGE_TASK_QUEUE = "icefleet-merge"
"""Where merges wait for workers: they must keep neither exports nor captures waiting."""

MERGE_WORKFLOW = "MergeMirror"
MERGE_ONCE_WORKFLOW = "MergeOnce"
VERIFY_MIRROR_WORKFLOW = "VerifyMirror"

MERGE_SIGNAL = "merge"
PAUSE_SIGNAL = "pause"
RESUME_SIGNAL = "resume"
STOP_SIGNAL = "stop"
REBUILD_SIGNAL = "rebuild-index"
COMPACT_SIGNAL = "compact"
BOOTSTRAP_SIGNAL = "bootstrap"
MAINTAIN_SIGNAL = "maintain"
ANSWER_SIGNAL = "answer"

ORDERS = (MERGE_SIGNAL, REBUILD_SIGNAL, COMPACT_SIGNAL, BOOTSTRAP_SIGNAL, MAINTAIN_SIGNAL)
"""What somebody may have a mirror's loop do, and wait for."""


def mirror_id(environment: str, mirror: str) -> str:
    """The one workflow id under which a mirror's loop may run; `mirror` is its Iceberg identifier."""
    return f"merge/{environment}/{mirror}"


@dataclass(frozen=True)
class MirrorRequest:
    """What a mirror's loop is started with, and what a person may start one with."""

    mirror: str
    """Its Iceberg identifier, `namespace.table`."""
    environment: str = "local"
    turns_per_run: int = 200
    """Turns of merging, after which the loop continues as new."""
    carried: dict[str, Any] | None = None
    """What a long run hands to its successor; leave it out."""


@dataclass(frozen=True)
class MirrorOrder:
    """What somebody asks of a mirror's loop, by signal, to be answered when it is done."""

    id: str = ""
    """Made by whoever sends it, so that the answer finds its way."""
    answer_to: str = ""
    """The workflow that waits for the answer; empty: nobody does."""
    dry_run: bool = False
    cause: dict[str, str] = field(default_factory=dict)
    """On whose behalf it has come, noted by the loop that hears it (`contracts.causes`)."""


@dataclass(frozen=True)
class MergeOnceRequest:
    """Have a mirror's loop do something now, and wait for what came of it."""

    mirror: str
    environment: str = "local"
    order: str = MERGE_SIGNAL
    """`merge`, `rebuild-index`, `compact`, `bootstrap` or `maintain`."""
    dry_run: bool = False
    """Of `maintain`: only say what would be done."""


@dataclass(frozen=True)
class OrderReport:
    """What came of an order."""

    status: str
    """`done` or `failed`."""
    message: str
    cause: str = ""
    who: str = ""
    """Who must act when it failed: `user`, `operator`, `us` or `nobody`."""
    id: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    """Of `maintain`: what was done, as `UpkeepReport` counts it."""
    problem: str = ""
    """Of an order that was carried out but for something, which is tried again later."""


@dataclass(frozen=True)
class MergeInput:
    """Merge what the changelog has beyond the mirror's watermark."""

    environment: str
    mirror: str
    seconds: float = 60.0
    """After which no further piece is begun; the rest is for the next turn."""
    pieces: int = 0
    """The most pieces, each of them a commit; 0: no limit."""


@dataclass(frozen=True)
class MergeReport:
    """What one turn of merging did."""

    snapshot_id: str = ""
    """The mirror's newest, when this made one."""
    commits: int = 0
    scanned: int = 0
    """Changes that were read from the changelog."""
    upserted: int = 0
    deleted: int = 0
    """Rows that went without another version of them."""
    superseded: int = 0
    """Changes that a newer one of the same key made void, in the batch or in the mirror."""
    ties: int = 0
    """Changes with the key and sequence number of another one."""
    refused: int = 0
    """Changes of unknown keys from before the horizon: such a key may have been deleted, and nobody remembers."""
    more: bool = False
    """Whether the changelog has more."""
    watermark: str = ""
    """The changelog snapshot up to which the mirror has merged."""
    watermark_sequence: str = ""
    """The greatest sequence number that was ever merged."""
    watermark_time_ms: int = 0
    """When the changelog committed that snapshot, milliseconds since 1970."""
    lag_events: int = 0
    lag_seconds: float = 0.0
    """How long the oldest change that is not merged has been in the changelog; 0: there is none."""
    index_rebuilt: str = ""
    """Why the index had to be made anew; empty: it had not."""
    compaction_due: str = ""
    """Why the mirror should be compacted; empty: it need not."""
    waiting_for: str = ""
    """What must be there before anything can be merged; empty: nothing."""
    interval_seconds: float = 3600.0
    """How long the loop may rest, as config says; `MirrorActivities` say so of every report."""


@dataclass(frozen=True)
class MirrorInput:
    """A mirror, and little more to say."""

    environment: str
    mirror: str
    thorough: bool = False
    """Compaction: whatever is small or has deleted rows, whether config calls it due or not. Tidying: however little
    there is to be let go."""
    dry_run: bool = False
    """Tidying: only say what would expire and be deleted."""


@dataclass(frozen=True)
class CompactReport:
    """What a compaction did."""

    snapshot_id: str = ""
    """Empty: there was nothing to do."""
    files_before: int = 0
    files_after: int = 0
    rows: int = 0
    bytes: int = 0
    more: bool = False
    """Whether there is more to compact than one turn takes."""


@dataclass(frozen=True)
class TidyReport:
    """What became of old snapshots and of files that nobody needs any more."""

    announced: int = 0
    expired: int = 0
    deleted: int = 0
    """Objects."""
    bytes: int = 0
    problem: str = ""
    """Why something that was due could not be done; it is tried again with the next turn."""


@dataclass(frozen=True)
class VerifyMirrorInput:
    """Compare a mirror with the fold of its changelog."""

    environment: str
    mirror: str
    samples: int = 0
    """Key ranges that are compared; 0: everything."""
    ranges: int = 64
    """Of how many."""
    seed: int = 0


@dataclass(frozen=True)
class VerifyMirrorReport:
    """What the comparison found."""

    status: str
    """`equal`, `different`, or `index`: the rows are equal, and the index is not that of the rows."""
    message: str
    rows: int
    """Of the mirror, in the ranges that were compared."""
    expected: int
    checksum: str
    expected_checksum: str
    ranges: int
    watermark: str
    examples: list[str] = field(default_factory=list)
    """At most ten keys, each with what is wrong about it."""
    index: str = ""
    """`whole`, or what is wrong with it."""


@dataclass(frozen=True)
class MirrorTrouble:
    """What is wrong with a mirror, until somebody has acted or it has passed."""

    environment: str
    mirror: str
    merge: dict[str, str] = field(default_factory=dict)
    """Why it cannot go on: the name of each fault, or `Waiting` → with its message. Empty: it does."""
    upkeep: dict[str, str] = field(default_factory=dict)
    """`compaction` or `tidying` → what that keeps failing with. Empty: neither does."""


@dataclass(frozen=True)
class MirrorLag:
    """How far a mirror is behind its changelog."""

    events: int = 0
    """Changes that are not merged; of a snapshot that is merged in part, all."""
    seconds: float = 0.0
    """How long the oldest of them has been in the changelog; 0: there is none."""


class MirrorActivities:
    """The activities of mirrors, as workflows call them; `activities.mirrors.Mirrors` implements them."""

    @activity.defn(name="merge_mirror")
    async def merge_mirror(self, merge: MergeInput) -> MergeReport:
        """Bring what the changelog has beyond the watermark into the mirror, piece by piece, each in one commit."""
        raise NotImplementedError

    @activity.defn(name="rebuild_index")
    async def rebuild_index(self, asked: MirrorInput) -> MergeReport:
        """Make the mirror's index anew from the mirror and its changelog."""
        raise NotImplementedError

    @activity.defn(name="bootstrap_mirror")
    async def bootstrap_mirror(self, asked: MirrorInput) -> MergeReport:
        """Begin again from the changelog as it is now; readers see the old rows until the new ones are there."""
        raise NotImplementedError

    @activity.defn(name="compact_mirror")
    async def compact_mirror(self, asked: MirrorInput) -> CompactReport:
        """Rewrite files that are small or mostly deleted, in one commit."""
        raise NotImplementedError

    @activity.defn(name="tidy_mirror")
    async def tidy_mirror(self, asked: MirrorInput) -> TidyReport:
        """Announce new snapshots, let old ones expire, delete what none names any more, tag the changelog."""
        raise NotImplementedError

    @activity.defn(name="verify_mirror")
    async def verify_mirror(self, asked: VerifyMirrorInput) -> VerifyMirrorReport:
        """Compare the mirror with the fold of its changelog up to the watermark."""
        raise NotImplementedError

    @activity.defn(name="tell_trouble")
    async def tell_trouble(self, trouble: MirrorTrouble) -> bool:
        """Publish what is wrong with a mirror, or that nothing is any more; whether that was news."""
        raise NotImplementedError

    @activity.defn(name="watch_mirror")
    async def watch_mirror(self, trouble: MirrorTrouble) -> MirrorLag:
        """Tell lag and trouble of a mirror that does not merge now."""
        raise NotImplementedError

    @activity.defn(name="signal_mirror")
    async def signal_mirror(self, asked: MergeOnceRequest) -> str:
        """Send an order to the mirror's loop, with start; answers its workflow id."""
        raise NotImplementedError
