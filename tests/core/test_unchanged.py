"""Cases 13, 52, 53: where the values are that updates do not carry, in a batch and in the mirror."""

import random
from dataclasses import dataclass

import numpy as np

from activities.core.fold import DELETE, INSERT, TRUNCATE, UPDATE, Changes, fold
from activities.core.index import Found
from activities.core.mirrors import Keys, Sequences
from activities.core.unchanged import needed, resolve

LAST_ORDINAL = 2**64 - 1


@dataclass
class Mirror:
    """What the mirror has: key → sequence number; of those in `gone` a tombstone."""

    rows: dict
    gone: tuple = ()

    def of(self, folded):
        numbers = [self.rows.get(key, 0) for key in folded.keys.high.tolist()]
        self.known = np.array([key in self.rows for key in folded.keys.high.tolist()], dtype=np.bool_)
        self.live = self.known & ~np.isin(folded.keys.high, self.gone)
        self.sequences = sequences(numbers)
        return self


def sequences(numbers):
    words = [np.array(one, dtype=np.uint64) for one in ([n >> 64 for n in numbers], [n % 2**64 for n in numbers])]
    return Sequences(*words)


def found(*events, mirror=None, gone=()):
    """(key, column) → the event, or ("mirror", key), or None for nobody; events are (key, number, operation, lacks)."""
    keys = np.array([event[0] for event in events], dtype=np.uint64)
    changes = Changes(
        Keys(keys, np.zeros_like(keys)),
        sequences([event[1] for event in events]),
        np.array([event[2] for event in events], dtype=np.uint8),
    )
    unchanged = np.array([[column in event[3] for column in "abc"] for event in events])
    folded = fold(changes)
    sources = resolve(changes, folded, unchanged, Mirror(mirror or {}, gone).of(folded))
    key = folded.keys.high.tolist()
    told = {}
    for final, column, event, old in zip(sources.finals, sources.columns, sources.events, sources.keys, strict=True):
        assert event < 0 or old < 0
        where = int(event) if event >= 0 else ("mirror", key[old]) if old >= 0 else None
        told[key[final], "abc"[column]] = where
    assert sources.old_keys.tolist() == sorted({old for old in sources.keys.tolist() if old >= 0})
    return told


def test_a_value_is_where_the_newest_older_change_carries_it():
    """Case 52: each column for itself, chained through the batch, whatever its order."""
    assert found((7, 30, UPDATE, "ab"), (7, 20, UPDATE, "a"), (7, 10, INSERT, "")) == {(7, "a"): 2, (7, "b"): 1}


def test_a_value_that_no_change_of_the_batch_carries_is_in_the_mirror():
    """Case 52."""
    told = found((7, 20, UPDATE, "a"), (7, 30, UPDATE, "ab"), (8, 30, UPDATE, "c"), mirror={7: 10, 8: 11})
    assert told == {(7, "a"): ("mirror", 7), (7, "b"): 0, (8, "c"): ("mirror", 8)}


def test_a_change_that_the_mirror_has_outrun_is_no_source():
    """Case 52 with I2: the mirror's row stands for all that is not newer than it, equal numbers too."""
    events = [(7, 5, INSERT, ""), (7, 10, UPDATE, ""), (7, 20, UPDATE, "b"), (7, 30, UPDATE, "a")]
    assert found(*events, mirror={7: 10}) == {(7, "a"): 2}
    assert found(*events, mirror={7: 15}) == {(7, "a"): 2}
    assert found(*events[1:2], (7, 30, UPDATE, "a"), mirror={7: 15}) == {(7, "a"): ("mirror", 7)}
    assert found(*events[1:2], (7, 30, UPDATE, "a"), mirror={7: 10}) == {(7, "a"): ("mirror", 7)}
    assert found(*events[1:2], (7, 30, UPDATE, "a"), mirror={7: 9}) == {(7, "a"): 0}


