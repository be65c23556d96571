"""Everything goes wrong while people write, and afterwards every changelog holds what PostgreSQL logged, once each.

`make test-cdc-random SEED=… SIZE=…`: the seed decides who writes what, and what goes wrong in which order, the size how
much of it. What is expected comes from triggers of the source (`oracle.py`) and shares no code with the capture.
"""

import os
from collections import Counter

import pytest

from activities.core import faults
from activities.core.changelogs import lsn_text
from cdcrandom.comparing import (
    as_clickhouse_says,
    backwards,
    copies,
    difference,
    expected_types,
    larger_than,
    of_event,
    of_row,
    rows_as_set,
    streamed,
    torn,
    without_empty_lists,
)
from cdcrandom.deaths import DIED
from cdcrandom.expected import Event, fold, rows_of
from cdcrandom.pgtext import parse_row, value_of
from cdcrandom.plan import POINTS
from cdcrandom.run import WORKERS, copied_lsn
from cdcrandom.tables import TABLES
from cdcrandom.world import BATCH_EVENTS
from cdcrandom.writers import STEPS

FAULTS = {fault for fault in vars(faults).values() if isinstance(fault, type) and issubclass(fault, faults.Fault)}
SIZE = float(os.environ.get("CDC_SIZE") or 1)
pytestmark = [pytest.mark.cdcrandom, pytest.mark.timeout(int(1800 * max(SIZE, 1)))]
KEYED = [table for table in TABLES if table.key and not table.poisoned]


def test_every_failpoint_of_capture_and_ingest_killed_a_worker(run):
    assert set(run.kills) == set(POINTS)


def test_every_trouble_struck(run):
    assert [name for name in run.expected_troubles if not run.troubles[name]] == []


def test_hundreds_of_transactions_did_everything_that_transactions_do(run):
    assert run.transactions >= 300 * min(run.size, 1)
    assert [name for name in (*STEPS, "rolled back to a savepoint") if not run.steps[name]] == []
    assert run.rolled_back


def test_what_is_expected_gives_the_rows_that_the_source_has(run):
    for table in TABLES:
        shape, rows = run.final[table.identifier]
        known = [row for row, written_as in rows_of(table, run.log[table.identifier]) if written_as == shape]
        assert Counter(known) - Counter(rows) == Counter(), table.identifier
        assert table.evolves or len(known) == len(rows), table.identifier


def test_every_changelog_holds_what_postgresql_logged_once_each_and_in_order(run):
    differing = {}
    for table in TABLES:
        changelog, expected = run.changelogs[table.identifier], run.expected[table.identifier]
        found = [of_row(row) for row in streamed(changelog, copied_lsn(changelog))]
        if told := difference([of_event(event) for event in expected.events], found):
            differing[table.identifier] = told
    assert differing == {}


def test_first_copies_are_the_rows_of_one_moment_without_a_gap_or_an_overlap(run):
    """Cases 12 and 53: the copy is one snapshot of the table, and the log goes on from there."""
    for table in TABLES:
        changelog, expected = run.changelogs[table.identifier], run.expected[table.identifier]
        found = copies(changelog, copied_lsn(changelog))
        assert {row.operation for row in found} <= {"insert"}
        assert rows_as_set(row.values for row in found) == rows_as_set(expected.copied), table.identifier


def test_duckdb_reads_the_same(run):
    for table in TABLES:
        rows = run.changelogs[table.identifier].rows
        assert rows["DuckDB"] == rows["PyIceberg"], table.identifier


def test_clickhouse_reads_the_same(run):
    """Case 46; a list that is null is an empty one there, and a time of day has no fraction."""
    for table in TABLES:
        rows = run.changelogs[table.identifier].rows
        expected = [as_clickhouse_says(row) for row in rows["PyIceberg"]]
        assert [without_empty_lists(row) for row in rows["ClickHouse"]] == expected, table.identifier


