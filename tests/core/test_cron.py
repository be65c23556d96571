"""Cron expressions: what people write, and what is said of what they cannot mean."""

import pytest

from activities.core.cron import cron_text, parse_cron
from activities.core.faults import BadConfig


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("0 4 * * *", "0 4 * * *"),
        ("  15  *  * * * ", "15 * * * *"),
        ("30 */6 * * *", "30 */6 * * *"),
        ("0 0 1,15 jan-mar SUN", "0 0 1,15 1-3 0"),
        ("5/20 8-18/2 * * mon-fri", "5-59/20 8-18/2 * * 1-5"),
        ("0 12 * * 7", "0 12 * * 0"),
        ("0-59/1 0-23 1-31 1-12 0-6", "* * * * *"),
    ],
)
def test_an_expression_is_read_as_temporal_reads_it(written, means):
    assert cron_text(parse_cron(written)) == means
    assert cron_text(parse_cron(means)) == means


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("", "is no cron expression: write five fields"),
        ("@daily", "is no cron expression: write five fields"),
        ("0 0 4 * * *", "is no cron expression: write five fields"),
        ("60 4 * * *", "'60' is no minute: it goes from 0 to 59"),
        ("0 24 * * *", "'24' is no hour: it goes from 0 to 23"),
        ("0 4 0 * *", "'0' is no day of the month: it goes from 1 to 31"),
        ("0 4 * noon *", "'noon' is no month: it goes from 1 to 12"),
        ("0 4 * * fri-mon", "'fri-mon' is no range of a day of the week: it ends before it starts"),
        ("*/0 4 * * *", "'*/0' is no minute: a step is from 1 to 59"),
        ("0 4, * * *", "'' is no hour: write *, 5, 1-5, */6 or a list of them"),
    ],
)
def test_what_is_no_expression_is_refused_naming_the_field(written, wrong):
    with pytest.raises(BadConfig) as refused:
        parse_cron(written)
    assert wrong in str(refused.value)
