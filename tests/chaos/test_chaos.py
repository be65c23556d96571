"""Everything goes wrong at once, for minutes, and afterwards nobody can tell from the tables, events and objects.

`make test-chaos SEED=… SIZE=…`: the seed decides what happens in which order, the size how much of it.
"""

from collections import Counter

import pytest

from activities.core import faults
from activities.failpoints import NAMES
from chaos.world import MEANT

FAULTS = {fault for fault in vars(faults).values() if isinstance(fault, type) and issubclass(fault, faults.Fault)}
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]


def test_every_failpoint_killed_a_worker(run):
    assert set(run.kills) == set(NAMES)


def test_every_trouble_struck(run):
    assert [name for name in run.expected_troubles if not run.troubles[name]] == []


def test_hundreds_of_partitions_were_exported(run):
    assert sum(len(table.live) for table in run.tables.values()) >= 300 * min(run.size, 1)


def test_every_partition_is_in_its_table_exactly_once(run):
    live = {name: table.live for name, table in run.tables.items()}
    assert live == {name: sorted(table.source) for name, table in run.tables.items()}


def test_no_snapshot_ever_held_a_partition_twice(run):
    assert {name: table.doubled for name, table in run.tables.items() if table.doubled} == {}


def test_every_partition_has_the_rows_of_the_source(run):
    differing = {
        f"{name} {label}": (table.source.get(label), table.lake.get(label))
        for name, table in run.tables.items()
        for label in table.source.keys() | table.lake.keys()
        if table.source.get(label) != table.lake.get(label)
    }
    assert differing == {}


def test_every_snapshot_is_announced_once_and_in_order(run):
    for table in run.tables.values():
        assert [event["snapshotId"] for event in table.events] == table.snapshots
        assert len({event["_id"] for event in table.events}) == len(table.events)


def test_requests_failed_for_what_trying_again_can_help_and_for_nothing_else(run):
    passing = {fault.__name__ for fault in FAULTS if fault.retryable}
    passing |= {"TimedOut", *MEANT}  # the first is Temporal's word for a worker that died
    assert {cause: run.words[cause] for cause in run.causes if cause not in passing} == {}


def test_every_failure_of_an_activity_has_a_name(run):
    known = {fault.__name__ for fault in FAULTS} | {"TimedOut"}
    assert {name: said[-1] for name, said in run.failures.items() if name not in known} == {}


def test_every_request_was_answered(run):
    assert run.lost == []


def test_once_it_is_calm_nothing_is_left_to_do(run):
    assert {name: report.status for name, report in run.reports.items()} == dict.fromkeys(run.tables, "nothing_to_do")
    assert {name: (report.open, report.failed, report.shrunk) for name, report in run.reports.items()} == dict.fromkeys(
        run.tables, (0, 0, [])
    )
    assert run.running == []


def test_every_object_that_a_snapshot_names_is_there_and_the_others_are_listed_as_orphans(run):
    cleaning = run.cleaning
    assert cleaning.named - cleaning.there == set()
    orphans = [("data object", key) for key in cleaning.there - cleaning.named - cleaning.public]
    orphans += [("unfinished upload", key) for key in cleaning.unfinished]
    orphans += [("metadata", path) for path in cleaning.manifests]
    assert cleaning.listed == Counter(orphans)


def test_deleting_orphans_touches_nothing_that_is_young(run):
    assert run.cleaning.spared == run.cleaning.there


def test_deleting_orphans_leaves_what_snapshots_name_and_the_public_reads_and_nothing_else(run):
    assert run.cleaning.remaining == run.cleaning.named | run.cleaning.public
    assert run.cleaning.left == []


def test_after_deleting_orphans_every_table_is_read_as_before(run):
    for name, table in run.cleaning.tables.items():
        assert (table.lake, table.live, table.doubled) == (run.tables[name].lake, run.tables[name].live, [])
        assert [event["snapshotId"] for event in table.events] == table.snapshots


def test_no_secret_is_in_a_log_a_history_or_an_event(run):
    assert run.leaks == []


def test_workers_leave_in_order_and_no_process_is_left(run):
    assert run.last_exits == Counter({"exit 0": 3})
    assert run.left == []
