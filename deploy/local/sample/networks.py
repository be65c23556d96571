"""The two networks: their clocks, what the sample holds of them, and the versions in which rows come."""

from dataclasses import dataclass
from datetime import UTC, datetime

SLOT_SECONDS = 12
SLOTS_PER_EPOCH = 32
BLOCKS = 5_500
"""Execution blocks of each network, from block 0."""


def seconds(text: str) -> int:
    """Unix seconds of an ISO date or time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@dataclass(frozen=True)
class Network:
    """A network. Ranges are half-open and in UTC."""

    name: str
    genesis: int
    """Unix seconds of slot 0."""
    first_block: int
    """Unix seconds of execution block 0."""
    block_seconds: int
    clients: int
    """How many clients report, at scale 1."""
    attestation_hours: tuple[str, str]
    empty_hour: str
    """The hour in between in which nobody sent an attestation."""

    def slots(self, start: int, end: int) -> tuple[int, int]:
        """The slots that start between two times in unix seconds: the first, and how many."""
        first = -((self.genesis - start) // SLOT_SECONDS)
        return first, -((self.genesis - end) // SLOT_SECONDS) - first


BLOCK_DAYS = ("2024-03-18", "2024-03-22")
NETWORKS = (
    Network(
        name="mainnet",
        genesis=1_606_824_023,
        first_block=1_438_269_973,
        block_seconds=13,
        clients=6,
        attestation_hours=("2024-03-20T00", "2024-03-21T06"),
        empty_hour="2024-03-20T13",
    ),
    Network(
        name="holesky",
        genesis=1_695_902_400,
        first_block=1_695_902_400,
        block_seconds=12,
        clients=3,
        attestation_hours=("2024-03-20T18", "2024-03-21T06"),
        empty_hour="2024-03-20T22",
    ),
)


@dataclass(frozen=True)
class Version:
    """One of the times at which rows come: the first, or again with the same keys and another payload."""

    title: str
    number: int
    """0 for the first time; it shows in the payload."""
    lots: tuple[int, ...]
    """Which of a hundred lots of rows come this time; empty for all."""
    later: int
    """Seconds between the row's first version and this one."""

    def keeps(self, lot: str) -> str:
        """SQL of whether a row comes this time, `lot` being its hash."""
        return f"{lot} % 100 IN {self.lots}" if self.lots else "1"


FIRST = Version("rows", 0, (), 0)
CORRECTIONS = Version("corrections, to be merged", 1, (11, 12, 13), 86_400)
"""These replace their rows for good."""
UNMERGED = (
    Version("corrections", 2, (13, 14, 15, 16), 2 * 86_400),
    Version("replays of old versions", 3, (17, 18), -60),
)
"""These stay beside their rows until somebody merges; some of them are older than what they come after."""
