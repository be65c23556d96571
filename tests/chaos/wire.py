"""What goes wrong between the workers and the store, the catalog and the source."""

from support.faultproxy import (
    Answer,
    AnswerInstead,
    CutAfter,
    CutBefore,
    CutBody,
    CutUpload,
    Delay,
    Hold,
    HoldAnswer,
    Late,
)
from support.troubles import on_the_wire

MEGABYTE = 2**20
OBJECT = r"/xatu/[^?]*\.parquet$"
PART = r"\.parquet\?.*partNumber="
COMPLETION = r"\.parquet\?uploadId="
COMMIT = r"/tables/[^/?]+$"
BROKEN = b"Code: 210. DB::NetException: broken. (NETWORK_ERROR)"
BUSY = b"Code: 202. DB::Exception: Too many simultaneous queries. (TOO_MANY_SIMULTANEOUS_QUERIES)"


def exports_of(table: str) -> str:
    """The queries that fetch a table's rows, told by their comment."""
    return rf"log_comment=[^&]*\.{table}\+partition"


STORE = [
    on_the_wire("store answers 500", "store", lambda _: Answer(500), times=12),
    on_the_wire("store answers 503 for a while", "store", lambda _: Answer(503), times=None, keep=(1, 4)),
    on_the_wire("store hangs", "store", lambda _: Hold(), times=None, keep=(2, 6)),
    on_the_wire("store is slow", "store", lambda rng: Delay(rng.uniform(0.2, 1)), times=20),
    on_the_wire("store cuts before", "store", lambda _: CutBefore(), times=10),
    on_the_wire("object landed, answer cut", "store", lambda _: CutAfter(), times=4, method="PUT", path=OBJECT),
    on_the_wire("object landed, 500", "store", lambda _: AnswerInstead(500), times=4, method="PUT", path=OBJECT),
    on_the_wire("part cut", "store", lambda _: CutUpload(MEGABYTE), times=2, method="PUT", path=PART, table="bulky"),
    on_the_wire("part answers 500", "store", lambda _: Answer(500), times=6, method="PUT", path=PART, table="bulky"),
    on_the_wire(
        "upload completed, answer cut", "store", lambda _: CutAfter(), method="POST", path=COMPLETION, table="bulky"
    ),
    on_the_wire(
        "upload completed, 500", "store", lambda _: AnswerInstead(500), method="POST", path=COMPLETION, table="bulky"
    ),
    on_the_wire("footer cut", "store", lambda _: CutBody(100), times=4, method="GET", path=OBJECT),
    on_the_wire("manifest not written", "store", lambda _: Answer(500), times=6, method="PUT", path=r"/metadata/"),
    on_the_wire("manifest not read", "store", lambda _: Answer(503), times=6, method="GET", path=r"/metadata/"),
]
CATALOG = [
    on_the_wire("catalog answers 500", "catalog", lambda _: Answer(500, b"{}"), times=6),
    on_the_wire("catalog answers 503 for a while", "catalog", lambda _: Answer(503, b"{}"), times=None, keep=(1, 4)),
    on_the_wire("catalog hangs", "catalog", lambda _: Hold(), times=None, keep=(2, 6)),
    on_the_wire("catalog cuts before", "catalog", lambda _: CutBefore(), times=6),
    on_the_wire("commit refused", "catalog", lambda _: Answer(409, b"{}"), times=3, method="POST", path=COMMIT),
    on_the_wire("commit landed, answer cut", "catalog", lambda _: CutAfter(), times=3, method="POST", path=COMMIT),
    on_the_wire(
        "commit landed, 500", "catalog", lambda _: AnswerInstead(500, b"{}"), times=3, method="POST", path=COMMIT
    ),
    on_the_wire("commit arrives late", "catalog", lambda _: Late(), times=2, method="POST", path=COMMIT, keep=(0.5, 5)),
]
CLICKHOUSE = [
    on_the_wire("source answers 500", "clickhouse", lambda _: Answer(500, BROKEN, "text/plain"), times=6),
    on_the_wire("source is busy", "clickhouse", lambda _: Answer(500, BUSY, "text/plain"), times=8),
    on_the_wire("source answers 503", "clickhouse", lambda _: Answer(503, b"busy", "text/plain"), times=6),
    on_the_wire("source cuts before", "clickhouse", lambda _: CutBefore(), times=6),
    on_the_wire("source hangs", "clickhouse", lambda _: Hold(), times=None, keep=(2, 6)),
    on_the_wire(
        "source cuts a stream", "clickhouse", lambda rng: CutBody(rng.randint(1, 8 * MEGABYTE)), times=2,
        path=exports_of("bulky"), table="bulky",
    ),
    on_the_wire(
        "source cuts an answer", "clickhouse", lambda rng: CutBody(rng.randint(1, 300)), times=6, path="log_comment"
    ),
]  # fmt: skip
SHORT = [*STORE, *CATALOG, *CLICKHOUSE]
"""What takes seconds."""
PATIENT = [
    on_the_wire(
        "commit landed, timed out", "catalog", lambda _: HoldAnswer(), method="POST", path=COMMIT, keep=(33, 36)
    ),
    on_the_wire("catalog timed out", "catalog", lambda _: Hold(), times=2, keep=(33, 36)),
    on_the_wire(
        "object landed, timed out", "store", lambda _: HoldAnswer(), times=2, method="PUT", path=OBJECT, keep=(63, 66)
    ),
]
"""What waits until a client's own time is up: 30 seconds for the catalog, 60 for the store."""
