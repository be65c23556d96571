"""Which keys name a partition that may be adopted, and what a redacted column may show."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.core.adopting import Places, check_adoption, is_blank
from activities.core.faults import BadRequest
from activities.core.objectkeys import public_key, read_key, replacement_key, table_prefix
from activities.core.partitions import index_of
from activities.core.tables import NetworkRange, PartitionRule, TableConfig

NETWORKS = (NetworkRange("mainnet", "2024-03-01", ""),)
DAILY = TableConfig("blocks", "default", "local.default", PartitionRule("daily", "at"), NETWORKS)
HOURLY = replace(DAILY, partition=PartitionRule("hourly", "at"))
CHUNKED = replace(
    DAILY, partition=PartitionRule("integer", "number", 1000), networks=(NetworkRange("mainnet", "5000", "99999"),)
)
NOW = 1_710_979_200  # 2024-03-21T00:00 UTC
PREFIX = table_prefix(DAILY, "mainnet")


@pytest.mark.parametrize(("config", "last"), [(DAILY, 49_672), (HOURLY, 49_672 * 24), (CHUNKED, (2**63 - 1) // 1000)])
@given(st.data())
def test_a_key_is_read_back_as_the_partition_that_it_was_made_for(config, last, data):
    index = data.draw(st.integers(0, last))
    assert read_key(config, "mainnet", public_key(config, "mainnet", index)) == (index, "")
    beside = replacement_key(config, "mainnet", index, "00c0ffee")
    assert read_key(config, "mainnet", beside) == (index, "00c0ffee")


@given(st.text("0123456789/-.abcdefT", max_size=20))
def test_no_other_key_is_taken_for_one_of_a_partition(text):
    for config in (DAILY, HOURLY, CHUNKED):
        key = f"{PREFIX}{text}.parquet"
        try:
            index, short_id = read_key(config, "mainnet", key)
        except BadRequest:
            continue
        made = replacement_key(config, "mainnet", index, short_id) if short_id else public_key(config, "mainnet", index)
        assert made == key


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (DAILY, "2024/03/20.parquet"),
        (DAILY, "2024/3/020.parquet"),
        (DAILY, "2024/2/30.parquet"),
        (DAILY, "2024/3/20/5.parquet"),
        (DAILY, "2024/3/20.PARQUET"),
        (DAILY, "2024/3/20.parquet.tmp"),
        (DAILY, "2024/3/20-1.parquet"),
        (DAILY, "2024/3/٢٠.parquet"),
        (HOURLY, "2024/3/20.parquet"),
        (HOURLY, "2024/3/20/24.parquet"),
        (CHUNKED, "100/0.parquet"),
        (CHUNKED, "1000/1.parquet"),
        (CHUNKED, "1000/9223372036854775808.parquet"),
    ],
)
def test_padded_and_foreign_keys_are_refused(config, key):
    with pytest.raises(BadRequest):
        read_key(config, "mainnet", PREFIX + key)
    with pytest.raises(BadRequest, match="is no key of a partition"):
        read_key(config, "holesky", PREFIX + "2024/3/20.parquet")


def found(config, key, *, first="", last="", head=None):
    places = Places.of(config, "mainnet", first, last, NOW, head)
    index, refusal = places.find(PREFIX + key)
    return (refusal.reason if refusal else "", index in places.asked)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("2024/3/20.parquet", ""),
        ("2024/3/1.parquet", ""),
        ("2024/2/29.parquet", "unexpected"),
        ("2024/3/21.parquet", "open"),
        ("2025/1/1.parquet", "open"),
        ("2024/3/20-00c0ffee.parquet", "replacement"),
        ("notes.txt", "no_partition"),
    ],
)
def test_a_key_says_whether_its_file_may_be_adopted(key, reason):
    assert found(DAILY, key)[0] == reason


def test_what_was_not_asked_for_is_not_judged():
    assert found(DAILY, "2024/2/29.parquet", first="2024-03-10", last="2024-03-12") == ("", False)
    assert found(DAILY, "2024/3/12.parquet", first="2024-03-10", last="2024-03-12") == ("", True)
    assert found(DAILY, "2024/3/12.parquet", first="2024-03-12") == ("", True)
    assert found(DAILY, "2024/3/12.parquet", last="2024-03-11") == ("", False)


def test_chunks_are_complete_up_to_the_head_and_all_of_them_when_the_source_has_no_rows_any_more():
    assert found(CHUNKED, "1000/6000.parquet", head=6999) == ("", True)
    assert found(CHUNKED, "1000/6000.parquet", head=6998) == ("open", True)
    assert found(CHUNKED, "1000/99000.parquet", head=None) == ("", True)
    assert found(CHUNKED, "1000/100000.parquet", head=None) == ("unexpected", True)
    assert found(CHUNKED, "1000/4000.parquet", head=None) == ("unexpected", True)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "::",
        "0.0.0.0",
        "::ffff:0.0.0.0",
        "REDACTED",
        "0",
        0,
        0.0,
        -0.0,
        bytes(4),
        bytes(16),
        bytes(10) + b"\xff\xff" + bytes(4),
        b"REDACTED\0\0",
        b"::",
    ],
)
def test_a_blank_value_says_nothing_of_anybody(value):
    assert is_blank(value)


@pytest.mark.parametrize("value", ["::1", "Berlin", 1, 52.5, bytes(15) + b"\1", b"\xff" * 16, "redacted"])
def test_any_other_value_may(value):
    assert not is_blank(value)


def test_a_request_that_cannot_be_is_refused_with_the_field():
    check_adoption(DAILY, "", "", ["legacy"], [])
    with pytest.raises(BadRequest, match="'extra_columns': peer_id may say who or where somebody is"):
        check_adoption(DAILY, "", "", ["legacy", "peer_id"], [])
    with pytest.raises(BadRequest, match="'unredacted': blocks does not redact slot; it redacts nothing"):
        check_adoption(DAILY, "", "", [], ["slot"])
    with pytest.raises(BadRequest, match="'extra_columns' must be a list of names of columns; 7 is none"):
        check_adoption(DAILY, "", "", ["legacy", 7], [])
    with pytest.raises(BadRequest, match="is not a date"):
        check_adoption(DAILY, "march", "", [], [])
    assert index_of(DAILY.partition, "1970-01-01") == 0
