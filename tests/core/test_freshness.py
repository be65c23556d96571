"""How fresh a table is, by what a plan or a commit knows."""

import pytest

from activities.core.freshness import Freshness, committed_freshness, planned_freshness
from activities.core.partitions import Span
from activities.core.tables import NetworkRange, PartitionRule, TableConfig

DAY, HOUR, NOW = 86_400, 3_600, 1e9


def table(kind="daily", *, last="", lag=600):
    rule = PartitionRule(kind, "at", 1000) if kind == "integer" else PartitionRule(kind, "at")
    first = "0" if kind == "integer" else "1970-01-02"
    return TableConfig("blocks", "db", "s", rule, (NetworkRange("mainnet", first, last),), lag=lag)


def planned(config, *, newest=9, unsettled=()):
    return planned_freshness(
        config, "mainnet", closed=Span(1, 10), newest=newest, unsettled=unsettled, committed_at=5.0, now=NOW
    )


@pytest.mark.parametrize(("kind", "step"), [("daily", DAY), ("hourly", HOUR)])
def test_a_complete_table_ends_with_its_newest_partition_and_the_next_one_is_due_when_that_is_over(kind, step):
    assert planned(table(kind)) == Freshness(kind, 9, 10 * step, 11 * step + 600)


def test_what_is_missing_at_the_end_is_due_since_it_could_be_exported():
    assert planned(table(), newest=6, unsettled={7, 8, 9}) == Freshness("daily", 6, 7 * DAY, 8 * DAY + 600)


def test_empty_partitions_at_the_end_are_not_due_and_make_nothing_fresher():
    assert planned(table(), newest=6, unsettled=()) == Freshness("daily", 6, 7 * DAY, 11 * DAY + 600)


def test_a_gap_in_the_past_makes_no_table_stale():
    assert planned(table(), unsettled={3, 4}).due == 11 * DAY + 600


def test_a_table_that_nothing_was_exported_of_is_due_and_has_no_end():
    assert planned(table(), newest=-1, unsettled=set(range(1, 10))) == Freshness("daily", -1, 0.0, 2 * DAY + 600)


def test_a_network_that_has_ended_is_due_no_more_once_it_is_complete():
    assert planned(table(last="1970-01-10")).due is None
    assert planned(table(last="1970-01-10"), newest=8, unsettled={9}).due == 10 * DAY + 600


def test_chunks_are_as_fresh_as_the_look_that_found_them_complete():
    assert planned(table("integer")) == Freshness("integer", 9, NOW, NOW)
    assert planned(table("integer"), newest=8, unsettled={9}) == Freshness("integer", 8, 5.0, 5.0)
    assert planned(table("integer", last="9999")).due is None


def test_a_commit_of_the_newest_partition_makes_a_table_fresher_and_one_of_the_past_does_not():
    def after(kind, *committed):
        return committed_freshness(table(kind), "mainnet", committed, known=9, now=NOW)

    assert after("daily", 9, 10) == Freshness("daily", 10, 11 * DAY, 12 * DAY + 600)
    assert after("daily", 3) is None
    assert after("daily") is None
    assert after("integer", 10) == Freshness("integer", 10, NOW, NOW)
