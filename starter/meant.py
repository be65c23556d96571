"""What a request names, held against config before anything is started: what cannot be would fail where few look."""

from activities.core.partitions import span_of
from worker.config import Settings


def check_meant(
    settings: Settings, environment: str, table: str, network: str, first: str = "", last: str = ""
) -> None:
    """Refuse a table, a network or a range that cannot be meant.

    Raises:
        BadRequest: says which, and what is known.
    """
    config = settings.table(environment, table, network)
    if first or last:
        span_of(config.partition, first or last, last or first)
