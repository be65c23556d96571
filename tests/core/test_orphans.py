"""Ages as people write them, and the line before a deletion."""

import pytest

from activities.contracts.orphans import DELETION_SECONDS, REQUEST_SECONDS, SIGNATURE_SECONDS, WORK_SECONDS
from activities.core.faults import BadRequest, ObjectRefused
from activities.core.objectkeys import public_key, table_prefix
from activities.core.orphans import PROPERTY, age_text, check_age, check_line, line_of, parse_age
from activities.core.tables import NetworkRange, PartitionRule, TableConfig
from workflows.policies import DELETE_ORPHANS


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("90m", 5_400), ("24h", 86_400), ("7d", 604_800), (" 2 h ", 7_200), ("0s", 0)],
)
def test_an_age_is_a_number_and_a_unit(text, seconds):
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1.5h", "24 hours", "1h30m", "٣h", "24H"])
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(BadRequest, match="is no age: write a whole number and s, m, h or d, such as 24h"):
        parse_age(text)


@pytest.mark.parametrize(("seconds", "text"), [(86_400, "1d"), (16_200, "270m"), (7_200, "2h"), (61, "61s")])
def test_an_age_is_said_in_its_largest_unit(seconds, text):
    assert age_text(seconds) == text
    assert parse_age(text) == seconds


def test_what_an_attempt_may_still_need_is_too_young_to_go():
    assert check_age("5h", 16_200) == 18_000
    assert check_age("270m", 16_200) == 16_200
    with pytest.raises(
        BadRequest, match=r"older than 4h is too young to go: .* At least 270m .*`export\.orphan_age_seconds`"
    ):
        check_age("4h", 16_200)


def test_an_object_made_before_the_line_cannot_be_committed():
    assert line_of({}) == 0
    check_line({}, "key", 1)
    check_line({PROPERTY: "100"}, "key", 100)
    with pytest.raises(ObjectRefused, match="object key was made at 99, and what no snapshot named at 100"):
        check_line({PROPERTY: "100"}, "key", 99)


def test_the_prefix_of_a_table_is_that_of_its_keys_and_of_no_other_table_s():
    def config(name):
        rule = PartitionRule("daily", "at")
        return TableConfig(name, "default", "e.c", rule, (NetworkRange("mainnet", "2024-03-01"),))

    prefix = table_prefix(config("events"), "mainnet")
    assert prefix == "xatu/mainnet/databases/default/events/"
    assert public_key(config("events"), "mainnet", 19_000).startswith(prefix)
    assert not public_key(config("events_block"), "mainnet", 19_000).startswith(prefix)


def test_a_loop_goes_on_only_when_no_deletion_that_it_asked_for_can_still_take_effect():
    assert DELETE_ORPHANS["start_to_close_timeout"].total_seconds() == DELETION_SECONDS
    assert DELETION_SECONDS > WORK_SECONDS + REQUEST_SECONDS + SIGNATURE_SECONDS
    # A worker that is only cut off from Temporal goes on deleting: its silence must not start anything else.
    assert "heartbeat_timeout" not in DELETE_ORPHANS
