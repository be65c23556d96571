"""What a page of objects means against a head that has moved: never two files for one partition."""

from hypothesis import given
from hypothesis import strategies as st

from activities.core.commits import CommitPlan, NewFile, Removal, plan_commit
from activities.core.planning import ExistingFile

INDICES = st.integers(0, 5)
PATHS = st.sampled_from(["a", "b", "c"])


def at(index, letter):
    """A path under which a partition's file may lie."""
    return f"{index}/{letter}.parquet"


@st.composite
def heads(draw):
    held = draw(st.dictionaries(INDICES, PATHS))
    return {index: ExistingFile(index, at(index, letter), 1, None) for index, letter in held.items()}


@st.composite
def new_files(draw):
    index = draw(INDICES)
    replaces = draw(st.one_of(st.just(""), PATHS.map(lambda letter: at(index, letter))))
    return NewFile(index, at(index, draw(PATHS)), "stale" if replaces else "missing", replaces)


def applied(head, plan: CommitPlan):
    """Every live file after the commit, as pairs of partition and path."""
    removed = {held.key for _, held in plan.replace}
    live = [(index, held.key) for index, held in head.items() if held.key not in removed]
    return sorted(live + [(new.index, new.path) for new in plan.files])


@given(heads(), st.lists(new_files(), max_size=10))
def test_after_any_commit_a_partition_has_one_file_and_a_path_one_entry(head, files):
    live = applied(head, plan_commit(head, files))
    assert len({index for index, _ in live}) == len(live)
    assert len({path for _, path in live}) == len(live)


@given(heads(), st.lists(new_files(), max_size=10))
def test_every_file_is_accounted_for_once(head, files):
    plan = plan_commit(head, files)
    assert sorted(map(repr, (*plan.files, *plan.there))) == sorted(map(repr, files))


@given(heads(), st.lists(new_files(), max_size=10))
def test_a_commit_that_is_planned_again_after_it_landed_adds_nothing(head, files):
    landed = {index: ExistingFile(index, path, 1, None) for index, path in applied(head, plan_commit(head, files))}
    again = plan_commit(landed, [file for file in files if file.path in {held.key for held in landed.values()}])
    assert again.files == ()


@given(heads(), st.lists(new_files(), max_size=10))
def test_only_the_file_that_was_to_be_replaced_is_replaced(head, files):
    for new, held in plan_commit(head, files).replace:
        assert held.key == new.replaces == head[new.index].key != new.path


def test_a_partition_that_another_writer_filled_meanwhile_is_left_to_it():
    head = {7: ExistingFile(7, "theirs", 10, None)}
    late = NewFile(7, "ours", "missing")
    assert plan_commit(head, [late]) == CommitPlan((), (), (late,))


def test_a_file_that_was_replaced_by_a_third_one_meanwhile_is_not_replaced_again():
    head = {7: ExistingFile(7, "newer", 10, None)}
    late = NewFile(7, "ours", "stale", replaces="older")
    assert plan_commit(head, [late]) == CommitPlan((), (), (late,))


def test_a_replacement_whose_old_file_is_gone_is_added():
    new = NewFile(7, "ours", "stale", replaces="older")
    assert plan_commit({}, [new]) == CommitPlan((new,), (), ())


def test_a_removal_takes_the_file_that_was_seen_and_no_other():
    head = {index: ExistingFile(index, f"{index}/a", 10, None) for index in (1, 2, 3)}
    new = NewFile(3, "3/b", "forced", replaces="3/a")
    asked = [Removal(1, "1/a"), Removal(2, "2/older"), Removal(3, "3/a"), Removal(4, "4/a")]
    plan = plan_commit(head, [new], asked)
    assert (plan.remove, plan.kept) == ((head[1],), (asked[1],))
    assert plan.outdated == {1: "1/a", 3: "3/a"}
    again = plan_commit({2: head[2]}, [], asked[:2])
    assert (again.changes_files, again.kept) == (False, (asked[1],))
