"""What ClickHouse's error codes mean for an export: who must act, and whether asking again can help.

Names and numbers are those of ClickHouse's own list (`SELECT errorCodeToName(…)`). A code that stands nowhere here is a
`SourceUnavailable`: it is tried again, a bounded number of times.
"""

import re
from collections.abc import Mapping
from typing import Any

from activities.core.faults import (
    Fault,
    ResultIncomplete,
    SourceBusy,
    SourceRefused,
    SourceUnavailable,
    UnsupportedType,
)

BUSY = {
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    745: "SERVER_OVERLOADED",
    762: "HTTP_CONNECTION_LIMIT_REACHED",
    1019: "QUERY_SLOT_ACQUISITION_TIMEOUT",
}
"""The query was turned away at the door and nothing of it ran: waiting is all that is needed."""

LIMITS = {
    158: ("TOO_MANY_ROWS", "max_rows_to_read"),
    159: ("TIMEOUT_EXCEEDED", "max_execution_time"),
    160: ("TOO_SLOW", "max_execution_time"),
    241: ("MEMORY_LIMIT_EXCEEDED", "max_memory_usage"),
    307: ("TOO_MANY_BYTES", "max_bytes_to_read"),
    396: ("TOO_MANY_ROWS_OR_BYTES", "max_rows_to_read or max_bytes_to_read"),
}
"""A limit on one query, which the same query would meet again; with the setting that holds it."""

REFUSALS = {
    # Who is asking, and what they may see.
    164: "READONLY",
    192: "UNKNOWN_USER",
    193: "WRONG_PASSWORD",
    194: "REQUIRED_PASSWORD",
    195: "IP_ADDRESS_NOT_ALLOWED",
    201: "QUOTA_EXCEEDED",
    291: "DATABASE_ACCESS_DENIED",
    392: "QUERY_IS_PROHIBITED",
    446: "FUNCTION_NOT_ALLOWED",
    452: "SETTING_CONSTRAINT_VIOLATION",
    472: "READONLY_SETTING",
    497: "ACCESS_DENIED",
    511: "UNKNOWN_ROLE",
    512: "SET_NON_GRANTED_ROLE",
    516: "AUTHENTICATION_FAILED",
    620: "QUERY_NOT_ALLOWED",
    673: "RESOURCE_ACCESS_DENIED",
    702: "CLIENT_INFO_DOES_NOT_MATCH",
    720: "USER_EXPIRED",
    763: "SESSION_REFUSED",
    767: "REQUIRED_SECOND_FACTOR",
    # Names that the source does not know (any more).
    8: "THERE_IS_NO_COLUMN",
    10: "NOT_FOUND_COLUMN_IN_BLOCK",
    16: "NO_SUCH_COLUMN_IN_TABLE",
    36: "BAD_ARGUMENTS",
    46: "UNKNOWN_FUNCTION",
    47: "UNKNOWN_IDENTIFIER",
    50: "UNKNOWN_TYPE",
    60: "UNKNOWN_TABLE",
    73: "UNKNOWN_FORMAT",
    81: "UNKNOWN_DATABASE",
    115: "UNKNOWN_SETTING",
    218: "TABLE_IS_DROPPED",
    669: "NAMED_COLLECTION_DOESNT_EXIST",
    701: "CLUSTER_DOESNT_EXIST",
    # Queries that its version or settings do not take.
    42: "NUMBER_OF_ARGUMENTS_DOESNT_MATCH",
    43: "ILLEGAL_TYPE_OF_ARGUMENT",
    44: "ILLEGAL_COLUMN",
    48: "NOT_IMPLEMENTED",
    62: "SYNTAX_ERROR",
    161: "TOO_MANY_COLUMNS",
    162: "TOO_DEEP_SUBQUERIES",
    167: "TOO_DEEP_AST",
    168: "TOO_BIG_AST",
    181: "ILLEGAL_FINAL",
    184: "ILLEGAL_AGGREGATION",
    191: "SET_SIZE_LIMIT_EXCEEDED",
    215: "NOT_AN_AGGREGATE",
    229: "QUERY_IS_TOO_LARGE",
    277: "INDEX_NOT_USED",
    344: "SUPPORT_IS_DISABLED",
    455: "SUSPICIOUS_TYPE_FOR_LOW_CARDINALITY",
    456: "UNKNOWN_QUERY_PARAMETER",
    457: "BAD_QUERY_PARAMETER",
    471: "INVALID_SETTING_VALUE",
    # Values that do not fit the type they are to have.
    6: "CANNOT_PARSE_TEXT",
    27: "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
    38: "CANNOT_PARSE_DATE",
    41: "CANNOT_PARSE_DATETIME",
    53: "TYPE_MISMATCH",
    72: "CANNOT_PARSE_NUMBER",
    117: "INCORRECT_DATA",
    131: "TOO_LARGE_STRING_SIZE",
    349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
    386: "NO_COMMON_TYPE",
    691: "UNKNOWN_ELEMENT_OF_ENUM",
}
"""Asking again cannot mend these."""

