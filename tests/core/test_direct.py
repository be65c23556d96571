"""What transfer `direct` says and understands, as real servers put it."""

import pytest

from activities.core.direct import attempt_key, is_answer, is_attempt, probe_query, probed, write_fault, write_query
from activities.core.faults import SourceRefused, SourceUnavailable, StoreRefused, StoreUnavailable
from activities.core.query import Query

ID = "icefleet-01234567-89ab-cdef-0123-456789abcdef"
KEY = "xatu/mainnet/databases/default/blocks/2024/3/20.parquet"
OWN = "xatu/mainnet/databases/default/blocks/2024/3/20-direct-0123456789abcdef0123456789abcdef.parquet"

CHUNK = "xatu/mainnet/databases/default/blocks/1/403-direct-0123456789abcdef0123456789abcdef.parquet"


def test_the_key_of_an_attempt_names_the_object_to_be_and_the_query_and_no_other_key_looks_like_it():
    assert attempt_key(KEY, ID) == OWN
    assert is_attempt(OWN)
    assert not any(
        map(is_attempt, [KEY, KEY.replace(".parquet", "-01234567.parquet"), f"{OWN}.tmp", f"{OWN}/1.parquet"])
    )
    assert attempt_key(KEY.replace(".parquet", "-00c0ffee.parquet"), ID).endswith("/20-00c0ffee-direct-" + OWN[-40:])


def test_the_statement_names_the_collection_and_holds_no_address_and_no_login():
    query = write_query(Query("SELECT 1 WHERE a = {network:String}", {"network": "mainnet"}), "my-bucket", OWN)
    assert query == Query(
        f"INSERT INTO FUNCTION s3(`my-bucket`, filename = '{OWN}', format = 'Parquet', compression_method = 'none') "
        "SELECT 1 WHERE a = {network:String}",
        {"network": "mainnet"},
    )
    assert probe_query("x").text.startswith("SELECT count() AS found FROM s3(`x`, filename = 'icefleet-config-check'")


DENIED = (
    f"Code: 499. DB::Exception: Failed to check existence of key {OWN} in bucket b: No response body.. HTTP response "
)
DENIED += "code: 403, error type: ACCESS_DENIED. Please check your AWS credentials and permissions. (S3_ERROR)"
NO_BUCKET = f"Code: 499. DB::Exception: Message: The specified bucket does not exist, bucket b, key {OWN}. (S3_ERROR)"
SLOW = f"Code: 499. DB::Exception: Message: Please reduce your request rate, bucket b, key {OWN}. (S3_ERROR)"
OWN_DISK = "Code: 499. DB::Exception: Message: Access Denied, bucket disks, key store/abc, 403. (S3_ERROR)"
NO_COLLECTION = "Code: 669. DB::Exception: There is no named collection `x`. (NAMED_COLLECTION_DOESNT_EXIST)"
NO_GRANT = (
    "Code: 497. DB::Exception: me: Not enough privileges. To execute this query, it's necessary to have the grant "
)
NO_TABLE = "Code: 60. DB::Exception: Unknown table expression identifier 'a'. (UNKNOWN_TABLE)"


@pytest.mark.parametrize(
    ("said", "meant", "words"),
    [
        (SourceUnavailable(DENIED), StoreRefused, "have keys, rights and url of the named collection 'x'"),
        (SourceUnavailable(NO_BUCKET), StoreRefused, "have keys, rights and url of the named collection 'x'"),
        (SourceUnavailable(SLOW), StoreUnavailable, "reduce your request rate"),
        (SourceUnavailable(SLOW.replace(OWN, CHUNK)), StoreUnavailable, "reduce your request rate"),
        # The source's own disks are none of the store's business.
        (SourceUnavailable(OWN_DISK), SourceUnavailable, OWN_DISK),
        (SourceRefused(NO_COLLECTION), SourceRefused, "docs/guides/transfer.md"),
        (SourceRefused(f"{NO_GRANT}NAMED COLLECTION ON x. (ACCESS_DENIED)"), SourceRefused, "docs/guides/transfer.md"),
        (SourceRefused(f"{NO_GRANT}S3 ON *.*. (ACCESS_DENIED)"), SourceRefused, "docs/guides/transfer.md"),
        (SourceRefused("Cannot execute query in readonly mode. (READONLY)"), SourceRefused, "docs/guides/transfer.md"),
    ],
)
def test_what_ends_a_write_is_the_stores_fault_the_collections_or_the_sources(said, meant, words):
    found = write_fault(said, "x", CHUNK if CHUNK in str(said) else OWN)
    assert type(found) is meant
    assert words in str(found)
    assert str(said) in str(found)


def test_what_has_nothing_to_do_with_the_collection_is_told_as_it_is():
    refused = SourceRefused(NO_TABLE)
    assert write_fault(refused, "x", OWN) is refused


def test_only_clickhouses_own_words_say_that_a_query_has_failed():
    assert is_answer(SourceUnavailable(f"ClickHouse here: {SLOW}"))
    assert not is_answer(SourceUnavailable("ClickHouse here cannot be reached: ServerDisconnectedError()"))


GONE = "Failed to get object info: No response body.. HTTP response code: 404: while reading 'p' in bucket 'b' on disk"


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        (GONE, ""),
        (GONE.replace("'b'", "'other'"), "leads to bucket 'other', and the environment's is 'b'"),
        (NO_BUCKET, "leads to a bucket that does not exist"),
        (GONE.replace("404", "403"), "cannot be used: Failed to get object info"),
        ("Connection refused", "cannot be used: Connection refused"),
    ],
)
def test_a_probe_tells_a_collection_that_leads_to_the_bucket_from_one_that_does_not(said, wrong):
    assert probed(said, "b").startswith(wrong)
    assert bool(probed(said, "b")) == bool(wrong)
