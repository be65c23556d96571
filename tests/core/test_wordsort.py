"""Sorting by counting, against sorting by comparison."""

import numpy as np
import pytest

from activities.core.wordsort import ascending_order

RNG = np.random.default_rng(3)
COUNT = 20_000


@pytest.mark.parametrize(
    "words",
    [
        RNG.integers(0, 2**64, COUNT, dtype=np.uint64),
        RNG.integers(0, 2**64, 500, dtype=np.uint64),
        RNG.integers(0, 50, COUNT, dtype=np.uint64) << np.uint64(60),
        RNG.integers(0, 2**20, COUNT, dtype=np.uint64),
        RNG.integers(0, 2**20, COUNT, dtype=np.uint64) << np.uint64(31),
        np.arange(COUNT, dtype=np.uint64)[::-1],
        np.zeros(COUNT, np.uint64),
        np.empty(0, np.uint64),
    ],
    ids=["spread", "few", "repeating", "low halves only", "across halves", "descending", "one", "none"],
)
def test_words_ascend_and_equal_ones_stay_in_their_order(words):
    assert ascending_order(words).tolist() == np.argsort(words, kind="stable").tolist()
