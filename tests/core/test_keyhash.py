"""Case 16, 18: keys as words, which stay what they are for ever since indexes hold them."""

from hashlib import blake2b
from itertools import accumulate

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from activities.core.keyhash import hashed, integer_keys

WORD = 2**64


def mixed(value):
    """The finalizer of MurmurHash3, number by number."""
    value %= WORD
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD % WORD
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 % WORD
    return value ^ value >> 33


def unmixed(value):
    """Back: the factors' inverses, and the shift once more, since it moves more than half of the bits."""
    value = (value ^ value >> 33) * pow(0xC4CEB9FE1A85EC53, -1, WORD) % WORD
    value = (value ^ value >> 33) * pow(0xFF51AFD7ED558CCD, -1, WORD) % WORD
    return value ^ value >> 33


def test_integers_have_the_words_that_they_have_always_had():
    """Golden values of version 1."""
    keys = integer_keys(np.array([0, 1, -1, 42, 2**63 - 1, -(2**63)]))
    assert [f"{word:016x}" for word in keys.high.tolist()] == [
        "0000000000000000",
        "b456bcfc34c2cb2c",
        "64b5720b4b825f21",
        "810879608e4259cc",
        "abb93df0a930edea",
        "8f780810af31a493",
    ]
    assert not keys.low.any()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_integers_never_meet(values):
    keys = integer_keys(np.array(values, dtype=np.int64))
    assert [unmixed(word) for word in keys.high.tolist()] == [value % WORD for value in values]
    assert keys.high.tolist() == [mixed(value) for value in values]


def test_null_is_no_integer():
    """Case 14: whatever stands where it is null."""
    keys = integer_keys(np.array([0, 5, 7]), np.array([False, True, True]))
    assert list(zip(keys.high.tolist(), keys.low.tolist(), strict=True)) == [(0, 0), (0, 1), (0, 1)]


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_bytes_are_hashed_each_by_itself(messages):
    offsets = np.array([0, *accumulate(map(len, messages))], dtype=np.int64)
    keys = hashed(b"".join(messages), offsets)
    digests = [blake2b(message, digest_size=16).hexdigest() for message in messages]
    assert [
        f"{high:016x}{low:016x}" for high, low in zip(keys.high.tolist(), keys.low.tolist(), strict=True)
    ] == digests


def test_bytes_have_the_words_that_they_have_always_had():
    """Golden value of version 1: the one that RFC 7693's function has for nothing."""
    keys = hashed(b"", np.array([0, 0]))
    assert f"{int(keys.high[0]):016x}{int(keys.low[0]):016x}" == "cae66941d9efbd404e4d88758ea67670"
