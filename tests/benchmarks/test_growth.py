"""A benchmark fails when what a backfill leaves behind grows faster than the backfill."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path("benchmarks").resolve()))

from growth import check


def test_what_doubles_with_the_partitions_passes_and_is_shown(capsys):
    check({"events": 100, "seconds": 10.0}, {"events": 200, "seconds": 22.9})
    shown = capsys.readouterr().out
    assert "events: 100 became 200, 2.00 times" in shown
    assert "seconds: 10 became 23, 2.29 times" in shown


def test_what_grows_with_the_square_fails_and_is_named_after_all_was_shown(capsys):
    with pytest.raises(RuntimeError, match=r"at most 2\.3 times as much, not events 4\.00 times$"):
        check({"events": 100, "bytes": 1000}, {"events": 400, "bytes": 2300})
    assert "bytes: 1,000 became 2,300, 2.30 times" in capsys.readouterr().out
