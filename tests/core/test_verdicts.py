"""What counts say of a partition."""

import re
from pathlib import Path

import pytest

from activities.contracts import verify as contract
from activities.core.verdicts import SOUND, HeldFile, Seen, SourceCount, Verdict, agreed, judge, judge_object

COUNTS = [SourceCount(), SourceCount(9, 7), SourceCount(10, 7), SourceCount(11, 7), SourceCount(10, 8)]
FILE = HeldFile("s3://lake/20.parquet", rows=10, size=1000, version=7)


@pytest.mark.parametrize(
    ("files", "source", "versioned", "plain"),
    [
        ([FILE], SourceCount(10, 7), "proved", "proved"),
        ([], SourceCount(), "empty", "empty"),
        ([], SourceCount(1, 7), "missing", "missing"),
        ([FILE], SourceCount(10, 8), "stale", "proved"),
        ([FILE], SourceCount(9, 8), "stale", "shrunk"),
        ([FILE], SourceCount(11, 7), "rows", "stale"),
        ([FILE], SourceCount(9, 7), "shrunk", "shrunk"),
        ([FILE], SourceCount(10, 6), "shrunk", "proved"),
        ([FILE], SourceCount(), "shrunk", "shrunk"),
        ([FILE, FILE], SourceCount(10, 7), "duplicate", "duplicate"),
        ([FILE, FILE], SourceCount(), "duplicate", "duplicate"),
        ([HeldFile("f", 10, 1, None)], SourceCount(10, 7), "stale", "proved"),
    ],
)
def test_a_partition_is_judged_by_its_files_and_what_the_source_counts(files, source, versioned, plain):
    assert judge(files, source, has_version=True).kind == versioned
    assert judge(files, source, has_version=False).kind == plain


@pytest.mark.parametrize("source", [SourceCount(9, 7), SourceCount(11, 7), SourceCount(10, 8)])
def test_a_finding_says_what_both_sides_hold_and_which_file(source):
    message = judge([FILE], source, has_version=True).message
    assert f"the source has {source.rows} rows, s3://lake/20.parquet holds 10" in message


def test_an_object_must_be_there_with_the_size_that_the_table_says():
    assert judge_object(FILE, 1000).kind == "proved"
    assert judge_object(FILE, 999).kind == "size"
    assert judge_object(FILE, None).kind == "gone"


def test_every_kind_is_one_that_report_and_guide_explain():
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "verify.md").read_text(encoding="utf-8")
    explained = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| .* \|$", guide, re.MULTILINE))
    assert {kind: explained.get(kind) for kind in contract.KINDS} == contract.KINDS
    assert set(contract.SOUND) == SOUND
    assert not SOUND & set(contract.KINDS)
    judged = {judge(files, source, has_version=True).kind for files in ([], [FILE], [FILE, FILE]) for source in COUNTS}
    assert judged <= SOUND | set(contract.KINDS)


STALE = Seen(Verdict("stale"), (FILE,), SourceCount(11, 8))


@pytest.mark.parametrize(
    ("now", "kind"),
    [
        (STALE, "stale"),
        (Seen(Verdict("proved"), (FILE,), SourceCount(10, 7)), "proved"),
        (Seen(Verdict("empty")), "empty"),
        # Still not right, and in another way than before: an export is under way, or rows are.
        (Seen(Verdict("stale"), (FILE,), SourceCount(12, 9)), "open"),
        (Seen(Verdict("gone"), (HeldFile("s3://lake/20-1.parquet", 11, 1100, 8),), SourceCount(11, 8)), "open"),
    ],
)
def test_a_finding_is_what_two_looks_found_in_the_same_state(now, kind):
    assert agreed({3: STALE, 4: STALE}, {3: now})[3].verdict.kind == kind
    assert list(agreed({3: STALE, 4: STALE}, {3: now})) == [3]
