"""What upkeep tells OpenTelemetry, by kind of table; reports say it of each table."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import metrics

from activities.core.faults import Fault
from activities.tries import is_last

_meter = metrics.get_meter("icefleet")
_EXPIRED = _meter.create_counter("icefleet.upkeep.snapshots_expired", description="Snapshots that were let go")
_DELETED = _meter.create_counter("icefleet.upkeep.files_deleted", description="Objects that nothing named any more")
_FREED = _meter.create_counter("icefleet.upkeep.bytes_freed", unit="By", description="Bytes of deleted objects")
_MANIFESTS = _meter.create_counter(
    "icefleet.upkeep.manifests_merged", description="Manifests that heads have fewer since small ones were put together"
)
_COMPACTED = _meter.create_counter(
    "icefleet.upkeep.files_compacted", description="Files of changelogs that were put together with others"
)
_PROBLEMS = _meter.create_counter(
    "icefleet.upkeep.problems", description="Times that something due could not be done, and was left for later"
)


def count(
    kind: str,
    *,
    expired: int = 0,
    deleted: int = 0,
    freed: int = 0,
    manifests: int = 0,
    compacted: int = 0,
    problems: int = 0,
) -> None:
    """Add what was done to the tables of one kind: `export`, `changelog` or `mirror`."""
    attributes = {"kind": kind}
    for counter, value in (
        (_EXPIRED, expired),
        (_DELETED, deleted),
        (_FREED, freed),
        (_MANIFESTS, manifests),
        (_COMPACTED, compacted),
        (_PROBLEMS, problems),
    ):
        if value:
            counter.add(value, attributes)


@contextmanager
def problems_told(kind: str, *, dry_run: bool) -> Iterator[None]:
    """Report a step of upkeep that failed, once no further try follows; a dry run tells whoever waits for it."""
    if dry_run:
        yield
        return
    _PROBLEMS.add(0, {"kind": kind})  # whoever asks for an increase misses what a counter begins with
    try:
        yield
    except Fault as fault:
        if is_last(fault):
            count(kind, problems=1)
        raise