def test_a_change_that_loses_against_the_mirror_needs_nothing():
    """Case 4 with 52."""
    assert found((7, 20, UPDATE, "ab"), mirror={7: 20}) == {}
    assert found((7, 20, UPDATE, "ab"), mirror={7: 21}, gone=[7]) == {}


def test_of_a_tie_only_the_first_is_a_source():
    """Case 2 with 52."""
    assert found((7, 10, INSERT, ""), (7, 10, INSERT, ""), (7, 20, UPDATE, "a"), (7, 20, UPDATE, "")) == {(7, "a"): 0}


def test_what_a_moved_row_does_not_carry_is_the_deleted_rows():
    """Case 13: in the batch or in the mirror."""
    moved = [(7, 20, DELETE, ""), (8, 21, INSERT, "ab")]
    assert found((7, 10, UPDATE, "b"), *moved, mirror={7: 5}) == {(8, "a"): 0, (8, "b"): ("mirror", 7)}
    assert found(*moved, mirror={7: 5, 8: 4}) == {(8, "a"): ("mirror", 7), (8, "b"): ("mirror", 7)}


def test_a_row_that_moves_while_its_place_is_taken_keeps_its_own_values():
    """Case 13: B becomes C, then A becomes B."""
    told = found(
        (66, 10, DELETE, ""), (67, 11, INSERT, "a"), (65, 12, DELETE, ""), (66, 13, INSERT, "a"), mirror={65: 1, 66: 2}
    )
    assert told == {(67, "a"): ("mirror", 66), (66, "a"): ("mirror", 65)}


def test_a_row_that_moves_from_key_to_key_takes_along_what_never_changed():
    """Case 13 with 52: across the end of a word, out of order, changed on the way, and back to where it was."""
    at = LAST_ORDINAL - 1
    events = [
        (1, at, DELETE, ""),
        (2, at + 1, INSERT, "abc"),
        (2, at + 2, UPDATE, "ab"),
        (2, at + 3, DELETE, ""),
        (3, at + 4, INSERT, "abc"),
        (3, at + 5, DELETE, ""),
        (1, at + 6, INSERT, "abc"),
        (1, at + 7, UPDATE, "abc"),
    ]
    told = {(1, "a"): ("mirror", 1), (1, "b"): ("mirror", 1)}
    assert found(*events, mirror={1: 5}) == told | {(1, "c"): 2}
    assert found(*events[::-1], mirror={1: 5}) == told | {(1, "c"): 5}
    assert found(*events, (1, 6, UPDATE, "a"), mirror={1: 5}) == told | {(1, "b"): 8, (1, "c"): 2}


def test_an_update_takes_nothing_from_a_row_that_was_deleted_just_before_it():
    """Case 52: neighbours in a transaction are not moves."""
    assert found((7, 20, DELETE, ""), (8, 21, UPDATE, "a"), mirror={7: 1, 8: 2}) == {(8, "a"): ("mirror", 8)}


def test_an_insert_without_a_delete_before_it_goes_on_with_its_own_key():
    """Others write whole rows as inserts, and again as inserts."""
    assert found((7, 20, INSERT, ""), (7, 30, INSERT, "a")) == {(7, "a"): 0}
    assert found((7, 19, DELETE, ""), (8, 21, INSERT, "a"), mirror={8: 1}) == {(8, "a"): ("mirror", 8)}


def test_a_value_that_nobody_has_is_taken_from_nobody():
    """Case 52: never null for lack of better."""
    nobody = {(7, "a"): None}
    assert found((7, 20, UPDATE, "a")) == nobody
    assert found((7, 20, UPDATE, "a"), mirror={7: 10}, gone=[7]) == nobody
    assert found((7, 10, DELETE, ""), (7, 20, UPDATE, "a"), mirror={7: 5}) == nobody
    assert found((6, 19, DELETE, ""), (7, 20, INSERT, "a")) == nobody
    assert found((6, 10, DELETE, ""), (6, 19, DELETE, ""), (7, 20, INSERT, "a"), mirror={6: 1}) == nobody


