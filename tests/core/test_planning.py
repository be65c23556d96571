import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.core.partitions import Ranges, Span
from activities.core.planning import (
    Classified,
    ExistingFile,
    PlannedPartition,
    SurveyedPartition,
    classify,
    partitions_to_survey,
)

SPAN = Span(0, 20)
inside = st.integers(min_value=-5, max_value=25)
counts = st.integers(min_value=1, max_value=4)
files = st.dictionaries(inside, st.tuples(counts, counts)).map(
    lambda drawn: {index: ExistingFile(index, f"key-{index}", *values) for index, values in drawn.items()}
)
answers = st.dictionaries(inside, st.tuples(counts, counts)).map(
    lambda drawn: {index: SurveyedPartition(index, *values) for index, values in drawn.items()}
)
ranges = st.frozensets(inside).map(Ranges.from_indices)


def file(index, rows=10, version=5):
    return {index: ExistingFile(index, f"key-{index}", rows, version)}


def source(index, rows=10, version=5):
    return {index: SurveyedPartition(index, rows, version)}


def plan(existing, surveyed, *, asked=SPAN, force=False, has_version=True, newest_first=True, allow_shrink=False):
    return classify(
        SPAN,
        existing,
        surveyed,
        Ranges.from_span(asked),
        force=force,
        has_version=has_version,
        newest_first=newest_first,
        allow_shrink=allow_shrink,
    )


def test_a_partition_without_a_file_is_missing():
    assert plan({}, source(3)).todo == (PlannedPartition(3, "missing", 10),)


def test_a_partition_with_neither_rows_nor_file_is_empty():
    assert plan({}, source(3)).empty == Ranges.from_pairs([(0, 3), (4, 20)])


def test_a_newer_version_at_the_source_makes_a_file_stale():
    assert plan(file(3), source(3, version=6)).todo == (PlannedPartition(3, "stale", 10, "key-3"),)
    assert plan(file(3), source(3, version=5)).todo == ()


def test_a_file_without_a_version_bound_is_stale():
    assert [planned.reason for planned in plan(file(3, version=None), source(3)).todo] == ["stale"]


def test_duplicates_alone_do_not_make_a_versioned_file_stale():
    assert plan(file(3, rows=10), source(3, rows=30)).todo == ()


def test_more_rows_make_a_file_without_versions_stale():
    found = plan(file(3, version=None), source(3, rows=11, version=None), has_version=False)
    assert [planned.reason for planned in found.todo] == ["stale"]
    assert plan(file(3, version=None), source(3, rows=10, version=None), has_version=False).todo == ()


@pytest.mark.parametrize("has_version", [True, False])
def test_nothing_shrinks_by_itself(has_version):
    found = plan(file(3, rows=10), source(3, rows=9, version=9), has_version=has_version)
    assert (found.todo, found.shrunk) == ((), (3,))


def test_a_partition_gone_from_the_source_is_shrunk_and_never_replaced():
    found = plan(file(3), {}, force=True)
    assert (found.todo, found.shrunk) == ((), (3,))


@pytest.mark.parametrize(("force", "allow_shrink"), [(True, False), (False, True)])
def test_only_what_is_forced_and_allowed_makes_a_table_shrink(force, allow_shrink):
    found = plan({**file(3), **file(4)}, source(3, rows=9), force=force, allow_shrink=allow_shrink)
    assert (found.todo, found.shrunk) == ((), (4, 3))


def test_a_forced_and_allowed_shrunk_partition_is_planned_and_named_as_shrunk():
    found = plan({**file(3), **file(4)}, source(3, rows=9), force=True, allow_shrink=True)
    assert found.todo == (PlannedPartition(4, "vanished", 0, "key-4"), PlannedPartition(3, "forced", 9, "key-3"))
    assert found.shrunk == (4, 3)


def test_force_exports_what_is_there_again():
    assert plan(file(3), source(3), force=True).todo == (PlannedPartition(3, "forced", 10, "key-3"),)


def test_what_was_not_asked_about_is_not_judged():
    found = plan({**file(3), **file(4)}, {}, asked=Span(4, 5))
    assert (found.shrunk, found.present, found.empty) == ((4,), 2, Ranges())


def test_the_newest_comes_first_unless_told_otherwise():
    surveyed = {**source(1), **source(7), **source(4)}
    assert [planned.index for planned in plan({}, surveyed).todo] == [7, 4, 1]
    assert [planned.index for planned in plan({}, surveyed, newest_first=False).todo] == [1, 4, 7]


def test_the_source_is_asked_only_about_what_is_unknown_or_may_be_stale():
    existing, empty = {**file(2), **file(9)}, Ranges.from_pairs([(10, 20)])
    ask = partitions_to_survey(SPAN, existing, empty, force=False, look_back=None)
    assert ask == Ranges.from_pairs([(0, 10)])
    ask = partitions_to_survey(SPAN, existing, empty, force=False, look_back=Span(8, 12))
    assert ask == Ranges.from_pairs([(0, 2), (3, 12)])
    ask = partitions_to_survey(SPAN, existing, empty, force=True, look_back=Span(8, 20))
    assert ask == Ranges.from_span(SPAN)


def test_what_is_known_to_be_empty_is_asked_about_only_where_a_question_passes_over_it_anyway():
    empty = Ranges.from_pairs([(0, 20)])
    assert partitions_to_survey(SPAN, {}, empty, force=False, look_back=Span(8, 20)) == Ranges()
    ask = partitions_to_survey(SPAN, file(19), Ranges.from_pairs([(0, 19)]), force=False, look_back=Span(8, 20))
    assert ask == Ranges.from_pairs([(8, 20)])


def test_ten_million_known_empty_partitions_cost_nothing():
    span, empty = Span(0, 10_000_000), Ranges.from_pairs([(0, 9_999_999)])
    ask = partitions_to_survey(span, {}, empty, force=False, look_back=None)
    assert ask.pairs() == ((9_999_999, 10_000_000),)
    found = classify(span, {}, {}, Ranges.from_span(span), force=False, has_version=True)
    assert found == Classified((), 0, Ranges.from_span(span), ())


@given(files, answers, ranges, st.booleans(), st.booleans(), st.booleans())
def test_every_partition_asked_about_has_exactly_one_fate(existing, surveyed, asked, force, has_version, allow_shrink):
    found = classify(SPAN, existing, surveyed, asked, force=force, has_version=has_version, allow_shrink=allow_shrink)
    planned = [item.index for item in found.todo]
    assert len(set(planned)) == len(planned)
    assert all(index in SPAN and index in asked for index in planned)
    assert all((item.reason == "vanished") == (item.index not in surveyed) for item in found.todo)
    assert not set(found.empty) & (set(existing) | set(surveyed))
    for index in asked.intersection(Ranges.from_span(SPAN)):
        if index not in existing:
            assert (index in planned) != (index in found.empty)
    for item in found.todo:
        assert item.replaces == (existing[item.index].key if item.index in existing else "")
        assert (force and allow_shrink) or item.index not in found.shrunk


@given(files, answers)
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(existing, surveyed):
    everything = Ranges.from_span(SPAN)
    first = classify(SPAN, existing, surveyed, everything, force=False, has_version=True)
    done = dict(existing)
    for item in first.todo:
        answer = surveyed[item.index]
        done[item.index] = ExistingFile(item.index, "new", answer.rows, answer.version)
    assert classify(SPAN, done, surveyed, everything, force=False, has_version=True).todo == ()