MISFITS = {
    69: "ARGUMENT_OUT_OF_BOUND",
    70: "CANNOT_CONVERT_TYPE",
    321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    395: "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
    407: "DECIMAL_OVERFLOW",
}
"""A value does not fit the type to which it is cast, or a check that stands in the query itself has failed."""

MEMORY_LIMIT_EXCEEDED = 241
FAILURE_BYTES = 64 * 1024
"""Bytes of a broken stream's end in which ClickHouse's exception is looked for."""
_OWN_MEMORY = re.compile(r"\bQuery memory limit exceeded|\(for query\)")
_CODE = re.compile(r"Code: (\d+)\. DB::")


def fault_of(where: str, code: int | None, message: str, limits: Mapping[str, Any]) -> Fault:
    """The fault that an exception of ClickHouse is.

    Args:
        where: the cluster, as messages name it.
        code: ClickHouse's error code; None when only the message says it, if anything does.
        message: what it said.
        limits: the limits that config sent with the query.
    """
    if code is None and (said := _CODE.search(message)):
        code = int(said[1])
    if code in BUSY:
        return SourceBusy(f"{where} takes no more queries just now: {message}")
    if code in LIMITS and (code != MEMORY_LIMIT_EXCEEDED or _OWN_MEMORY.search(message)):
        return SourceRefused(f"{where} ended a query at a limit: {message}; {_way_out(LIMITS[code][1], limits)}")
    if code in MISFITS:
        return UnsupportedType(f"{where}: {message}")
    if code in REFUSALS:
        return SourceRefused(f"{where} refused: {message}")
    return SourceUnavailable(f"{where}: {message}")


def _way_out(setting: str, limits: Mapping[str, Any]) -> str:
    smaller = "or cut the table into smaller partitions"
    if setting in limits:
        return f"raise {setting} (now {limits[setting]}) of this cluster in environments.yaml, {smaller}"
    return f"config sends no such limit, so it is the profile's of this user: have {setting} raised there, {smaller}"


def failure_in(tail: bytes) -> str:
    """The exception that ClickHouse wrote into the end of a broken stream; empty when there is none.

    Since 25.11 it stands between `__exception__` marks, before that as plain text.
    """
    text = tail[-FAILURE_BYTES:].decode("utf-8", "replace")
    marked = text.rfind("__exception__", 0, text.rfind("__exception__"))
    start = marked if marked >= 0 else text.rfind("Code: ")
    if start < 0:
        return ""
    lines = [line for line in text[start:].splitlines() if "Code: " in line or "Exception" in line]
    return lines[0].strip() if lines else ""


def broken_stream(where: str, what: str, said: str, limits: Mapping[str, Any]) -> Fault:
    """The fault that ended a stream after its first byte: a refusal stays one, all else can be begun again.

    `what` says what happened to the stream, `said` is ClickHouse's exception in its end, if there was one.
    """
    fault = fault_of(where, None, said, limits)
    if isinstance(fault, SourceRefused | UnsupportedType):
        return fault
    return ResultIncomplete(f"{what}: {said}" if said else what)
