"""How long each activity may take, how often it is tried again, and whose turn it is when workers are busy.

| activity            | queue          | tried                | why                                                    |
|---------------------|----------------|----------------------|--------------------------------------------------------|
| find_queues         | control, merge | for ever             | it only reads config; a refusal is not retryable       |
| list_networks       | control        | for ever             | it only reads config                                   |
| deliver_request     | control        | for ever             | it only talks to Temporal; a refusal is not retryable  |
| withdraw_request    | control        | for ever             | it only talks to Temporal                              |
| resolve_backfill    | control        | for ever             | it only reads config; a refusal is not retryable       |
| resolve_maintenance | control        | 5 times              | what stays away fails the request, with cause          |
| estimate_table      | export         | 5 times              | the estimate of that table fails, with cause           |
| plan_partitions     | export         | 5 times              | what stays away fails the request, with cause          |
| export_partitions   | export         | `partition_attempts` | then it is listed as failed and the others go on       |
| commit_partitions   | control        | `commit_attempts`    | the objects are there: worth waiting for the catalog   |
| delete_orphans      | upkeep         | 5 times              | what is left is found again by the next request        |
| expire_snapshots    | upkeep         | 5 times              | what is left is found again by the next request        |
| merge_manifests     | upkeep         | 5 times              | the same                                               |
| refresh_public      | upkeep         | 5 times              | the same                                               |
| adopt_files         | upkeep         | 5 times              | what is there is passed over by the next try           |
| announce_snapshots  | control        | for ever             | an event is late, never lost; nothing waits for it     |
| look_at_partitions  | verify         | 5 times              | what stays away fails the run, with cause              |
| compare_values      | verify         | 5 times              | the same                                               |
| publish_metadata    | control        | for ever             | the copy is late, never lost; nothing waits for it     |
| publish_findings    | control        | for ever             | the same                                               |
| signal_loop         | cdc            | for ever             | it only talks to Temporal; a refusal is not retryable  |
| stop_loops          | cdc            | for ever             | the same                                               |
| install_capture     | cdc            | 5 times              | what was set up stays; the next try goes on from there |
| uninstall_capture   | cdc            | 5 times              | the same, of what was removed                          |
| capture_changes     | cdc            | for ever             | the log waits, and grows, until somebody reads on      |
| watch_slot          | cdc            | 5 times              | the next minute looks again                            |
| ingest_batch        | cdc            | for ever             | events wait; upkeep that waits has its turn between    |
| keep_changelog      | cdc            | 5 times              | what is left is found again by the next request        |
| copy_table          | cdc            | for ever             | the table's events wait for it                         |
| announce_changelogs | cdc            | for ever             | an event is late, never lost; nothing waits for it;    |
|                     |                |                      | 5 times before a buffer is dropped, which fails then   |
| settle_letters      | cdc            | 5 times              | the order fails, with cause; it can be given again     |
| merge_mirror        | merge          | 20 times             | then the loop says so, and tries again every minute    |
| rebuild_index       | mirrors        | 20 times             | then the loop says so, merges what it can, tries again |
| bootstrap_mirror    | mirrors        | 20 times             | the same; readers have the old rows meanwhile          |
| compact_mirror      | merge          | 5 times              | merges wait meanwhile; the loop comes back to it       |
| tidy_mirror         | merge          | 10 times             | then the loop says so, and tries again every minute    |
| verify_mirror       | mirrors        | 5 times              | what stays away fails the run, with cause              |
| tell_trouble        | merge          | for ever             | an event is late, never lost; nothing waits for it     |
| watch_mirror        | merge          | 5 times              | the next minute looks again                            |
| signal_mirror       | merge          | for ever             | it only talks to Temporal; a refusal is not retryable  |

What must not be retried says so itself (`activities.errors`). docs/errors.md has the time-outs, and every fault.

The kinds of queues are those of `activities.contracts.queues`; each has slots of its own in a worker that serves it.
When all slots of one are taken, Temporal hands out what waits there by its priority: first what is short or ends what
has been begun (`AT_ONCE`), then what is due and what holds up a table (`DUE`), then everything else. What runs is not
interrupted.
"""

from datetime import timedelta
from typing import Any

from temporalio.common import Priority, RetryPolicy
from temporalio.workflow import ActivityCancellationType, ChildWorkflowCancellationType, ParentClosePolicy

