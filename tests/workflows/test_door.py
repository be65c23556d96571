"""What a door takes for its loop's report, and what it refuses."""

from dataclasses import asdict

import pytest

from activities.contracts.export import ExportReport, FailedPartition
from workflows.door import parse_answer


def test_a_report_is_read_as_it_was_written_also_when_a_newer_loop_says_more():
    report = ExportReport(status="partial", failed=1, failures=[FailedPartition("2024-03-20", "Bug", "no", "us")])
    assert parse_answer(("id", {**asdict(report), "newer": [1]}), ExportReport) == ("id", report)


@pytest.mark.parametrize(
    "payloads",
    [(), ("id",), ("id", {}, 1), ("id", "done"), ("id", 7), ("id", {"failures": 1}), ("id", {"exported": "many"})],
    ids=str,
)
def test_what_is_no_report_is_an_error_that_a_door_refuses_in_its_log(payloads):
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        parse_answer(payloads, ExportReport)
