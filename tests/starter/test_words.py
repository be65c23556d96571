"""What commands make of what they are told: progress in words, events as lines, tables that a query names."""

import pytest

from starter.duck import mentioned
from starter.export_shown import words_of
from starter.sql import table_of
from starter.watch import line_of

SEEN = {"missing": 0, "stale": 0, "forced": 0, "exported": 0, "already_there": 0, "failed": 0, "rows": 0, "bytes": 0}
SEEN |= {"message": "", "status": "complete"}


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({}, "planning"),
        ({"missing": 3, "forced": 1}, "0/4 partitions, 0 rows, 0.0 MB"),
        (
            {"missing": 3, "exported": 1, "already_there": 1, "rows": 12_345, "bytes": 2_500_000},
            "2/3 partitions, 12,345 rows, 2.5 MB",
        ),
        ({"missing": 2, "exported": 1, "failed": 1}, "2/2 partitions, 0 rows, 0.0 MB, 1 failed"),
        ({"message": "nothing to do: …", "status": "nothing_to_do"}, "nothing to do"),
        ({"missing": 4, "message": "… would get 4", "status": "dry_run"}, "4 partitions to do"),
    ],
)
def test_progress_says_what_is_going_on(seen, words):
    assert words_of(SEEN | seen)[2] == words


def test_a_query_mentions_the_tables_it_names_and_no_others():
    known = ["mainnet.block", "mainnet.blocks", "holesky.blocks"]
    assert mentioned("SELECT * FROM mainnet.blocks", known) == ["mainnet.blocks"]
    assert mentioned('SELECT * FROM "mainnet"."block" JOIN Holesky.Blocks USING (x)', known) == [
        "mainnet.block",
        "holesky.blocks",
    ]
    assert mentioned("SELECT 'submainnet.blocks_old'", known) == []


def test_an_event_is_one_line():
    event = {
        "table": "mainnet.blocks",
        "operation": "append",
        "sequenceNumber": "7",
        "committedAt": "2026-01-02T03:04:05.678Z",
        "partitions": [{"partition": str(number)} for number in range(5)],
        "added": {"files": "5", "rows": "12345"},
    }
    assert line_of(event) == (
        "2026-01-02T03:04:05  mainnet.blocks  append #7  5 files, 12,345 rows: 0, 1, 2 and 2 more"
    )


def test_an_event_of_a_mirror_that_is_not_partitioned_names_no_partition():
    event = {"table": "shop.orders", "operation": "overwrite", "sequenceNumber": "7"}
    files = {"partitions": [{"rows": "2"}], "added": {"files": "1", "rows": "2"}}
    assert line_of(event | files) == "  shop.orders  overwrite #7  1 files, 2 rows"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "append #7  no rows: columns or positions alone"),
        ({"operation": "delete", "filesRemoved": "3"}, "delete #7  3 files removed"),
    ],
)
def test_a_snapshot_without_rows_says_so(more, said):
    event = {"table": "cdc.orders", "operation": "append", "sequenceNumber": "7", "committedAt": "2026-01-02T03:04:05Z"}
    assert line_of(event | more) == f"2026-01-02T03:04:05  cdc.orders  {said}"


def test_a_finding_is_one_line_with_what_is_counted_on_either_side():
    event = {"table": "mainnet.blocks", "kind": "shrunk", "foundAt": "2026-01-02T03:04:05.678Z"}
    partitions = [{"partition": "2024-03-20", "rows": "12345", "sourceRows": "0"}]
    partitions += [{"partition": "2024-03-19", "detail": "two files"}, {"partition": "2024-03-18"}]
    line = line_of({**event, "partitions": [*partitions, {"partition": "2024-03-17"}], "partitionsOmitted": "7"})
    assert line == (
        "2026-01-02T03:04:05  mainnet.blocks  shrunk  2024-03-20 (12,345 rows, 0 at the source), "
        "2024-03-19 (two files), 2024-03-18 and 8 more"
    )
    assert line_of(event) == "2026-01-02T03:04:05  mainnet.blocks  shrunk  nothing any more"


def test_numbers_stand_to_the_right_and_nulls_are_blank():
    table = table_of(["text", "number", "flag"], [("a", 1, True), (None, None, None)])
    assert [column.justify for column in table.columns] == ["left", "right", "left"]
    assert [list(column.cells)[1] for column in table.columns] == ["", "", ""]