from activities.contracts.export import COMMIT_SECONDS, ExportLimits
from activities.contracts.maintain import MAINTAIN_SECONDS
from activities.contracts.orphans import DELETION_SECONDS
from activities.contracts.upkeep import REFRESH_SECONDS

AT_ONCE = Priority(priority_key=1)
DUE = Priority(priority_key=2)
LOWEST_TURN = 5
"""Of Temporal's priorities, which begin with 1; what has none is served as 3."""
PLAN_ATTEMPTS = 5
HEARTBEAT = timedelta(seconds=10)
"""Planning, announcing and publishing say every second that their worker lives, whatever they wait for."""
DELIVER: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=20),
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
    # A delivery that is given up while it is under way may arrive after the withdrawal that follows it.
    "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    "priority": AT_ONCE,
}
RESOLVE: dict[str, Any] = {
    # Dates become block numbers by the source, which may have to look through all blocks.
    "start_to_close_timeout": timedelta(minutes=10),
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
    "priority": AT_ONCE,
}
PLAN: dict[str, Any] = {
    "start_to_close_timeout": timedelta(minutes=30),
    "heartbeat_timeout": HEARTBEAT,
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=PLAN_ATTEMPTS),
}
ESTIMATE: dict[str, Any] = {
    # As planning, of a whole range instead of a page.
    **PLAN,
    "start_to_close_timeout": timedelta(hours=2),
}
ADOPT: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=COMMIT_SECONDS),
    "heartbeat_timeout": HEARTBEAT,
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=5),
    "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    "priority": DUE,
}
ANNOUNCE: dict[str, Any] = {
    "start_to_close_timeout": timedelta(minutes=5),
    "heartbeat_timeout": HEARTBEAT,
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=15)),
    # An announcement can be dropped at any point: the next run derives what is missing.
    "cancellation_type": ActivityCancellationType.TRY_CANCEL,
    "priority": AT_ONCE,
}
ANNOUNCE_LAST: dict[str, Any] = {
    **ANNOUNCE,
    # Somebody waits for the answer.
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=5),
}
LOOK: dict[str, Any] = {
    "start_to_close_timeout": timedelta(minutes=60),
    "heartbeat_timeout": HEARTBEAT,
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=PLAN_ATTEMPTS),
    "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
}
COMPARE: dict[str, Any] = {
    **LOOK,
    # Both sides of a partition of any size are read from end to end.
    "start_to_close_timeout": timedelta(minutes=240),
    "heartbeat_timeout": timedelta(seconds=30),
}
PUBLISH: dict[str, Any] = {
    "start_to_close_timeout": timedelta(minutes=30),
    "heartbeat_timeout": HEARTBEAT,
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=15)),
    # It can be dropped at any point as well: what was written is found, and what was not is written by the next run.
    "cancellation_type": ActivityCancellationType.TRY_CANCEL,
    "priority": AT_ONCE,
}
DELETE_ORPHANS: dict[str, Any] = {
    # No heartbeat time-out: a worker that only lost its way to Temporal may still be deleting, and an object made
    # meanwhile under the key of a deleted one must not fall to it. So nothing goes on before the last of its requests
    # has lost its signature. Cancellations and a worker that says that it stops are heard at once all the same.
    "start_to_close_timeout": timedelta(seconds=DELETION_SECONDS),
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=5),
    "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    "priority": DUE,
}


EXPIRE: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=COMMIT_SECONDS),
    "heartbeat_timeout": HEARTBEAT,
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=5),
    "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    "priority": DUE,
}
MERGE_MANIFESTS: dict[str, Any] = {**EXPIRE}
RESOLVE_MAINTENANCE: dict[str, Any] = {
    # Tells which changelogs there are by a look at each.
    "start_to_close_timeout": timedelta(minutes=10),
    "heartbeat_timeout": HEARTBEAT,
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=5),
    "priority": AT_ONCE,
}
REFRESH: dict[str, Any] = {
    # As for orphans: a copy that is held up must not land on an object that the table has come to name meanwhile.
    "start_to_close_timeout": timedelta(seconds=REFRESH_SECONDS),
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=5),
    "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    "priority": DUE,
}