def test_a_row_whose_delete_is_merged_already_is_nobodys_any_more():
    """Case 13: the mirror has only a tombstone, or a newer row; what the batch has of before may not be the newest."""
    moved = [(6, 10, UPDATE, ""), (6, 19, DELETE, ""), (7, 20, INSERT, "a")]
    assert found(*moved, mirror={6: 19}, gone=[6]) == {(7, "a"): None}
    assert found(*moved, mirror={6: 30}) == {(7, "a"): None}


def test_a_move_is_not_guessed_where_two_rows_were_deleted_before_it():
    assert found((5, 19, DELETE, ""), (6, 19, DELETE, ""), (7, 20, INSERT, "a"), mirror={5: 1, 6: 1}) == {
        (7, "a"): None
    }


def test_nothing_older_than_a_truncate_is_a_source():
    """Case 53 with 52: neither of the batch nor of the mirror."""
    truncate, update = (0, 10, TRUNCATE, ""), (7, 20, UPDATE, "a")
    assert found((7, 9, INSERT, ""), truncate, update) == {(7, "a"): None}
    assert found(truncate, update, mirror={7: 9}) == {(7, "a"): None}
    assert found(truncate, update, mirror={7: 10}) == {(7, "a"): ("mirror", 7)}
    assert found((7, 10, INSERT, ""), truncate, update) == {(7, "a"): 0}


def test_changes_that_carry_everything_need_no_sources():
    folded = fold(Changes(Keys(*np.ones((2, 1), np.uint64)), sequences([1]), np.array([INSERT], dtype=np.uint8)))
    changes = Changes(folded.keys, folded.sequences, np.array([INSERT], dtype=np.uint8))
    assert len(resolve(changes, folded, None, Mirror({}).of(folded))) == 0
    assert found((7, 20, UPDATE, ""), (7, 10, UPDATE, "a")) == {}
    assert found((7, 20, DELETE, ""), (7, 10, UPDATE, "a")) == {}


def batch(events):
    """Changes, and what they lack, of (key, number, operation, lacks)."""
    keys = np.array([event[0] for event in events], dtype=np.uint64)
    operations = np.array([event[2] for event in events], dtype=np.uint8)
    unchanged = np.array([[column in event[3] for column in "abc"] for event in events]).reshape(-1, 3)
    return Changes(Keys(keys, np.zeros_like(keys)), sequences([event[1] for event in events]), operations), unchanged


def told(events):
    """Each key's final event, and the events that carry what it lacks."""
    changes, unchanged = batch(events)
    folded = fold(changes)
    sources = resolve(changes, folded, unchanged, Found.nothing(len(folded)))
    carried = zip(sources.finals.tolist(), sources.columns.tolist(), sources.events.tolist(), strict=True)
    where = {(final, column): events[event] if event >= 0 else None for final, column, event in carried}
    return [events[row] for row in folded.rows], where


def test_changes_that_come_in_parts_of_which_only_the_needed_ones_are_kept_say_what_all_of_them_say():
    chance = random.Random(5)
    for _ in range(300):
        events = [
            (chance.randrange(4), chance.randrange(1, 10**6), chance.choice([INSERT, UPDATE, UPDATE, DELETE]), lacks)
            for lacks in (chance.choice(["", "a", "ab", "abc"]) for _ in range(chance.randrange(1, 40)))
        ]
        # Replays of a part, also of what was let go.
        events += chance.sample(events, chance.randrange(len(events)))
        kept, size = [], chance.randrange(1, 10)
        for seen in range(size, len(events) + size, size):
            held = [*kept, *events[seen - size : seen]]
            changes, unchanged = batch(held)
            folded = fold(changes)
            places = needed(changes, folded, unchanged, Found.nothing(len(folded)))
            kept = [held[place] for place in places]
            assert told(kept) == told(events[:seen])
            assert len(kept) <= 4 * len(folded)
