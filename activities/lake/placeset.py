"""Very many places of objects, held to be asked for: eight bytes each, on disk but for the newest."""

import tempfile
from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

RUN = 2**20
"""Places in memory; as many as these make a run on disk."""
_BYTES = 8


class PlaceSet:
    """A set of texts that only grows, in a file that is gone with it. Methods block.

    It keeps a number of 64 bits of each, made from the text: with a billion in it, it says of one other in ten billion
    that it was. So use it where to be wrong in this way does no harm, as where what is named must stay.
    """

    def __init__(self, places: Iterable[str] = ()) -> None:
        self._file = tempfile.TemporaryFile(prefix="icefleet-places-")  # noqa: SIM115 - gone when nobody holds it
        self._runs: list[npt.NDArray[np.uint64]] = []
        self._new = array("Q")
        self.update(places)

    def update(self, places: Iterable[str]) -> None:
        """Put places in."""
        for place in places:
            self._new.append(_number(place))
            if len(self._new) >= RUN:
                self._write()

    def holds(self, places: Sequence[str]) -> list[bool]:
        """Of each place, whether it is in."""
        wanted = np.array([_number(place) for place in places], np.uint64)
        found = np.isin(wanted, np.frombuffer(self._new, np.uint64))
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, wanted), len(run) - 1)
            found |= run[at] == wanted
        return [bool(one) for one in found]

    def _write(self) -> None:
        run = np.unique(np.frombuffer(self._new, np.uint64))
        start = self._file.seek(0, 2)
        self._file.write(run.tobytes())
        self._file.flush()
        self._runs.append(np.memmap(self._file, np.uint64, "r", start, run.shape))
        self._new = array("Q")


def _number(place: str) -> int:
    return int.from_bytes(blake2b(place.encode(), digest_size=_BYTES).digest(), "little")
