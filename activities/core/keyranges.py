"""Ranges of keys: all keys cut into parts of about the same size, to be looked at one after the other."""

import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from activities.core.mirrors import Keys

_BITS = 32


@dataclass(frozen=True)
class KeyRanges:
    """The keys cut into `count` ranges by their first word, which is as good as random."""

    count: int
    chosen: tuple[int, ...]
    """Numbers of those that are looked at, ascending."""

    @classmethod
    def pick(cls, ranges: int, samples: int, seed: int, parts: int = 1) -> "KeyRanges":
        """Some of the ranges (`samples` 0: all), each of them in `parts`, which count as ranges of their own."""
        numbers = range(ranges)
        some = random.Random(seed).sample(numbers, samples) if 0 < samples < ranges else numbers  # noqa: S311 - no secret
        return cls(ranges * parts, tuple(sorted(one * parts + part for one in some for part in range(parts))))

    def of(self, keys: Keys) -> npt.NDArray[np.int64]:
        """The range of each key."""
        first = keys.high >> np.uint64(_BITS)
        return (first * np.uint64(self.count) >> np.uint64(_BITS)).astype(np.int64)

    def bounds(self, number: int) -> tuple[int, int | None]:
        """The first `high` of a range, and that of the next one; None: there is no next one."""
        first, stop = (-(-(one << _BITS) // self.count) << _BITS for one in (number, number + 1))
        return first, None if number + 1 == self.count else stop
