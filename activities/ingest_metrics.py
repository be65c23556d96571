"""What ingests tell OpenTelemetry, by pipeline: events, how long they have been waiting, and what waits for people."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from opentelemetry import metrics

from activities.contracts.cdc import TableBatch
from activities.gauges import Lately, LongestWaiting, Waiting

_meter = metrics.get_meter("icefleet")
_EVENTS = _meter.create_counter(
    "icefleet.cdc.ingested_events", unit="{event}", description="Events that were committed to changelogs"
)
_LETTERS = _meter.create_counter(
    "icefleet.cdc.dead_letters", unit="{event}", description="Events that could not be written, or wait behind such"
)
_LAG = Waiting("icefleet.cdc.ingest_lag", "Age of the oldest event that waits in the buffer, at most: since its commit")
_COPY_LAG = LongestWaiting(
    "icefleet.cdc.copy_lag",
    "How long a table's first copy, for which its changes wait, has been failing",
    of="pipeline",
)
_STOPPED = Lately("icefleet.cdc.stopped_tables", "Tables that a person must resume", unit="{table}")
_KEPT = Lately("icefleet.cdc.waiting_letters", "Dead letters that a person must requeue or drop", unit="{event}")


@contextmanager
def ingesting(pipeline: str) -> Iterator[None]:
    """Report that events go on waiting if nothing could be ingested."""
    try:
        yield
    except Exception:
        _LAG.still({"pipeline": pipeline})
        raise


@contextmanager
def copying(pipeline: str, table: str) -> Iterator[None]:
    """Report a table's first copy that fails, and one that is done."""
    about = {"pipeline": pipeline, "table": table}
    try:
        yield
    except Exception:
        _COPY_LAG.still(about)
        raise
    _COPY_LAG.set(0, about)


def ingest_told(pipeline: str, batches: Sequence[TableBatch], waiting_since: datetime | None) -> None:
    """Report what was carried over; what is left was committed after `waiting_since` (None: nothing is left).

    What a table failed with that is not stopped waits for it to go on, whatever others have brought.
    """
    about = {"pipeline": pipeline}
    _EVENTS.add(sum(batch.events for batch in batches), about)
    _LETTERS.add(sum(batch.dead_letters for batch in batches), about)
    if any(batch.failed and not batch.stopped for batch in batches):
        _LAG.still(about)
    else:
        _LAG.set(waiting_since.timestamp() if waiting_since else 0, about)


def people_wanted(pipeline: str, stopped: int, letters: int) -> None:
    """Report how many tables are stopped, and how many letters wait by themselves."""
    _STOPPED.set(stopped, {"pipeline": pipeline})
    _KEPT.set(letters, {"pipeline": pipeline})
