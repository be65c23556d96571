"""Everything goes wrong while people write, and afterwards every mirror is the table of PostgreSQL that it mirrors.

`make test-merge-random SEED=… SIZE=…`: the run is that of `make test-cdc-random`, with mirrors behind its changelogs;
the seed decides who writes what, and what goes wrong in which order, the size how much of it. PostgreSQL itself says
what must be there: its rows at the end.
"""

import os
from collections import Counter

import pytest

from activities.core import faults
from cdcrandom.deaths import DIED
from cdcrandom.run import WORKERS
from mergerandom import comparing

FAULTS = {fault for fault in vars(faults).values() if isinstance(fault, type) and issubclass(fault, faults.Fault)}
SIZE = float(os.environ.get("MERGE_SIZE") or 1)
pytestmark = [pytest.mark.mergerandom, pytest.mark.timeout(int(2400 * max(SIZE, 1)))]


@pytest.mark.parametrize("reader", ["PyIceberg", "DuckDB", "ClickHouse"])
def test_every_mirror_holds_exactly_the_rows_of_postgresql(run, mirrored, plan, reader):
    """I1; cases 13, 15, 17, 44, 46, 49, 50, 52 and 53 in any order."""
    assert set(mirrored.mirrors) == {table.identifier for table in plan.tables}
    assert comparing.unlike_postgresql(mirrored.mirrors, run.final, reader) == {}


def test_duckdb_and_pyiceberg_also_agree_about_columns_that_are_gone(mirrored):
    assert comparing.unlike_each_other(mirrored.mirrors) == {}


def test_no_change_made_two_rows(mirrored):
    assert comparing.keys_twice(mirrored.mirrors) == {}


def test_every_index_is_what_one_made_from_scratch_would_be(mirrored):
    """I3; case 38 among others."""
    assert comparing.index_wrong(mirrored.mirrors) == {}


def test_no_data_file_has_two_live_delete_files(mirrored):
    """Case 42."""
    assert comparing.deletes_doubled(mirrored.mirrors) == {}
    assert any(seen.deletes for seen in mirrored.mirrors.values())


def test_every_watermark_is_the_head_of_its_changelog(mirrored):
    assert comparing.behind(mirrored.mirrors) == {}


def test_whatever_a_snapshot_names_is_there(mirrored):
    """Case 26, and a reader in flight never loses a file."""
    assert comparing.orphaned(mirrored.mirrors) == {}


def test_mirrors_are_the_folds_of_their_changelogs_as_verification_says_too(mirrored):
    assert comparing.unverified(mirrored.mirrors) == {}


def test_every_failpoint_of_ingest_and_merge_killed_a_worker(run, plan):
    assert set(run.kills) == set(plan.points)


def test_every_trouble_struck(run):
    assert [name for name in run.expected_troubles if not run.troubles[name]] == []


def test_merges_compactions_expiries_and_new_indexes_all_happened(run, mirrored):
    counts = mirrored.counts
    expected = (
        "commits",
        "upserted",
        "deleted",
        "superseded",
        "indexes_rebuilt",
        "compactions",
        "expired",
        "announced",
    )
    assert [name for name in expected if not counts[name]] == []
    assert counts["commits"] >= 100 * min(run.size, 1)
    assert counts["refused"] == 0


def test_an_index_that_is_not_whole_in_the_end_was_spoiled(mirrored):
    paths = [
        path for path in mirrored.spoiled if any(f"/{name.replace('.', '/')}/" in path for name in mirrored.unnoticed)
    ]
    assert bool(paths) == bool(mirrored.unnoticed)


def test_no_loop_is_troubled_in_the_end(mirrored):
    assert {name: (loop["state"], loop["cause"]) for name, loop in mirrored.loops.items()} == dict.fromkeys(
        mirrored.loops, ("running", "")
    )


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
