"""Which snapshots of a table may go: those that have not been its state for long enough."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Moment:
    """A snapshot: what came before it, and when it was made, in milliseconds since the epoch."""

    snapshot_id: int
    parent_id: int | None
    made_ms: int


def expirable(
    snapshots: Sequence[Moment], head: int | None, protected: Collection[int], *, keep: int, before_ms: int
) -> list[int]:
    """The snapshots that may go, oldest first.

    One goes when a later one has taken its place before `before_ms`, so that whoever began to read it has had that long
    to end. The newest `keep` of the line that leads to `head` stay, and so does whatever is `protected`.
    """
    by_id = {one.snapshot_id: one for one in snapshots}
    line: list[Moment] = []
    at = by_id.get(head) if head is not None else None
    while at is not None:
        line.append(at)
        at = by_id.get(at.parent_id) if at.parent_id is not None else None
    staying = {one.snapshot_id for one in line[: max(1, keep)]} | set(protected)
    gone = [
        one
        for one in snapshots
        if one.snapshot_id not in staying and any(one.made_ms < later.made_ms < before_ms for later in line)
    ]
    return [one.snapshot_id for one in sorted(gone, key=lambda one: one.made_ms)]
