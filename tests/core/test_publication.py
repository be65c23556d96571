"""What the public copy is called, when it may go, and what the catalog says."""

import json

import pytest

from activities.core.faults import BadConfig
from activities.core.publication import (
    FIRST_VERSION,
    Place,
    Shown,
    catalog_entry,
    expired,
    place_of,
    snapshot_in,
    version_in,
    version_of,
    with_entry,
)
from activities.core.tables import NetworkRange, PartitionRule, TableConfig

BLOCKS = TableConfig(
    "blocks", "default", "local.default", PartitionRule("integer", "number", 1000), (NetworkRange("mainnet", "0"),)
)
PLACE = place_of(BLOCKS, "mainnet", "data", "https://data.example.org/", "")


def test_what_lies_in_the_bucket_is_named_by_its_url_and_what_lies_elsewhere_stops_the_table():
    path = "s3://data/xatu/mainnet/databases/default/blocks/1000/0.parquet"
    assert PLACE.public(path) == "https://data.example.org/xatu/mainnet/databases/default/blocks/1000/0.parquet"
    assert PLACE.public(path.replace("s3:", "s3a:")) == PLACE.public(path)
    for foreign in (
        "s3://data2/x.parquet",
        "file:///data/x.parquet",
        "https://data.example.org/x.parquet",
        "s3://data/",
    ):
        with pytest.raises(BadConfig, match=r"mainnet\.blocks: .* lies outside bucket 'data'"):
            PLACE.public(foreign)


def test_all_of_a_tables_public_metadata_lies_under_its_own_prefix():
    prefix = "deep/xatu/mainnet/databases/default/blocks/metadata/"
    place = place_of(BLOCKS, "mainnet", "data", "https://data.example.org", "deep")
    assert place.hint == f"{prefix}version-hint.text"
    assert place.version(FIRST_VERSION + 1) == f"{prefix}v1000000001.metadata.json"
    assert place.copy("s3://lake/t/metadata/a-m0.avro").startswith(prefix)
    assert place.url == "https://data.example.org/deep/xatu/mainnet/databases/default/blocks"


def test_copies_of_different_sources_or_for_different_urls_never_share_a_name():
    elsewhere = Place(PLACE.table, PLACE.bucket, "https://new.example.org", PLACE.prefix)
    names = {place.copy(path) for place in (PLACE, elsewhere) for path in ("s3://lake/a.avro", "s3://lake/b.avro")}
    assert len(names) == 4
    assert PLACE.copy("s3://lake/a.avro") == PLACE.copy("s3://lake/a.avro")
    assert "lake" not in PLACE.copy("s3://lake/a.avro")


def test_hints_have_the_same_number_of_digits_for_a_thousand_million_commits():
    assert len(str(FIRST_VERSION + 1)) == len(str(2 * FIRST_VERSION)) == 10
    assert version_in(b"1000000042") == 1000000042
    assert {version_in(foreign) for foreign in (None, b"7", b"what is this", b"1000000042\n")} == {None}
    assert version_of(PLACE.version(1000000042)) == 1000000042
    assert version_of(PLACE.hint) is None


@pytest.mark.parametrize(
    ("made", "gone"),
    [
        ({}, set()),
        ({10: 5}, set()),
        ({8: 1, 9: 2, 10: 3}, {8, 9}),
        # Readers may still be with 9, however old it is: 10 has only just come.
        ({8: 1, 9: 2, 10: 200}, {8}),
        ({8: 1, 9: 150, 10: 200}, set()),
        # Nobody has pointed at 11 yet, and somebody may be about to.
        ({9: 1, 10: 2, 11: 3}, {9}),
    ],
)
def test_a_version_goes_when_the_one_after_it_is_old_and_the_current_one_never(made, gone):
    assert expired(made, 10, 100) == gone


def test_the_catalog_says_of_each_table_what_a_reader_needs_and_nothing_that_a_commit_changes():
    entry = catalog_entry(BLOCKS, "mainnet", PLACE)
    assert entry == {
        "name": "mainnet.blocks",
        "network": "mainnet",
        "database": "default",
        "table": "blocks",
        "url": "https://data.example.org/xatu/mainnet/databases/default/blocks",
        "partition": {"column": "number", "kind": "integer", "values_per_file": 1000},
        "scan": "SELECT * FROM iceberg_scan('https://data.example.org/xatu/mainnet/databases/default/blocks') LIMIT 10",
    }
    once = with_entry(None, entry)
    assert with_entry(once, entry) == once


def test_an_entry_takes_its_own_place_and_no_other_is_touched():
    catalog = None
    for name in ("c", "a", "b"):
        catalog = with_entry(catalog, {"name": name, "url": "old"})
    changed = json.loads(with_entry(catalog, {"name": "b", "url": "new"}))
    assert [(one["name"], one["url"]) for one in changed["tables"]] == [("a", "old"), ("b", "new"), ("c", "old")]
    for broken in (b"", b"[]", b'{"tables": 7}', b"\xff"):
        assert [one["name"] for one in json.loads(with_entry(broken, {"name": "a"}))["tables"]] == ["a"]


def test_a_snapshot_stays_that_is_shown_or_newer_than_what_is_published_and_any_may_go_where_nothing_is():
    shown = Shown(frozenset({7, 9}), newest=4)
    assert [shown.keeps(snapshot, 1) for snapshot in (7, 8, 9)] == [True, False, True]
    assert [shown.keeps(8, sequence) for sequence in (3, 4, 5)] == [False, False, True]
    assert not Shown().keeps(8, 5)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"snapshots": []}', b'{"snapshots": [{}]}', b'{"snapshots": [7]}'])
def test_what_is_no_version_of_ours_shows_no_snapshot(body):
    assert snapshot_in(b'{"snapshots": [{"snapshot-id": 9007199254740993, "sequence-number": 4}]}') == (2**53 + 1, 4)
    with pytest.raises((ValueError, LookupError, TypeError)):
        snapshot_in(body)
