"""A table with the 37 columns of Xatu's attestation events, filled to order, one hour a partition."""

from collections.abc import Iterator

DATABASE, TABLE, NETWORK = "bench", "attestations", "benchnet"
FIRST_HOUR = 1_710_892_800
"""2024-03-20T00:00:00 UTC, in seconds."""
CLIENTS = 40
BATCH = 5_000_000

COLUMNS = {
    "updated_date_time": ("DateTime", "toDateTime(1711929600)"),
    "event_date_time": ("DateTime64(3)", "toDateTime64(at, 3) + (h % 12000) / 1000"),
    "slot": ("UInt32", "toUInt32(intDiv(toUnixTimestamp(at) - 1606824023, 12))"),
    "slot_start_date_time": ("DateTime", "at"),
    "propagation_slot_start_diff": ("UInt32", "toUInt32(h % 12000)"),
    "committee_index": ("LowCardinality(String)", "toString(h % 64)"),
    "attesting_validator_index": ("Nullable(UInt32)", "toUInt32(number % 1000003)"),
    "attesting_validator_committee_index": ("LowCardinality(String)", "toString(h % 512)"),
    "aggregation_bits": ("String", "concat('0x', lower(hex(cityHash64(number % 4096))))"),
    "beacon_block_root": ("FixedString(66)", "concat('0x', lower(hex(sipHash128(at))), lower(hex(sipHash128(at, 1))))"),
    "epoch": ("UInt32", "toUInt32(intDiv(toUnixTimestamp(at) - 1606824023, 384))"),
    "epoch_start_date_time": ("DateTime", "toDateTime(intDiv(toUnixTimestamp(at) - 23, 384) * 384 + 23)"),
    "source_epoch": ("UInt32", "toUInt32(intDiv(toUnixTimestamp(at) - 1606824023, 384) - 1)"),
    "source_epoch_start_date_time": ("DateTime", "toDateTime(intDiv(toUnixTimestamp(at) - 23, 384) * 384 - 361)"),
    "source_root": ("FixedString(66)", "concat('0x', lower(hex(sipHash128(epoch))), lower(hex(sipHash128(epoch, 1))))"),
    "target_epoch": ("UInt32", "toUInt32(intDiv(toUnixTimestamp(at) - 1606824023, 384))"),
    "target_epoch_start_date_time": ("DateTime", "toDateTime(intDiv(toUnixTimestamp(at) - 23, 384) * 384 + 23)"),
    "target_root": (
        "FixedString(66)",
        "concat('0x', lower(hex(sipHash128(epoch, 2))), lower(hex(sipHash128(epoch, 3))))",
    ),
    "meta_client_name": ("LowCardinality(String)", "concat('pub-asn-city/node/hashed-', hex(cityHash64(client)))"),
    "meta_client_version": ("LowCardinality(String)", "concat('v1.', toString(client % 5))"),
    "meta_client_implementation": ("LowCardinality(String)", "'Xatu'"),
    "meta_client_os": ("LowCardinality(String)", "'linux'"),
    "meta_client_ip": ("Nullable(IPv6)", "toIPv6(concat('::ffff:10.0.0.', toString(client)))"),
    "meta_client_geo_city": ("LowCardinality(String)", "concat('City ', toString(client % 20))"),
    "meta_client_geo_country": ("LowCardinality(String)", "concat('Country ', toString(client % 10))"),
    "meta_client_geo_country_code": ("LowCardinality(String)", "concat('C', toString(client % 10))"),
    "meta_client_geo_continent_code": ("LowCardinality(String)", "'EU'"),
    "meta_client_geo_longitude": ("Nullable(Float64)", "client * 1.5"),
    "meta_client_geo_latitude": ("Nullable(Float64)", "client * 0.5"),
    "meta_client_geo_autonomous_system_number": ("Nullable(UInt32)", "toUInt32(client * 7)"),
    "meta_client_geo_autonomous_system_organization": ("Nullable(String)", "concat('Org ', toString(client % 15))"),
    "meta_network_name": ("LowCardinality(String)", f"'{NETWORK}'"),
    "meta_consensus_version": ("LowCardinality(String)", "concat('v5.', toString(client % 9), '.0')"),
    "meta_consensus_version_major": ("LowCardinality(String)", "'5'"),
    "meta_consensus_version_minor": ("LowCardinality(String)", "toString(client % 9)"),
    "meta_consensus_version_patch": ("LowCardinality(String)", "'0'"),
    "meta_consensus_implementation": ("LowCardinality(String)", "'lighthouse'"),
}
REDACTED = [
    "meta_client_ip",
    "meta_client_geo_longitude",
    "meta_client_geo_latitude",
    "meta_client_geo_city",
    "meta_client_geo_country",
    "meta_client_geo_country_code",
    "meta_client_geo_continent_code",
]


def create(table: str = TABLE) -> Iterator[str]:
    """Database and table, as Xatu has it but for replication."""
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
    yield f"CREATE DATABASE IF NOT EXISTS {DATABASE}"
    yield (
        f"CREATE TABLE {DATABASE}.{table} ({columns}) ENGINE = ReplacingMergeTree(updated_date_time) "
        "PARTITION BY (meta_network_name, toYYYYMM(slot_start_date_time)) ORDER BY (meta_network_name, "
        "slot_start_date_time, meta_client_name, attesting_validator_index, attesting_validator_committee_index, "
        "aggregation_bits, beacon_block_root) SETTINGS allow_nullable_key = 1"
    )


def made(table: str, rows: int, at: str) -> str:
    """An INSERT of `rows` rows; `at` is SQL over `number` for a row's slot."""
    selected = ", ".join(f"{expression} AS {name}" for name, (_, expression) in COLUMNS.items())
    return (
        f"INSERT INTO {DATABASE}.{table} SELECT {selected} FROM (SELECT number, cityHash64(number) AS h, "
        f"number % {CLIENTS} AS client, {at} AS at FROM numbers({rows}))"
    )


def fill(hour: int, rows: int, table: str = TABLE) -> Iterator[str]:
    """`rows` rows spread over the slots of one hour: up to five million made, the others copied with other keys."""
    first = min(BATCH, rows)
    yield made(table, first, f"toDateTime({FIRST_HOUR + hour * 3600} + (number % 300) * 12 + 11)")
    start = f"toDateTime({FIRST_HOUR + hour * 3600}, 'UTC')"
    for copy in range(1, rows // first):
        yield (
            # Filtered inside: a replaced column hides the one of its name from WHERE.
            f"INSERT INTO {DATABASE}.{table} SELECT * REPLACE (attesting_validator_index + {copy * 1_000_003} AS "
            f"attesting_validator_index) FROM (SELECT * FROM {DATABASE}.{table} WHERE meta_network_name = '{NETWORK}' "
            f"AND slot_start_date_time >= {start} AND slot_start_date_time < {start} + 3600 "
            f"AND attesting_validator_index < 1000003)"
        )


def tables_yaml(table: str = TABLE, last: str = "2024-03-20") -> dict[str, object]:
    """What config says of it."""
    return {
        "groups": {
            "hourly": {
                "defaults": {"partition": {"type": "hourly", "column": "slot_start_date_time"}, "lag": "0s"},
                "tables": [
                    {
                        "name": table,
                        "database": DATABASE,
                        "networks": [{"name": NETWORK, "start_date": "2024-03-20", "end_date": last}],
                        "redacted_columns": REDACTED,
                    }
                ],
            }
        }
    }
