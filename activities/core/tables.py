"""What config says of one exported table, resolved and free of defaults, files and secrets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from activities.core.faults import BadRequest

PartitionKind = Literal["daily", "hourly", "integer"]
Profile = Literal["portable", "as_published"]

PLACES = ("geo_city", "geo_country", "geo_country_code", "geo_continent_code")
COORDINATES = ("longitude", "latitude")
MULTIADDRESSES = ("multiaddr", "maddrs", "listen_addr", "observed_addr")
SENSITIVE: tuple[str, ...] = ("ip", *COORDINATES, *PLACES, "peer_id", "client_id", *MULTIADDRESSES)
"""A column looks sensitive when its name holds one of these (`looks_sensitive` says how), unless config says which."""


@dataclass(frozen=True)
class Clock:
    """A table of the same database that tells when each value of an integer partition column was."""

    table: str
    column: str
    """Its column of dates or times, beside one named as the partition column."""


@dataclass(frozen=True)
class PartitionRule:
    """How a table is cut: by UTC day, by UTC hour, or by `chunk_size` values of an integer column."""

    kind: PartitionKind
    column: str
    chunk_size: int = 0
    """Values per file; 0 unless `kind` is integer."""
    coarse_chunks: int = 0
    """Files per Iceberg partition (a truncate transform); 0 unless `kind` is integer."""
    clock: Clock | None = None
    """What turns dates into values; None unless `kind` is integer and config names one."""


@dataclass(frozen=True)
class NetworkRange:
    """One network of a table and what may be expected of it: ISO dates, or values of the integer column.

    `first` and `last` are partition labels (`2024-03-20`, or `0`), both inclusive; `last` is empty while the
    network lives.
    """

    name: str
    first: str
    last: str = ""


@dataclass(frozen=True)
class TableConfig:
    """One source table, everything about it that config decides."""

    name: str
    database: str
    source: str
    """`<environment>.<cluster>`, as export mappings write it."""
    partition: PartitionRule
    networks: tuple[NetworkRange, ...]
    group: str = ""
    """The group of tables.yaml that it stands in."""
    lag: int = 0
    """Seconds after a partition's end (values of the column, for integer partitions) before it is exported."""
    network_column: str = "meta_network_name"
    redacted_columns: tuple[str, ...] = ()
    allowed_columns: tuple[str, ...] = ()
    """Columns that look sensitive and may be published as they are."""
    sensitive_patterns: tuple[str, ...] = SENSITIVE
    """What makes a column's name look sensitive; words of a pattern are joined by underscores."""
    sharding_follows: Mapping[str, str] = field(default_factory=dict)
    """Column of a sharding key → the column that decides its value, which may be in the sorting key in its place."""
    profile: Profile = "portable"
    types: Mapping[str, str] = field(default_factory=dict)
    """Column → Iceberg type that overrides the profile's choice."""


def network_range(config: TableConfig, network: str) -> NetworkRange:
    """What config expects of one network of a table."""
    for known in config.networks:
        if known.name == network:
            return known
    names = ", ".join(known.name for known in config.networks)
    raise BadRequest(f"table {config.name} has no network {network!r}; it has {names}")
