"""Keys of rows as pairs of 64-bit words; version 1 of how, which is kept for ever since indexes hold them.

An integer is mixed by a bijection, so that two of them never meet. All else is hashed with a cryptographic hash, so
that nobody can make two keys meet on purpose either: who may choose names may choose keys.
"""

from hashlib import blake2b
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from activities.core.mirrors import Keys

VERSION = 1
_BYTES = 16
_HALF = np.uint64(33)
_FIRST = np.uint64(0xFF51AFD7ED558CCD)
_SECOND = np.uint64(0xC4CEB9FE1A85EC53)


def integer_keys(values: npt.NDArray[np.int64], nulls: npt.NDArray[np.bool_] | None = None) -> Keys:
    """Keys of one integer each: the finalizer of MurmurHash3 (64 bits) as `high`, a bijection; `low` is 0.

    Args:
        values: int64, a row each; what stands where `nulls` is true does not matter.
        nulls: Which keys are null: they are (0, 1).
    """
    high = values.view(np.uint64) ^ (values.view(np.uint64) >> _HALF)
    high *= _FIRST
    high ^= high >> _HALF
    high *= _SECOND
    high ^= high >> _HALF
    low = np.zeros(len(values), dtype=np.uint64)
    if nulls is not None:
        high[nulls] = 0
        low[nulls] = 1
    return Keys(high, low)


def hashed(messages: bytes, offsets: npt.NDArray[np.int64]) -> Keys:
    """Keys of any kind, from the bytes that stand for them: BLAKE2b with a digest of 16 bytes, read big-endian.

    Args:
        messages: The bytes of all keys, one after the other.
        offsets: Where each begins, and where the last one ends: one more than there are keys.
    """
    places = pairwise(offsets.tolist())
    digests = b"".join([_digest(messages[start:end]) for start, end in places])
    words = np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)
    return Keys(np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1]))


def _digest(message: bytes) -> bytes:
    return blake2b(message, digest_size=_BYTES).digest()
