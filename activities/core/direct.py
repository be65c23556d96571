"""What the transfer `direct` says to ClickHouse, and what it makes of the answers."""

import re

from activities.core.faults import Fault, SourceRefused, StoreRefused, StoreUnavailable
from activities.core.query import Query
from activities.core.sqltext import quote_identifier, quote_text

GUIDE = "docs/guides/transfer.md says how to create it and what to grant"
WRITE_SETTINGS = {
    # A key is used once: were it taken, neither what is there nor another key may be written.
    "s3_truncate_on_insert": 0,
    "s3_create_new_file_on_insert": 0,
}
PROBED = "icefleet-config-check"
"""A key at which there is nothing."""
_PROBE = "SELECT count() AS found FROM s3({}, format = 'RawBLOB', structure = 'raw String')"
_ATTEMPT = re.compile(r"-direct-[0-9a-f]{32}\.parquet$", re.ASCII)
_ANSWER = re.compile(r"Code: \d+\. DB::Exception", re.ASCII)
_DENIED = re.compile(r"\b403\b|ACCESS_DENIED|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch", re.ASCII)
_NOT_GRANTED = re.compile(r"NAMED[_ ]COLLECTION|READONLY|\bgrant\b.*\b(?:S3|CREATE TEMPORARY TABLE)\b", re.ASCII)
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|NoSuchBucket|bucket does not exist", re.ASCII)
_BUCKET = re.compile(r"\bin bucket '?([\w.-]+)", re.ASCII)


def attempt_key(key: str, query_id: str) -> str:
    """The key of one attempt's own object: that of the object to be, and the id of the query that writes it."""
    return f"{key.removesuffix('.parquet')}-direct-{query_id[-36:].replace('-', '')}.parquet"


def is_attempt(key: str) -> bool:
    """Whether a key is one attempt's own: ClickHouse cannot mark its objects as ours in any other way."""
    return _ATTEMPT.search(key) is not None


def write_query(query: Query, collection: str, key: str) -> Query:
    """The same rows, written by ClickHouse as the object `key` of the bucket that a named collection knows."""
    target = f"{quote_identifier(collection)}, filename = {quote_text(key)}"
    text = f"INSERT INTO FUNCTION s3({target}, format = 'Parquet', compression_method = 'none') {query.text}"
    return Query(text, query.parameters)


def is_answer(said: Fault) -> bool:
    """Whether ClickHouse itself says that the query has failed, so that there is nothing to find out."""
    return _ANSWER.search(str(said)) is not None


def write_fault(said: Fault, collection: str, key: str) -> Fault:
    """The fault that ended a `write_query`, with the way out where collection or store are what is wrong."""
    named = f"the named collection {collection!r} (storage.named_collection in environments.yaml)"
    message = str(said)
    if "S3_ERROR" in message and key in message:
        rest = message.replace(key, "")
        if _DENIED.search(rest) or _NO_BUCKET.search(rest):
            return StoreRefused(f"{message}; have keys, rights and url of {named} mended at the source; {GUIDE}")
        return StoreUnavailable(message)
    if isinstance(said, SourceRefused) and _NOT_GRANTED.search(message):
        return SourceRefused(f"{message}; ClickHouse writes files itself (`transfer: direct`) by {named}: {GUIDE}")
    return said


def probe_query(collection: str) -> Query:
    """Reads, by a named collection, an object that is not there: what is answered shows what the collection is."""
    target = f"{quote_identifier(collection)}, filename = {quote_text(PROBED)}"
    return Query(_PROBE.format(target))


def probed(message: str, bucket: str) -> str:
    """What is wrong with a collection whose probe failed in the store with `message`; empty when nothing is."""
    there = _BUCKET.search(message)
    if there and there[1] != bucket:
        return f"leads to bucket {there[1]!r}, and the environment's is {bucket!r}"
    if _NO_BUCKET.search(message):
        return "leads to a bucket that does not exist"
    return "" if re.search(r"\b404\b|NoSuchKey|NO_SUCH_KEY", message) else f"cannot be used: {message}"
