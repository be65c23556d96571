"""Cases 1, 2, 3, 6-10, 12, 16, 53, 60: what is left of a batch, against a dict."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.core.fold import DELETE, INSERT, TRUNCATE, UPDATE, Changes, fold
from activities.core.keyhash import integer_keys
from activities.core.mirrors import Keys, Sequences
from activities.core.sequences import sequence_text, sequence_words

LSN = 0x16B3748 << 64


def words(values):
    return np.array(values, dtype=np.uint64)


def sequences(numbers):
    return Sequences(words([one >> 64 for one in numbers]), words([one % 2**64 for one in numbers]))


def batch(*events):
    """Events are (key, number, operation); keys are pairs of words, or integers for the first."""
    keys = [key if isinstance(key, tuple) else (key, 0) for key, _, _ in events]
    return Changes(
        Keys(words([high for high, _ in keys]), words([low for _, low in keys])),
        sequences([number for _, number, _ in events]),
        np.array([operation for _, _, operation in events], dtype=np.uint8),
    )


def told(folded):
    """Key → which change is left of it."""
    keys = zip(folded.keys.high.tolist(), folded.keys.low.tolist(), strict=True)
    return dict(zip(keys, folded.rows.tolist(), strict=True))


def left(*events):
    """The same of keys of one word."""
    return {high: row for (high, _), row in told(fold(batch(*events))).items()}


@dataclass
class Oracle:
    """One change after the other, in the order of their numbers; of the same number the first."""

    floor: int = -1
    rows: dict = field(default_factory=dict)
    order: dict = field(default_factory=dict)
    ties: int = 0

    def see(self, events, floor=""):
        self.floor = max([int(floor, 16) if floor else -1, *(at for _, at, what in events if what == TRUNCATE)])
        seen = set()
        for place, (key, number, what) in sorted(enumerate(events), key=lambda one: (one[1][1], one[0])):
            if what == TRUNCATE or number < self.floor:
                continue
            if (key, number) in seen:
                self.ties += 1
                continue
            seen.add((key, number))
            self.rows[key] = place
            self.order.setdefault(key, []).append(place)
        return self


KEYS = st.tuples(st.sampled_from([0, 1, 2, 2**64 - 1]), st.sampled_from([0, 1, 2**64 - 1]))
NUMBERS = st.sampled_from([0, 1, 2, 2**64 - 1, 2**64, LSN, LSN + 1, 2**128 - 1]) | st.integers(0, 40)
EVENTS = st.lists(
    st.tuples(
        KEYS,
        NUMBERS,
        st.sampled_from([INSERT, UPDATE, DELETE]) | st.sampled_from([INSERT, UPDATE, DELETE, TRUNCATE]),
    ),
    max_size=40,
)


@given(EVENTS, st.just("") | NUMBERS.map(lambda number: f"{number:032x}"))
@settings(max_examples=200)
def test_what_is_left_is_what_a_dict_holds_after_every_change_in_turn(events, floor):
    oracle = Oracle().see(events, floor)

    folded = fold(batch(*events), floor)

    assert told(folded) == oracle.rows
    assert folded.deletes.tolist() == [events[row][2] == DELETE for row in folded.rows]
    assert [sequence_text(*one) for one in zip(folded.sequences.high, folded.sequences.low, strict=True)] == [
        f"{events[row][1]:032x}" for row in folded.rows
    ]
    assert folded.truncated == ("" if oracle.floor < 0 else f"{oracle.floor:032x}")
    truncates = sum(what == TRUNCATE for _, _, what in events)
    assert folded.ties == oracle.ties
    assert len(events) == truncates + folded.superseded + folded.ties + len(folded)


@given(EVENTS)
def test_what_is_left_is_sorted_by_key_and_tells_each_keys_changes_from_old_to_new(events):
    folded = fold(batch(*events))

    assert list(told(folded)) == sorted(told(folded))
    runs = [folded.order[start:end].tolist() for start, end in zip(folded.starts, folded.ends, strict=True)]
    assert dict(zip(told(folded), runs, strict=True)) == Oracle().see(events).order


@given(EVENTS, st.randoms(use_true_random=False))
def test_the_order_of_a_batch_does_not_matter_but_for_ties(events, random):
    once = list({(key, number): (key, number, what) for key, number, what in events}.values())
    shuffled = random.sample(once, len(once))

    def outcome(changes):
        folded = fold(batch(*changes))
        return {key: changes[row][1:] for key, row in told(folded).items()}, folded.truncated

    assert outcome(once) == outcome(shuffled)


@given(EVENTS, st.integers(0, 40))
def test_a_replay_of_any_part_of_a_batch_changes_nothing(events, part):
    """I2."""
    first, again = told(fold(batch(*events))), fold(batch(*events, *events[:part], *events[part:]))
    assert told(again) == first


def test_an_exact_duplicate_counts_once():
    """Case 1."""
    folded = fold(batch((7, 5, INSERT), (7, 5, INSERT)))
    assert (told(folded), folded.ties, folded.superseded) == ({(7, 0): 0}, 1, 0)


def test_of_two_changes_with_one_sequence_number_the_first_wins_and_the_other_is_counted():
    """Case 2: an older change between them in the batch, and others around, make no difference."""
    folded = fold(batch((7, 5, UPDATE), (7, 4, INSERT), (8, 5, INSERT), (7, 5, DELETE), (7, 5, UPDATE)))
    assert (told(folded), folded.ties, folded.superseded) == ({(7, 0): 0, (8, 0): 2}, 2, 1)
    assert not folded.deletes.any()


def test_changes_out_of_order_count_by_their_numbers():
    """Case 3."""
    assert left((7, 9, UPDATE), (7, 3, INSERT), (7, 6, DELETE)) == {7: 0}


@pytest.mark.parametrize(
    ("operations", "deleted"),
    [
        pytest.param([DELETE, INSERT], False, id="case 6"),
        pytest.param([INSERT, DELETE], True, id="case 7"),
        pytest.param([INSERT, UPDATE, DELETE, INSERT, UPDATE], False, id="case 8"),
        pytest.param([UPDATE] * 100, False, id="case 9"),
    ],
)
def test_the_last_change_of_a_key_decides(operations, deleted):
    folded = fold(batch(*((7, LSN + place, what) for place, what in enumerate(operations))))
    assert (folded.rows.tolist(), folded.deletes.tolist()) == ([len(operations) - 1], [deleted])
    assert (folded.superseded, folded.ties) == (len(operations) - 1, 0)


def test_changes_of_one_transaction_count_by_their_ordinal():
    """Case 10."""
    assert left((7, LSN + 2, UPDATE), (7, LSN + 10, DELETE), (7, LSN + 9, INSERT)) == {7: 1}


def test_a_row_of_a_first_copy_loses_against_the_stream_wherever_it_stands():
    """Case 12: numbers of 0/0, which are numbers as others are."""
    assert left((7, LSN, UPDATE), (7, 0, INSERT), (8, 0, INSERT)) == {7: 0, 8: 2}


def test_keys_that_share_their_first_word_stay_distinct():
    """Case 16: also where each comes several times and in turns."""
    one, other = (7, 1), (7, 2)
    folded = fold(batch((one, 5, INSERT), (other, 9, INSERT), (one, 7, UPDATE), (other, 6, DELETE), (one, 6, DELETE)))
    assert (told(folded), folded.superseded) == ({one: 2, other: 1}, 3)


def test_pairs_of_changes_that_were_taken_for_one_key_are_told_with_those_that_tie():
    """Case 16."""
    folded = fold(batch((7, 5, INSERT), (8, 1, INSERT), (7, 5, INSERT), (7, 4, INSERT)))
    assert sorted(zip(*(side.tolist() for side in folded.twins), strict=True)) == [(0, 2), (3, 0)]


def test_a_truncate_voids_what_is_older_and_nothing_else():
    """Case 53: in the middle of a batch, and whatever key its row may have."""
    folded = fold(
        batch((7, 1, INSERT), (8, 1, INSERT), (0, 5, TRUNCATE), (8, 6, INSERT), (9, 5, INSERT), (9, 4, DELETE))
    )
    assert told(folded) == {(8, 0): 3, (9, 0): 4}
    assert (folded.truncated, folded.superseded) == (sequence_text(0, 5), 3)


def test_a_truncate_of_an_earlier_batch_still_counts_and_only_the_newest_does():
    """Case 53."""
    events = batch((7, 4, INSERT), (8, 6, INSERT), (0, 3, TRUNCATE))
    folded = fold(events, sequence_text(0, 5))
    assert (told(folded), folded.truncated) == ({(8, 0): 1}, sequence_text(0, 5))


def test_nothing_is_left_of_nothing_and_of_truncates_alone():
    assert (len(fold(batch())), fold(batch()).truncated) == (0, "")
    folded = fold(batch((0, 5, TRUNCATE), (0, LSN, TRUNCATE)))
    assert (len(folded), folded.superseded, folded.truncated) == (0, 0, f"{LSN:032x}")


@pytest.mark.parametrize("keys", [1, 10, 1000, 100_000])
@pytest.mark.parametrize("ordered", [True, False])
def test_keys_that_are_hot_fold_as_others_do(keys, ordered):
    """Case 60: numpy alone tells what must be left, by another way than the fold's."""
    count = 100_000
    dice = np.random.default_rng(keys)
    values, numbers = dice.integers(0, keys, count), np.arange(count, dtype=np.uint64)
    if not ordered:
        dice.shuffle(numbers)
    newest = np.zeros(keys, dtype=np.uint64)
    np.maximum.at(newest, values, numbers)
    place = np.empty(count, dtype=np.int64)
    place[numbers] = np.arange(count)

    operations = np.ones(count, dtype=np.uint8)
    folded = fold(Changes(integer_keys(values), Sequences(np.zeros(count, dtype=np.uint64), numbers), operations))

    there = np.unique(values)
    assert sorted(folded.rows.tolist()) == sorted(place[newest[there]].tolist())
    assert folded.superseded == count - len(there)


@given(st.integers(0, 2**128 - 1))
def test_sequence_numbers_are_read_as_they_are_written(number):
    text = sequence_text(number >> 64, number % 2**64)
    assert int(text, 16) == number
    assert tuple(map(int, sequence_words(text))) == (number >> 64, number % 2**64)
