"""What workflows and activities say of partitions that fail every time."""

from dataclasses import dataclass

OF_THE_PARTITION = frozenset(
    {"UnsupportedType", "SourceRefused", "ResultIncomplete", "ObjectRefused", "Bug", "TimedOut"}
)
"""Causes that are the partition's own, or may be: a query that its source refuses, a worker that dies of it.

All others say nothing about it: that something is away or full, that config, rights or schema are wrong, that somebody
else was faster.
"""


@dataclass(frozen=True)
class SuspendedPartition:
    """A partition that failed so often in a row that requests for whatever is due leave it out for a while."""

    partition: str
    cause: str
    """Name of the fault that it failed with last."""
    failures: int
    """How often in a row."""
    until: str
    """When it is tried again: `2024-03-20T04:00:00Z`."""