def test_sequence_numbers_are_unique_and_begin_with_the_position_of_the_transaction(run):
    """Cases 10 and 11."""
    for changelog in run.changelogs.values():
        rows = changelog.rows["PyIceberg"]
        assert len({row.sequence for row in rows}) == len(rows)
        assert {len(row.sequence) for row in rows} <= {32}
        assert {row.lsn for row in rows} == {lsn_text(int(row.sequence[:16], 16)) for row in rows}


def test_unchanged_large_values_are_listed_and_kept_by_whoever_folds_the_changelog(run):
    """Case 52: the run had some, those of a table that logs whole rows are there."""
    assert any(event.unchanged for event in run.expected["public.documents"].events)
    assert not any(row.unchanged for row in run.changelogs["public.archive"].rows["PyIceberg"])


def test_folding_a_changelog_gives_the_rows_of_the_source(run):
    for table in KEYED:
        changelog, expected = run.changelogs[table.identifier], run.expected[table.identifier]
        shape, rows = run.final[table.identifier]
        copied = copied_lsn(changelog)
        events = [Event(0, row.at, row.operation, row.values, row.unchanged) for row in streamed(changelog, copied)]
        there = [
            {column.name: value_of(column.type, text) for column, text in zip(shape, parse_row(row), strict=True)}
            for row in rows
        ]
        folded = fold(table, [row.values for row in copies(changelog, copied)], events)
        assert rows_as_set(folded, expected.live) == rows_as_set(there), table.identifier


def test_fields_follow_the_columns_of_the_source(run):
    """Cases 49 and 50: added, dropped, renamed, widened, and dropped then added under the same name.

    A copy that was begun again may leave fields of columns that were gone by then: no row has a value in them.
    """
    for table in TABLES:
        changelog, expected = run.changelogs[table.identifier], expected_types(run.expected[table.identifier])
        rows = changelog.rows["PyIceberg"]
        used = {name for row in rows for name in row.values}
        known = {name: kind for name, kind in changelog.types.items() if name in expected or name in used}
        assert known == expected, table.identifier


def test_a_transaction_is_in_one_snapshot_of_a_table_unless_it_is_larger_than_a_batch(run):
    """But for what waited as a dead letter, or behind one."""
    large = larger_than(BATCH_EVENTS, run.log)
    assert large
    for table in TABLES:
        if not table.poisoned:
            assert list(torn(run.changelogs[table.identifier], large)) == [], table.identifier


def test_snapshots_follow_each_other_as_transactions_do(run):
    for table in TABLES:
        if not table.poisoned:
            assert list(backwards(run.changelogs[table.identifier])) == [], table.identifier


def test_every_snapshot_is_announced_once_and_in_order(run):
    for table in TABLES:
        changelog = run.changelogs[table.identifier]
        assert [event["snapshotId"] for event in changelog.events] == changelog.snapshots, table.identifier
        assert len({event["_id"] for event in changelog.events}) == len(changelog.events), table.identifier


def test_dead_letters_are_what_no_table_can_hold_and_nothing_else(run):
    """Case 63: they hold back later events of their keys, which are there once they are dropped."""
    poison = run.expected["public.tasks"].poison
    assert Counter((letter.table, letter.lsn, letter.operation) for letter in run.letters) == Counter(
        ("public.tasks", lsn_text(event.lsn), event.operation) for event in poison
    )
    assert all("due" in letter.cause for letter in run.letters)
    assert poison


def test_nothing_is_left_to_do(run):
    assert {table: state for table, (state, _) in run.states.items()} == {
        table.identifier: "active" for table in TABLES
    }
    assert run.buffered == 0
    assert run.slot_lag <= 0


def test_every_failure_of_an_activity_has_a_name(run):
    known = {fault.__name__ for fault in FAULTS} | {"TimedOut", "WorkerStopped", DIED}
    assert {name: said[-1] for name, said in run.failures.items() if name not in known} == {}


def test_every_command_succeeded_in_the_end(run):
    assert run.lost == []


def test_no_secret_is_in_a_log_a_history_or_an_event(run):
    assert run.leaks == []


def test_workers_leave_in_order_and_no_process_is_left(run):
    assert run.last_exits == Counter({"exit 0": WORKERS})
    assert run.left == []
