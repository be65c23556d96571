"""What becomes of each key of a batch, given what the mirror has."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from activities.core.mirrors import Sequences, Words

Mask = npt.NDArray[np.bool_]
_DIGITS = 16


@dataclass(frozen=True)
class Decision:
    """Masks over the keys of a batch, each key in at most one of `upserts`, `deletes`, `lost` and `refused`."""

    upserts: Mask
    """Their row is the key's latest."""
    deletes: Mask
    """The key is to be gone, and remembered as deleted."""
    lost: Mask
    """The mirror has something that is as new, or newer."""
    refused: Mask
    """Nobody remembers whether the key was deleted since."""
    replaces: Mask
    """The mirror has a row of the key that is to go, whether another one comes or not."""


def decide(
    sequences: Sequences,
    deletes: Mask,
    *,
    known: Mask,
    alive: Mask,
    held: Sequences,
    truncated: str,
    horizon: str,
) -> Decision:
    """Judge the newest change of every key.

    Args:
        sequences: Of the changes.
        deletes: Which of them are deletes.
        known: Whether the index has an entry of the key.
        alive: Whether that is one of a row, and not a tombstone.
        held: The entry's sequence number; anything where there is none.
        truncated: Everything older is gone, 32 hex digits; empty: nothing was truncated.
        horizon: Deletes up to this are forgotten, 32 hex digits; empty: none are.
    """
    known = known & ~_below(held, truncated, or_equal=False)
    lost = (known & ~newer(sequences, held)) | _below(sequences, truncated, or_equal=False)
    forgotten = ~known & ~lost & _below(sequences, horizon, or_equal=True)
    wins = ~lost & ~forgotten
    return Decision(
        upserts=wins & ~deletes,
        deletes=wins & deletes,
        lost=lost,
        refused=forgotten & ~deletes,
        replaces=wins & known & alive,
    )


def newer(these: Sequences, those: Sequences) -> Mask:
    """Where `these` are greater."""
    answer: Mask = (these.high > those.high) | ((these.high == those.high) & (these.low > those.low))
    return answer


def _below(sequences: Sequences, text: str, *, or_equal: bool) -> Mask:
    """Where they are below a number of 32 hex digits; nothing is below an empty one."""
    if not text:
        return np.zeros(len(sequences), np.bool_)
    one = Sequences(_word(text[:_DIGITS]), _word(text[_DIGITS:]))
    below = newer(one, sequences)
    if or_equal:
        below |= (sequences.high == one.high) & (sequences.low == one.low)
    return below


def _word(digits: str) -> Words:
    return np.array([int(digits, 16)], np.uint64)
