"""What goes into one page, and what of it into one activity."""

import dataclasses

from activities.contracts.export import ExportLimits, PlannedPartition
from workflows.export_requests import next_page, shared_activities

LIMITS = ExportLimits(
    parallel_partitions=4,
    partitions_per_commit=100,
    pages_per_run=40,
    heartbeat_seconds=20,
    partition_timeout_seconds=60,
    partition_attempts=5,
    commit_attempts=10,
    retry_initial_seconds=1,
    small_partition_rows=1_000,
    partitions_per_activity=16,
    rows_per_commit=10_000,
)


def planned(*rows: int) -> list[PlannedPartition]:
    return [PlannedPartition(str(number), "missing", rows=count) for number, count in enumerate(rows)]


def sizes(*rows: int, limits: ExportLimits = LIMITS) -> list[list[int]]:
    return [[one.rows for one in group] for group in shared_activities(planned(*rows), limits)]


def test_a_page_ends_with_the_partition_that_reaches_its_rows_or_with_the_last_that_it_may_hold():
    assert len(next_page(planned(*[10] * 300), LIMITS)) == 100
    assert [one.rows for one in next_page(planned(4_000, 4_000, 4_000, 4_000), LIMITS)] == [4_000] * 3
    assert [one.rows for one in next_page(planned(10**9, 1), LIMITS)] == [10**9]
    assert next_page([], LIMITS) == []


def test_small_partitions_share_an_activity_as_far_as_that_keeps_every_slot_busy():
    assert sizes(*[10] * 4) == [[10]] * 4
    assert sizes(*[10] * 9) == [[10] * 3] * 3
    assert sizes(*[10] * 100) == [[10] * 16] * 6 + [[10] * 4]
    assert sizes(*[10] * 100, limits=dataclasses.replace(LIMITS, partitions_per_activity=1)) == [[10]] * 100


def test_large_partitions_and_those_that_nobody_counted_are_alone_and_the_order_stays():
    one = dataclasses.replace(LIMITS, parallel_partitions=1)
    assert sizes(5, 2_000, 6, 0, 7, limits=one) == [[5, 6, 7], [2_000], [0]]
    assert sizes(1_000, 1_001, limits=one) == [[1_000], [1_001]]
