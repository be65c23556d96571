"""Which files are rewritten: a row a few times in its life, and never for nothing."""

from hypothesis import given
from hypothesis import strategies as st

from activities.core.compactplan import FileFacts, choose, due
from activities.core.mirrors import CompactionRules

RULES = CompactionRules(
    target_file_bytes=1000, small_file_bytes=100, small_files=4, deleted_ratio=0.3, bytes_per_turn=5000
)


def files(*sizes, partition="", deleted=0, rows=10):
    return [FileFacts(f"{partition}{number}", partition, size, rows, deleted) for number, size in enumerate(sizes)]


def paths(chosen):
    return [file.path for file in chosen.files]


def test_small_files_are_put_together_once_there_are_enough_of_a_size():
    assert due(files(50, 50, 50), RULES) == ""
    assert due(files(50, 50, 50, 50), RULES) == "4 files are small"
    assert paths(choose(files(50, 500, 50, 50, 50), RULES)) == ["0", "2", "3", "4"]
    # Three of one size and three of a much smaller one are not four of a size.
    assert choose(files(50, 50, 50, 3, 3, 3), RULES).files == ()
    # When larger ones are enough, the smaller ones come with them.
    assert len(choose(files(50, 50, 50, 50, 3, 3), RULES).files) == 6
    assert len(choose(files(50, 50, 3, 3, 3, 3), RULES).files) == 4


def test_partitions_are_never_put_together():
    assert choose([*files(50, 50, partition="a"), *files(50, 50, partition="b")], RULES).files == ()
    every = [*files(50, 50, 50, 50, partition="a"), *files(50, 50, 50, 50, partition="b")]
    assert paths(choose(every[::2] + every[1::2], RULES)) == ["a0", "a2", "a1", "a3", "b0", "b2", "b1", "b3"]


def test_a_file_of_which_much_is_deleted_is_rewritten_alone():
    mostly = FileFacts("x", "", 900, 10, 4)
    assert due([mostly], RULES) == "of 1 files more than 30% is deleted"
    assert paths(choose([mostly, FileFacts("y", "", 900, 10, 3)], RULES)) == ["x"]
    # A small one waits for others of its size: each merge leaves some.
    assert due([FileFacts("z", "", 50, 10, 9)], RULES) == ""


def test_what_a_person_asks_for_is_whatever_can_be_better():
    chosen = choose([*files(50, 60, 900), FileFacts("x", "", 900, 10, 1)], RULES, thorough=True)
    assert (paths(chosen), chosen.more) == (["0", "1", "x"], False)
    assert choose(files(50, 900, 900), RULES, thorough=True).files == ()


def test_a_turn_is_bounded_and_says_that_there_is_more():
    chosen = choose(files(*[900] * 10, deleted=5), RULES)
    assert (len(chosen.files), chosen.more) == (5, True)
    huge = choose(files(9000, 9000, 9000, deleted=5), RULES)
    assert (len(huge.files), huge.more) == (2, True)


FACTS = st.builds(
    FileFacts,
    path=st.uuids().map(str),
    partition=st.sampled_from("ab"),
    size=st.integers(1, 2000),
    rows=st.just(100),
    deleted=st.integers(0, 100),
)


@given(st.lists(FACTS, max_size=60, unique_by=lambda file: file.path), st.booleans())
def test_compacting_again_and_again_comes_to_an_end(held, thorough):
    """Each turn leaves files as large as their live rows, cut at the target; after some turns nothing is left to do."""
    for turn in range(200):
        chosen = choose(held, RULES, thorough=thorough)
        if not chosen.files:
            assert not chosen.more
            return
        held = [file for file in held if file not in chosen.files]
        for partition in "ab":
            mine = [file for file in chosen.files if file.partition == partition]
            left = sum(file.size * (file.rows - file.deleted) // file.rows for file in mine)
            sizes = [1000] * (left // 1000) + ([left % 1000] if left % 1000 else [])
            held += [FileFacts(f"{partition}{turn}-{n}", partition, size, 100, 0) for n, size in enumerate(sizes)]
    raise AssertionError("never ended")
