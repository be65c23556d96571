"""Which queue each piece of work waits in, so that what is short never waits for what is long.

A queue has slots of its own in every worker that serves it: exports that fill theirs leave those of commits free. What
people start, and all loops, wait in the queues that documents name (`icefleet-export`, `icefleet-cdc`,
`icefleet-merge`); the others hold activities only, and loops ask for their names, which config decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from temporalio import activity

WORK: Mapping[str, tuple[str, ...]] = {
    # Where requests and loops of tables live, and what is short: it waits for no source.
    "control": (
        "find_queues",
        "list_networks",
        "deliver_request",
        "withdraw_request",
        "resolve_backfill",
        "resolve_maintenance",
        "commit_partitions",
        "announce_snapshots",
        "publish_metadata",
        "publish_findings",
    ),
    # What one source cluster has to answer, however long that takes it.
    "export": ("plan_partitions", "estimate_table", "export_partitions"),
    # Pages that a table's loop waits for, and with it the table's exports.
    "upkeep": ("delete_orphans", "adopt_files", "expire_snapshots", "merge_manifests", "refresh_public"),
    # What reads whole tables, and holds nothing up.
    "verify": ("look_at_partitions", "compare_values"),
    # Where loops of mirrors live.
    "merge": (
        "find_queues",
        "merge_mirror",
        "compact_mirror",
        "tidy_mirror",
        "tell_trouble",
        "watch_mirror",
        "signal_mirror",
    ),
    # What reads whole mirrors and changelogs.
    "mirrors": ("rebuild_index", "bootstrap_mirror", "verify_mirror"),
    # Where loops of pipelines live; their worker has a slot for everything that they can have under way at once.
    "cdc": (
        "install_capture",
        "uninstall_capture",
        "capture_changes",
        "watch_slot",
        "ingest_batch",
        "keep_changelog",
        "copy_table",
        "announce_changelogs",
        "settle_letters",
        "signal_loop",
        "stop_loops",
    ),
}
"""Kind of queue → the activities that wait there."""


@dataclass(frozen=True)
class QueuesInput:
    """Whose queues: those of an environment's table, or of its mirrors if none is named."""

    environment: str
    table: str = ""
    network: str = ""


@dataclass(frozen=True)
class Queues:
    """Task queues of work that loops send away, by its kind."""

    export: str
    """Of the cluster that the table comes from; empty when no table was named."""
    upkeep: str
    verify: str
    mirrors: str


class QueueActivities:
    """What every loop asks before it sends work to another queue. `activities.queues` implements it."""

    @activity.defn(name="find_queues")
    async def find_queues(self, asked: QueuesInput) -> Queues:
        """The queues in which work of a table, or of mirrors, waits for workers."""
        raise NotImplementedError
