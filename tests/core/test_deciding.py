"""What becomes of each key of a batch: held against the same in plain Python."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from activities.core.deciding import decide
from activities.core.mirrors import Sequences

SMALL = st.integers(0, 3)
NUMBER = st.builds(lambda high, low: (high << 64) + low, SMALL, SMALL)
TEXT = st.none() | NUMBER
CASE = st.tuples(NUMBER, st.booleans(), st.sampled_from(["unknown", "row", "tombstone"]), NUMBER)


def sequences(numbers):
    words = [(number >> 64, number & (2**64 - 1)) for number in numbers]
    return Sequences(*(np.array([word[side] for word in words], np.uint64) for side in (0, 1)))


def expected(number, is_delete, held, entry, truncated, horizon):
    if truncated is not None and entry < truncated:
        held = "unknown"
    if (truncated is not None and number < truncated) or (held != "unknown" and number <= entry):
        return "lost"
    if held == "unknown" and horizon is not None and number <= horizon:
        return "nothing" if is_delete else "refused"
    return "delete" if is_delete else "upsert"


@given(st.lists(CASE), TEXT, TEXT)
def test_the_newest_wins_and_what_may_have_been_deleted_is_refused_cases_4_5_20(cases, truncated, horizon):
    asked = decide(
        sequences([one[0] for one in cases]),
        np.array([one[1] for one in cases], np.bool_),
        known=np.array([one[2] != "unknown" for one in cases], np.bool_),
        alive=np.array([one[2] == "row" for one in cases], np.bool_),
        held=sequences([one[3] for one in cases]),
        truncated="" if truncated is None else f"{truncated:032x}",
        horizon="" if horizon is None else f"{horizon:032x}",
    )
    for place, (number, is_delete, held, entry) in enumerate(cases):
        wanted = expected(number, is_delete, held, entry, truncated, horizon)
        said = [
            name
            for name, mask in (
                ("upsert", asked.upserts),
                ("delete", asked.deletes),
                ("lost", asked.lost),
                ("refused", asked.refused),
            )
            if mask[place]
        ]
        assert said == ([] if wanted == "nothing" else [wanted])
        is_there = held == "row" and (truncated is None or entry >= truncated)
        assert asked.replaces[place] == (is_there and wanted in {"upsert", "delete"})
