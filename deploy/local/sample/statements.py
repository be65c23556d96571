"""The statements that make the sample, take it away, and add late rows to it."""

from collections.abc import Iterator

from deploy.local.sample import beacon, clients, execution
from deploy.local.sample.beacon import Reports
from deploy.local.sample.networks import (
    BLOCK_DAYS,
    BLOCKS,
    CORRECTIONS,
    FIRST,
    NETWORKS,
    UNMERGED,
    Network,
    Version,
    seconds,
)
from deploy.local.sample.sql import Statement, literal
from deploy.local.sample.tables import ATTESTATIONS, BLOCK_EVENTS, COMMENT, EXECUTION_BLOCKS, TABLES, SampleTable

_REPORTED_PERCENT = 17
"""Block events that a client sends: of one slot in six."""
_LATE = seconds("2024-04-01")
"""Later than every version in the sample."""


def statements(*, cluster: str, scale: float = 1.0, database: str = "default") -> Iterator[Statement]:
    """Everything that makes the sample, in order. The tables must not exist.

    Args:
        cluster: A cluster of `system.clusters` whose every node has, or is, this database.
        scale: Multiplies the number of clients, and so the rows of the beacon tables.
        database: Where the tables go.
    """
    for table in TABLES:
        yield Statement(f"{table.name}: create the local table", table.create_local(database))
        yield Statement(f"{table.name}: create", table.create_distributed(database, cluster))
        for version in (FIRST, CORRECTIONS):
            yield from _inserts(table, version, scale, database)
        yield Statement(f"{table.name}: merge", f"OPTIMIZE TABLE {database}.{table.local} FINAL")
        for version in UNMERGED:
            yield from _inserts(table, version, scale, database)
        comment = literal(mark(scale))
        yield Statement(f"{table.name}: mark", f"ALTER TABLE {database}.{table.local} MODIFY COMMENT {comment}")


def mark(scale: float) -> str:
    """The comment of a local table that holds the whole sample at this scale."""
    return f"{COMMENT} 1, scale {float(scale):g}"


def drops(*, database: str = "default") -> Iterator[Statement]:
    """Takes the sample's tables away."""
    for table in TABLES:
        for name in (table.name, table.local):
            yield Statement(f"{name}: drop", f"DROP TABLE IF EXISTS {database}.{name} SYNC")


def late_rows(
    table: str, network: str, partition: str, *, serial: int = 1, count: int = 10, database: str = "default"
) -> Statement:
    """An INSERT of rows that arrive long after everything in the sample, so that an export of theirs is stale.

    Beacon tables get new rows of a client of their own, in the empty hour as well. Execution blocks of the sample are
    replaced, and those beyond its last block are new.

    Args:
        table: One of TABLES.
        network: One of the sample's.
        partition: `2024-03-20`, `2024-03-20T05`, or the first block.
        serial: Rows of a higher one arrive an hour later each.
        count: Slots, or blocks, from the beginning of the partition.
        database: Where the tables are.
    """
    chain = {known.name: known for known in NETWORKS}[network]
    title = f"{table}: late rows for {network} {partition}"
    arrival = _LATE + serial * 3600
    if table == EXECUTION_BLOCKS.name:
        version = Version("late rows", serial, (), 0)
        return Statement(
            title,
            execution.execution_blocks(database, chain, int(partition), count, version=version, arrival=arrival),
        )
    first, _ = chain.slots(seconds(partition), seconds(partition))
    reports = Reports(chain, first, count, clients.late_client(network, serial), arrival=arrival)
    make = {BLOCK_EVENTS.name: beacon.block_events, ATTESTATIONS.name: beacon.attestations}[table]
    return Statement(title, make(database, reports))


def _inserts(table: SampleTable, version: Version, scale: float, database: str) -> Iterator[Statement]:
    for network in NETWORKS:
        yield Statement(
            f"{table.name}: {network.name}, {version.title}", _insert(table, network, version, scale, database)
        )


def _insert(table: SampleTable, network: Network, version: Version, scale: float, database: str) -> str:
    if table is EXECUTION_BLOCKS:
        return execution.execution_blocks(database, network, 0, BLOCKS, version=version)
    start, end = BLOCK_DAYS if table is BLOCK_EVENTS else network.attestation_hours
    first, count = network.slots(seconds(start), seconds(end))
    roster = clients.roster(network.name, max(1, round(network.clients * scale)))
    if table is BLOCK_EVENTS:
        return beacon.block_events(database, Reports(network, first, count, roster, version, percent=_REPORTED_PERCENT))
    return beacon.attestations(
        database, Reports(network, first, count, roster, version, without_hour=network.empty_hour)
    )
