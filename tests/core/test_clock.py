"""Dates become values of an integer column, by a table that tells when each of them was."""

import pytest

from activities.core.clock import Instants, clock_query, instants_of
from activities.core.faults import BadRequest
from activities.core.tables import Clock, PartitionRule, TableConfig

DAY = 86_400
START = 19_800 * DAY
"""2024-03-18."""
BLOCKS = PartitionRule("integer", "block", 1000, 100, Clock("blocks", "block_time"))


def test_both_ends_are_inclusive_days_or_hours_and_either_may_be_open():
    assert instants_of("2024-03-18", "2024-03-19") == Instants(START, START + 2 * DAY)
    assert instants_of("2024-03-18T01", "2024-03-18T02") == Instants(START + 3600, START + 3 * 3600)
    assert instants_of("2024-03-18", "") == Instants(START, None)
    assert instants_of("", "2024-03-18") == Instants(None, START + DAY)


def test_numbers_are_no_dates():
    assert instants_of("1000", "2000") is None
    assert instants_of("", "") is None


@pytest.mark.parametrize(("first", "last"), [("2024-03-18", "2000"), ("7", "2024-03-18"), ("2024-03-19", "2024-03-18")])
def test_a_range_of_two_kinds_or_backwards_is_refused(first, last):
    with pytest.raises(BadRequest):
        instants_of(first, last)


def test_the_clock_is_asked_for_the_network_alone_and_values_travel_as_parameters():
    config = TableConfig("traces", "default", "local.default", BLOCKS, (), network_column="net")
    query = clock_query(config, "main'net", Instants(START, START + DAY))
    assert query.text == (
        "SELECT minOrNull(`block`) AS `first`, maxOrNull(`block`) AS `last` FROM `default`.`blocks` WHERE "
        "`net` = {network:String} AND `block_time` >= {low:DateTime('UTC')} AND `block_time` < {high:DateTime('UTC')}"
    )
    assert query.parameters == {"network": "main'net", "low": "2024-03-18 00:00:00", "high": "2024-03-19 00:00:00"}


def test_a_table_without_a_clock_takes_no_dates():
    config = TableConfig("keys", "default", "local.default", PartitionRule("integer", "index", 50), ())
    with pytest.raises(BadRequest, match="nothing tells its values' dates"):
        clock_query(config, "mainnet", Instants(START, None))
