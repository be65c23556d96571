"""What ClickHouse's exceptions become, held against the engine's own list of them."""

import subprocess
import sys

import pytest

from activities.clients.clickhouse_faults import BUSY, LIMITS, REFUSALS, broken_stream, failure_in, fault_of
from activities.core.faults import Fault, ResultIncomplete, SourceBusy, SourceRefused, SourceUnavailable

TOTAL = "Memory limit (total) exceeded: would use 9 GiB. (MEMORY_LIMIT_EXCEEDED)"
OWN = "Query memory limit exceeded: would use 12.00 MiB, maximum: 9.54 MiB. (MEMORY_LIMIT_EXCEEDED)"
OLDER = "Memory limit (for query) exceeded: would use 12.00 MiB. (MEMORY_LIMIT_EXCEEDED)"


def test_every_code_has_the_name_that_the_engine_gives_it():
    codes = {**BUSY, **REFUSALS, **{code: name for code, (name, _) in LIMITS.items()}}
    assert len(codes) == len(BUSY) + len(REFUSALS) + len(LIMITS)
    wanted = ", ".join(str(code) for code in codes)
    # In a process of its own: there is one engine in a process, and it may abort when that ends.
    names = f"SELECT number, errorCodeToName(number) FROM numbers(2000) WHERE number IN ({wanted})"
    ask = f"import chdb, os; print(chdb.query('{names}', 'TSV'), flush=True); os._exit(0)"
    listed = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout
    assert {int(code): name for code, name in (line.split("\t") for line in listed.split("\n") if line)} == codes


@pytest.mark.parametrize(
    ("code", "message", "fault"),
    [
        (202, "Too many simultaneous queries", SourceBusy),
        (745, "CPU is overloaded", SourceBusy),
        (60, "Unknown table", SourceRefused),
        (516, "Authentication failed", SourceRefused),
        (201, "Quota for user has been exceeded", SourceRefused),
        (158, "Limit for rows exceeded", SourceRefused),
        (159, "Timeout exceeded: elapsed 3600 seconds", SourceRefused),
        (307, "Limit for bytes exceeded", SourceRefused),
        (241, TOTAL, SourceUnavailable),
        (241, OWN, SourceRefused),
        (241, OLDER, SourceRefused),
        (209, "Timeout exceeded while reading from socket", SourceUnavailable),
        (210, "Connection refused", SourceUnavailable),
        (279, "All connection tries failed", SourceUnavailable),
        (394, "Query was cancelled", SourceUnavailable),
        (None, "Bad Gateway", SourceUnavailable),
        (None, "Code: 202. DB::Exception: Too many simultaneous queries", SourceBusy),
    ],
)
def test_a_code_says_who_must_act_and_whether_asking_again_can_help(code, message, fault: type[Fault]):
    found = fault_of("ClickHouse here", code, message, {})
    assert type(found) is fault
    assert message in str(found)
    assert "ClickHouse here" in str(found)


def test_a_limit_is_named_with_its_value_and_where_it_stands():
    ours = str(fault_of("ClickHouse here", 307, "too much", {"max_bytes_to_read": 10}))
    assert "raise max_bytes_to_read (now 10) of this cluster in environments.yaml" in ours
    theirs = str(fault_of("ClickHouse here", 307, "too much", {"max_threads": 4}))
    assert "it is the profile's of this user: have max_bytes_to_read raised there" in theirs


@pytest.mark.parametrize(
    ("code", "fault"), [(407, SourceRefused), (307, SourceRefused), (202, ResultIncomplete), (999, ResultIncomplete)]
)
def test_what_is_refused_in_the_middle_of_a_stream_is_not_begun_again(code, fault: type[Fault]):
    tail = (
        b"PAR1 and so on\r\n__exception__\r\ntag\r\nCode: %d. DB::Exception: words\n30 tag\r\n__exception__\r\n" % code
    )
    found = broken_stream("ClickHouse here", "it broke", failure_in(tail), {})
    assert type(found) is fault
    assert "DB::Exception: words" in str(found)
