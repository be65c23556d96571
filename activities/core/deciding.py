"""What becomes of each key of a batch, given what the mirror has."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from activities.core.mirrors import Sequences
from activities.core.sequences import newer, older_than, sequence_words

Mask = npt.NDArray[np.bool_]


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
    known = known & ~older_than(held, truncated)
    lost = (known & ~newer(sequences, held)) | older_than(sequences, truncated)
    forgotten = ~known & ~lost & _up_to(sequences, horizon)
    wins = ~lost & ~forgotten
    return Decision(
        upserts=wins & ~deletes,
        deletes=wins & deletes,
        lost=lost,
        refused=forgotten & ~deletes,
        replaces=wins & known & alive,
    )


def _up_to(sequences: Sequences, text: str) -> Mask:
    """Which are smaller than the number in `text`, or equal; none when it is empty."""
    if not text:
        return np.zeros(len(sequences), np.bool_)
    high, low = sequence_words(text)
    answer: Mask = older_than(sequences, text) | ((sequences.high == high) & (sequences.low == low))
    return answer
