"""The sample's tables: columns and keys as Xatu has them."""

from collections.abc import Mapping
from dataclasses import dataclass

COMMENT = "icefleet sample"
"""What the comments of the sample's tables begin with: nothing else may be dropped."""

_CLIENT: Mapping[str, str] = {
    "meta_client_name": "LowCardinality(String)",
    "meta_client_version": "LowCardinality(String)",
    "meta_client_implementation": "LowCardinality(String)",
    "meta_client_os": "LowCardinality(String)",
    "meta_client_ip": "Nullable(IPv6)",
    "meta_client_geo_city": "LowCardinality(String)",
    "meta_client_geo_country": "LowCardinality(String)",
    "meta_client_geo_country_code": "LowCardinality(String)",
    "meta_client_geo_continent_code": "LowCardinality(String)",
    "meta_client_geo_longitude": "Nullable(Float64)",
    "meta_client_geo_latitude": "Nullable(Float64)",
    "meta_client_geo_autonomous_system_number": "Nullable(UInt32)",
    "meta_client_geo_autonomous_system_organization": "Nullable(String)",
    "meta_network_name": "LowCardinality(String)",
    "meta_consensus_version": "LowCardinality(String)",
    "meta_consensus_version_major": "LowCardinality(String)",
    "meta_consensus_version_minor": "LowCardinality(String)",
    "meta_consensus_version_patch": "LowCardinality(String)",
    "meta_consensus_implementation": "LowCardinality(String)",
}


@dataclass(frozen=True)
class SampleTable:
    """A Distributed table `name` over the local table `<name>_local`."""

    name: str
    columns: Mapping[str, str]
    """Name → ClickHouse type, in order."""
    partition_by: str
    order_by: tuple[str, ...]
    sharding_key: str
    nullable_key: bool = False

    @property
    def local(self) -> str:
        """The name of the table that holds the rows."""
        return f"{self.name}_local"

    def create_local(self, database: str) -> str:
        """SQL that makes the table of the rows.

        `Replicated*` engines need a Keeper, so the plain one takes their place. Merges in the background are off, so
        that versions which are not merged stay as they are, however long somebody looks at them.
        """
        columns = ",\n    ".join(f"{name} {kind}" for name, kind in self.columns.items())
        settings = {"max_bytes_to_merge_at_max_space_in_pool": 1, "max_bytes_to_merge_at_min_space_in_pool": 1}
        if self.nullable_key:
            settings["allow_nullable_key"] = 1
        return (
            f"CREATE TABLE {database}.{self.local} (\n    {columns}\n)\n"
            f"ENGINE = ReplacingMergeTree(updated_date_time)\nPARTITION BY {self.partition_by}\n"
            f"ORDER BY ({', '.join(self.order_by)})\n"
            f"SETTINGS {', '.join(f'{name} = {value}' for name, value in settings.items())}\nCOMMENT '{COMMENT}'"
        )

    def create_distributed(self, database: str, cluster: str) -> str:
        """SQL that makes the table which is queried."""
        return (
            f"CREATE TABLE {database}.{self.name} AS {database}.{self.local}\n"
            f"ENGINE = Distributed('{cluster}', '{database}', '{self.local}', {self.sharding_key})\nCOMMENT '{COMMENT}'"
        )


BLOCK_EVENTS = SampleTable(
    name="beacon_api_eth_v1_events_block",
    columns={
        "updated_date_time": "DateTime",
        "event_date_time": "DateTime64(3)",
        "slot": "UInt32",
        "slot_start_date_time": "DateTime",
        "propagation_slot_start_diff": "UInt32",
        "block": "FixedString(66)",
        "epoch": "UInt32",
        "epoch_start_date_time": "DateTime",
        "execution_optimistic": "Bool",
        **_CLIENT,
    },
    partition_by="(meta_network_name, toYYYYMM(slot_start_date_time))",
    order_by=("meta_network_name", "slot_start_date_time", "meta_client_name", "block"),
    sharding_key="cityHash64(slot_start_date_time, meta_network_name, meta_client_name, block)",
)

ATTESTATIONS = SampleTable(
    name="beacon_api_eth_v1_events_attestation",
    columns={
        "updated_date_time": "DateTime",
        "event_date_time": "DateTime64(3)",
        "slot": "UInt32",
        "slot_start_date_time": "DateTime",
        "propagation_slot_start_diff": "UInt32",
        "committee_index": "LowCardinality(String)",
        "attesting_validator_index": "Nullable(UInt32)",
        "attesting_validator_committee_index": "LowCardinality(String)",
        "aggregation_bits": "String",
        "beacon_block_root": "FixedString(66)",
        "epoch": "UInt32",
        "epoch_start_date_time": "DateTime",
        "source_epoch": "UInt32",
        "source_epoch_start_date_time": "DateTime",
        "source_root": "FixedString(66)",
        "target_epoch": "UInt32",
        "target_epoch_start_date_time": "DateTime",
        "target_root": "FixedString(66)",
        **_CLIENT,
    },
    partition_by="(meta_network_name, toYYYYMM(slot_start_date_time))",
    order_by=(
        "meta_network_name",
        "slot_start_date_time",
        "meta_client_name",
        "attesting_validator_index",
        "attesting_validator_committee_index",
        "aggregation_bits",
        "beacon_block_root",
    ),
    sharding_key="cityHash64(slot_start_date_time, meta_client_name)",
    nullable_key=True,
)

EXECUTION_BLOCKS = SampleTable(
    name="canonical_execution_block",
    columns={
        "updated_date_time": "DateTime",
        "block_date_time": "DateTime64(3)",
        "block_number": "UInt64",
        "block_hash": "FixedString(66)",
        "author": "Nullable(String)",
        "gas_used": "Nullable(UInt64)",
        "gas_limit": "UInt64",
        "extra_data": "Nullable(String)",
        "extra_data_string": "Nullable(String)",
        "base_fee_per_gas": "Nullable(UInt64)",
        "meta_network_name": "LowCardinality(String)",
    },
    partition_by="(meta_network_name, intDiv(block_number, 5000000))",
    order_by=("meta_network_name", "block_number"),
    sharding_key="cityHash64(block_number, meta_network_name)",
)

TABLES = (BLOCK_EVENTS, ATTESTATIONS, EXECUTION_BLOCKS)
