"""How long each activity may take and how often it is tried again.

| activity           | tried                | why                                                               |
|--------------------|----------------------|-------------------------------------------------------------------|
| list_networks      | for ever             | it only reads config                                              |
| deliver_request    | for ever             | it only talks to Temporal; a refused request is not retryable     |
| withdraw_request   | for ever             | it only talks to Temporal                                         |
| resolve_backfill   | for ever             | it only reads config; a refused request is not retryable          |
| estimate_table     | 5 times              | the estimate of that table fails, with cause                      |
| plan_partitions    | 5 times              | a source or catalog that stays away fails the request, with cause |
| export_partitions  | `partition_attempts` | then the partition is listed as failed and the others go on       |
| commit_partitions  | `commit_attempts`    | the objects are there: worth waiting for the catalog              |
| delete_orphans     | 5 times              | what is left is found again by the next request                   |
| expire_snapshots   | 5 times              | what is left is found again by the next request                   |
| refresh_public     | 5 times              | the same                                                          |
| adopt_files        | 5 times              | what is there already is passed over by the next try              |
| announce_snapshots | for ever             | an event is late, never lost; nothing waits for it                |
| look_at_partitions | 5 times              | a source or catalog that stays away fails the run, with its cause |
| compare_values     | 5 times              | the same                                                          |
| publish_metadata   | for ever             | the public copy is late, never lost; nothing waits for it         |
| publish_findings   | for ever             | the same                                                          |

What must not be retried says so itself (`activities.errors`). docs/errors.md has the time-outs, and every fault.
"""

from datetime import timedelta
from typing import Any

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType

from activities.contracts.export import COMMIT_SECONDS, ExportLimits
from activities.contracts.orphans import DELETION_SECONDS
from activities.contracts.upkeep import REFRESH_SECONDS

PLAN_ATTEMPTS = 5
HEARTBEAT = timedelta(seconds=10)
"""Planning, announcing and publishing say every second that their worker lives, whatever they wait for."""
DELIVER: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=20),
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
    # A delivery that is given up while it is under way may arrive after the withdrawal that follows it.
    "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
}
RESOLVE: dict[str, Any] = {
    # Dates become block numbers by the source, which may have to look through all blocks.
    "start_to_close_timeout": timedelta(minutes=10),
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30)),
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
}
ANNOUNCE: dict[str, Any] = {
    "start_to_close_timeout": timedelta(minutes=5),
    "heartbeat_timeout": HEARTBEAT,
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=15)),
    # An announcement can be dropped at any point: the next run derives what is missing.
    "cancellation_type": ActivityCancellationType.TRY_CANCEL,
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
}
DELETE_ORPHANS: dict[str, Any] = {
    # No heartbeat time-out: a worker that only lost its way to Temporal may still be deleting, and an object made
    # meanwhile under the key of a deleted one must not fall to it. So nothing goes on before the last of its requests
    # has lost its signature. Cancellations and a worker that says that it stops are heard at once all the same.
    "start_to_close_timeout": timedelta(seconds=DELETION_SECONDS),
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=5),
    "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
}


EXPIRE: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=COMMIT_SECONDS),
    "heartbeat_timeout": HEARTBEAT,
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=5),
    "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
}
REFRESH: dict[str, Any] = {
    # As for orphans: a copy that is held up must not land on an object that the table has come to name meanwhile.
    "start_to_close_timeout": timedelta(seconds=REFRESH_SECONDS),
    "retry_policy": RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=5),
    "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
}


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
    }
