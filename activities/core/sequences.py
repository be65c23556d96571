"""Sequence numbers of many changes at once: unsigned 128-bit numbers, compared as numbers.

As text they are 32 lower-case hex digits, so that texts sort as numbers do; the empty text is older than all.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from activities.core.mirrors import Sequences

Flags = npt.NDArray[np.bool_]

_WORD_DIGITS = 16
_WORD_BITS = 64
_LAST_WORD = 2**_WORD_BITS - 1


def sequence_text(high: int | np.uint64, low: int | np.uint64) -> str:
    """A sequence number as 32 lower-case hex digits."""
    return f"{int(high):016x}{int(low):016x}"


def sequence_words(text: str) -> tuple[np.uint64, np.uint64]:
    """High and low word of what `sequence_text` wrote."""
    return np.uint64(int(text[:_WORD_DIGITS], 16)), np.uint64(int(text[_WORD_DIGITS:], 16))


def predecessor(high: int, low: int) -> tuple[int, int]:
    """The number before one that is not 0, as words."""
    return (high, low - 1) if low else (high - 1, _LAST_WORD)


def greatest(sequences: Sequences) -> str:
    """The greatest as text; empty when there are none."""
    if not len(sequences):
        return ""
    high = sequences.high.max()
    return sequence_text(high, sequences.low[sequences.high == high].max())


def newer(these: Sequences, those: Sequences) -> Flags:
    """Which of `these` are greater than their counterparts in `those`."""
    return _greater(these.high, these.low, those.high, those.low)


def older_than(sequences: Sequences, text: str) -> Flags:
    """Which are smaller than the number in `text`; against the empty text none is."""
    if not text:
        return np.zeros(len(sequences), dtype=np.bool_)
    return _greater(*sequence_words(text), sequences.high, sequences.low)


def ascending(sequences: Sequences) -> bool:
    """Whether none is smaller than the one before it."""
    high, low = sequences.high, sequences.low
    return not bool(_greater(high[:-1], low[:-1], high[1:], low[1:]).any())


def _greater(high: Any, low: Any, than_high: Any, than_low: Any) -> Flags:
    """Words may be arrays or single ones."""
    return np.asarray((high > than_high) | ((high == than_high) & (low > than_low)))
