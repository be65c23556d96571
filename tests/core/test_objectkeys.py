from dataclasses import replace

import pytest

from activities.core.faults import BadConfig
from activities.core.objectkeys import index_of_key, public_key, replacement_key
from activities.core.partitions import index_of
from activities.core.tables import PartitionRule, TableConfig

DAILY = TableConfig(
    "beacon_api_eth_v1_events_block",
    "default",
    "production.default",
    PartitionRule("daily", "slot_start_date_time"),
    (),
)
HOURLY = replace(
    DAILY, name="beacon_api_eth_v1_events_attestation", partition=PartitionRule("hourly", "slot_start_date_time")
)
CHUNKED = replace(DAILY, name="canonical_execution_block", partition=PartitionRule("integer", "block_number", 1000))
UNDER = "xatu/mainnet/databases/default"


@pytest.mark.parametrize(
    ("config", "label", "key"),
    [
        (DAILY, "2024-03-20", f"{UNDER}/beacon_api_eth_v1_events_block/2024/3/20"),
        (DAILY, "2024-12-01", f"{UNDER}/beacon_api_eth_v1_events_block/2024/12/1"),
        (HOURLY, "2026-08-21T00", f"{UNDER}/beacon_api_eth_v1_events_attestation/2026/8/21/0"),
        (HOURLY, "2026-08-21T23", f"{UNDER}/beacon_api_eth_v1_events_attestation/2026/8/21/23"),
        (CHUNKED, "20000000", f"{UNDER}/canonical_execution_block/1000/20000000"),
        (CHUNKED, "0", f"{UNDER}/canonical_execution_block/1000/0"),
    ],
)
def test_keys_are_those_the_public_already_uses(config, label, key):
    index = index_of(config.partition, label)
    assert public_key(config, "mainnet", index) == f"{key}.parquet"
    assert replacement_key(config, "mainnet", index, "00c0ffee") == f"{key}-00c0ffee.parquet"
    assert index_of_key(config, "mainnet", f"{key}.parquet") == index
    assert index_of_key(config, "mainnet", f"{key}-00c0ffee.parquet") is None


@pytest.mark.parametrize(
    ("config", "rest"),
    [
        (DAILY, "2024/03/20.parquet"),
        (DAILY, "2024/2/30.parquet"),
        (DAILY, "2024/3/20/5.parquet"),
        (DAILY, "2024/3/20"),
        (DAILY, "1969/12/31.parquet"),
        (DAILY, "readme.parquet"),
        (HOURLY, "2024/3/20.parquet"),
        (HOURLY, "2024/3/20/24.parquet"),
        (CHUNKED, "1000/1500.parquet"),
        (CHUNKED, "500/1000.parquet"),
        (CHUNKED, "1000/-1000.parquet"),
        (CHUNKED, "1000/01000.parquet"),
    ],
)
def test_a_key_that_the_public_does_not_use_belongs_to_no_partition(config, rest):
    assert index_of_key(config, "mainnet", f"{UNDER}/{config.name}/{rest}") is None
    assert index_of_key(config, "mainnet", f"{UNDER}/other/{rest}") is None


@pytest.mark.parametrize(
    "name", ["", "..", ".", "a/b", "a\\b", "../x", "a..b", "a\nb", "a b", "a%2fb", "-a", "é", "a?b"]
)
def test_no_name_escapes_its_prefix(name):
    with pytest.raises(BadConfig, match="cannot be part of an object key"):
        public_key(DAILY, name, 1)
    with pytest.raises(BadConfig, match="cannot be part of an object key"):
        public_key(replace(DAILY, name=name), "mainnet", 1)
    with pytest.raises(BadConfig, match="cannot be part of an object key"):
        public_key(replace(DAILY, database=name), "mainnet", 1)


@pytest.mark.parametrize("short_id", ["", "xyz", "0123456", "012345678", "0123456G", "../../../x", "0123abcd\n"])
def test_a_replacement_needs_a_short_id_of_eight_hex_digits(short_id):
    with pytest.raises(BadConfig, match="8 lower-case hex digits"):
        replacement_key(DAILY, "mainnet", 1, short_id)


def test_a_partition_before_the_first_has_no_key():
    with pytest.raises(BadConfig, match="before the first"):
        public_key(CHUNKED, "mainnet", -1)