MAY_TAKE_LONG = timedelta(minutes=240)
"""One transaction may be of any size, and passes in one attempt; heartbeats tell of a worker that is gone."""
CAPTURE_TURN: dict[str, Any] = {
    "start_to_close_timeout": MAY_TAKE_LONG,
    "heartbeat_timeout": HEARTBEAT,
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=15)),
    # Its successor would find the slot taken.
    "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    "priority": AT_ONCE,
}
INGEST_TURN: dict[str, Any] = {
    **CAPTURE_TURN,
    # Arrow and compression leave the loop little of a busy core.
    "heartbeat_timeout": timedelta(seconds=30),
}
INGEST_ONCE: dict[str, Any] = {
    **INGEST_TURN,
    # What waits for its turn between two batches would wait for as long as the first of them fails.
    "retry_policy": RetryPolicy(maximum_attempts=1),
}
COPY: dict[str, Any] = {
    **CAPTURE_TURN,
    "start_to_close_timeout": timedelta(minutes=2880),
    "heartbeat_timeout": timedelta(seconds=30),
    "priority": DUE,
}
MERGE: dict[str, Any] = {
    **INGEST_TURN,
    # Some minutes, after which somebody should know: a loop sees nothing of what is tried again for ever.
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=15), maximum_attempts=20
    ),
    "priority": DUE,
}
REMAKE: dict[str, Any] = {
    **COPY,
    # As of merges, which wait meanwhile; the loop keeps the order, and tries it again.
    "retry_policy": MERGE["retry_policy"],
    "priority": Priority(priority_key=3),
}
COMPACT: dict[str, Any] = {
    **MERGE,
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=5),
    "priority": Priority(priority_key=3),
}
TIDY: dict[str, Any] = {
    **PUBLISH,
    "heartbeat_timeout": timedelta(seconds=30),
    # The loop notes it then, and begins again: in a minute and a half, since a busy loop's runs are short, too.
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=15), maximum_attempts=10
    ),
}
MAINTAIN_ONE: dict[str, Any] = {
    # A door of a loop that nobody serves any more would wait for ever, and all other tables for it.
    "execution_timeout": timedelta(seconds=MAINTAIN_SECONDS),
    # The door withdraws what its loop has not done; where nobody serves it, nobody would confirm that.
    "cancellation_type": ChildWorkflowCancellationType.TRY_CANCEL,
    "parent_close_policy": ParentClosePolicy.REQUEST_CANCEL,
}
KEEP: dict[str, Any] = {
    **EXPIRE,
    # Arrow and compression leave the loop little of a busy core.
    "heartbeat_timeout": timedelta(seconds=30),
}
TIDY_NOW: dict[str, Any] = {
    **TIDY,
    # Merges wait meanwhile, and somebody for the answer.
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3),
}
SETTLE: dict[str, Any] = {
    "start_to_close_timeout": timedelta(minutes=5),
    "heartbeat_timeout": HEARTBEAT,
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=5),
    "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    "priority": AT_ONCE,
}
WATCH_SLOT: dict[str, Any] = {**SETTLE}
WATCH_MIRROR: dict[str, Any] = {**SETTLE}
INSTALL: dict[str, Any] = {
    **SETTLE,
    # A publication waits for transactions that hold its tables.
    "start_to_close_timeout": timedelta(minutes=30),
}
STOP_LOOPS: dict[str, Any] = {
    "start_to_close_timeout": timedelta(minutes=10),
    "heartbeat_timeout": HEARTBEAT,
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
    "priority": AT_ONCE,
}


def turn_of(priority: int) -> Priority:
    """Where activities stand in line that serve a request of this priority: 1 for what is due, 2 for a range."""
    return Priority(priority_key=min(max(priority + 1, 2), LOWEST_TURN))


def export_policy(limits: ExportLimits) -> dict[str, Any]:
    """Timeouts and retries of `export_partitions`; a cancelled one is waited for, so that its query is gone."""
    return {
        "start_to_close_timeout": timedelta(seconds=limits.partition_timeout_seconds),
        "heartbeat_timeout": timedelta(seconds=limits.heartbeat_seconds),
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(seconds=limits.retry_initial_seconds),
            maximum_interval=timedelta(minutes=5),
            maximum_attempts=limits.partition_attempts,
        ),
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }


def commit_policy(limits: ExportLimits) -> dict[str, Any]:
    """Timeouts and retries of `commit_partitions`."""
    return {
        "start_to_close_timeout": timedelta(seconds=COMMIT_SECONDS),
        "heartbeat_timeout": timedelta(seconds=limits.heartbeat_seconds),
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(seconds=limits.retry_initial_seconds),
            maximum_interval=timedelta(minutes=1),
            maximum_attempts=limits.commit_attempts,
        ),
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        "priority": AT_ONCE,
    }
