"""Coverage in a terminal and in files: marks, months, JSON, and files that are never half there."""

import pytest
import typer

from activities.core.coverage import STATES, Coverage, Run
from activities.core.partitions import span_of
from activities.core.tables import PartitionRule
from starter.coverage import as_json, matches, write_whole
from starter.coverage_strips import CALENDARS, MARKS, legend, strips

DAYS = PartitionRule("daily", "at")
HOURS = PartitionRule("hourly", "at")
CHUNKS = PartitionRule("integer", "number", chunk_size=1000)


def seen(rule, first, *runs, **more):
    index = span_of(rule, first, first).first
    return Coverage("blocks", "mainnet", rule, index, tuple(Run(*run) for run in runs), asked=True, **more)


def lines(ones, width=80, **more):
    return [text.plain.rstrip() for text in strips(ones, width, **more)]


@pytest.mark.parametrize("at", [0, 1], ids=["unicode", "ascii"])
def test_every_state_has_a_mark_of_its_own_of_one_column(at):
    marks = {MARKS[state][at] for state in STATES}
    assert len(marks) == len(STATES)
    assert {len(mark) for mark in marks} == {1}
    assert at == 0 or all(mark.isascii() for mark in marks)


def test_days_stand_under_their_month_as_many_months_in_a_line_as_fit():
    one = seen(DAYS, "2024-02-28", ("there", 3), ("missing", 2), ("open", 1))
    assert lines([one], width=90) == [
        "mainnet.blocks  daily  newest 2024-03-01",
        f"  2024-02 {' ' * 27}■■    2024-03 ■✗✗○",
        "  3 of 5 there; 2 missing: 2024-03-02 … 2024-03-03; 1 open",
    ]
    assert lines([one], width=60, ascii_only=True)[1:3] == [f"  2024-02 {' ' * 27}##", "  2024-03 #xxo"]


def test_hours_show_the_worst_of_their_day():
    one = seen(HOURS, "2024-03-01", ("there", 30), ("stale", 1), ("there", 17))
    assert lines([one])[1] == "  2024-03 ■~"


def test_chunks_stand_in_lines_under_the_first_value():
    one = seen(CHUNKS, "3000", ("there", 5), ("shrunk", 1), ("empty", 60))
    assert lines([one], width=40)[1:4] == [
        f"      0    ■■■■■▼{'·' * 21}",
        f"  30000 {'·' * 30}",
        f"  60000 {'·' * 9}",
    ]


def test_many_tables_get_a_line_each_that_fits():
    one = seen(DAYS, "2024-01-01", ("there", 500), ("missing", 1), ("there", 500))
    found = lines([one] * (CALENDARS + 1), width=60)
    assert len(found) == 3 * (CALENDARS + 1)
    assert found[1].strip("■ ") == "✗"
    assert len(found[1]) <= 60


def test_a_long_sentence_is_folded_between_its_words_and_only_labels_are_dim():
    one = seen(CHUNKS, "3000", *[("there", 1), ("missing", 1)] * 3)
    found = list(strips([one], 40))
    assert [text.plain for text in found[2:]] == [
        "  a mark is 1,000 values",
        "  3 of 6 there; 3 missing: 4000, 6000,",
        "  8000",
    ]
    assert (str(found[1].style), [str(span.style) for span in found[1].spans][:3]) == ("", ["dim", "green", "bold red"])


def test_the_legend_counts_every_state():
    ones = [seen(DAYS, "2024-01-01", ("there", 2_000), ("missing", 1)), seen(DAYS, "2024-01-01", ("there", 1))]
    text = legend(ones).plain
    assert "✗ missing 1 " in text
    assert "■ there 2,001" in text
    assert all(f" {state} " in text for state in STATES)


def test_what_could_not_be_looked_at_has_no_marks():
    away = Coverage("blocks", "mainnet", DAYS, trouble="the catalog is away")
    assert lines([away]) == ["mainnet.blocks  daily", "  it could not be looked at"]
    assert as_json(away)["trouble"] == "the catalog is away"


def test_json_names_the_ranges_of_each_state():
    found = as_json(seen(CHUNKS, "3000", ("there", 2), ("missing", 1), ("there", 1)))
    assert (found["kind"], found["first"], found["last"], found["newest"]) == ("integer", "3000", "6000", "6000")
    assert found["ranges"] == {"there": [("3000", "4000"), ("6000", "6000")], "missing": [("5000", "5000")]}
    assert found["counts"]["stale"] == 0


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        *(("", True), ("block", True), ("mainnet.b", True), ("*blocks", True), ("block?", True), ("mainnet.*", True)),
        *(("holesky.", False), ("block*k", False), ("?locks?", False)),
    ],
)
def test_a_table_is_named_by_a_part_or_by_a_glob(pattern, meant):
    assert matches(pattern, "blocks", "mainnet.blocks") is meant


def test_whoever_reads_the_old_page_reads_it_to_its_end(tmp_path):
    page = tmp_path / "coverage.html"
    page.write_text("old" * 10_000)
    with page.open() as reader:
        assert reader.read(3) == "old"
        write_whole(page, "new")
        assert reader.read() == "old" * 9_999
    assert page.read_text() == "new"
    assert list(tmp_path.iterdir()) == [page]


def test_a_page_that_cannot_be_written_leaves_nothing_behind(tmp_path, capsys):
    taken = tmp_path / "directory"
    taken.mkdir()
    for place in (taken, tmp_path / "nowhere" / "coverage.html"):
        with pytest.raises(typer.Exit) as ended:
            write_whole(place, "new")
        assert ended.value.exit_code == 2
        assert f"cannot write {place}: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [taken]
