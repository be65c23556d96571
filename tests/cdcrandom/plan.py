"""What a run is to do: capture and ingest as they are, or more than that, if another room adds to it."""

from collections.abc import Mapping, Sequence
from random import Random

from activities.failpoints import ALL_NAMES
from cdcrandom.world import World
from support.troubles import Trouble

POINTS = frozenset(name for name in ALL_NAMES if name.startswith("cdc-"))
"""Where workers die."""
LATEST = {
    **dict.fromkeys(("cdc-before-upload", "cdc-after-upload", "cdc-before-commit", "cdc-after-commit"), 6),
    **dict.fromkeys((name for name in POINTS if "copy" in name), 1),
}
"""A worker dies at the n-th time at most that it reaches a point: 3, unless it comes by often."""


class Plan:
    """Changelogs, and nothing beyond them."""

    title = "change data capture"
    points = POINTS
    chaos_seconds = 240
    """After so long a run of size 1 calms down, whatever has not happened yet."""

    def prepare(self, world: World) -> None:
        """Before the first worker starts."""

    def troubles(self) -> Mapping[str, Sequence[Trouble]]:
        """Rows of further things that go wrong, each beside the others."""
        return {}

    async def calm(self, world: World, seconds: float) -> None:
        """Wait until what goes beyond changelogs is done, when they hold everything."""

    async def look(self, world: World) -> None:
        """Look at it, at the end."""

    def lines(self) -> list[str]:
        """What is to be said of it."""
        return []

    def deaths(self, rng: Random, size: float) -> list[str]:
        """Every failpoint, each at another time that it is reached."""
        points = sorted(self.points) * max(1, round(size))
        rng.shuffle(points)
        points.sort(key=lambda point: "copy" not in point)  # there are most copies at first
        return [f"{point}:{rng.randint(1, LATEST.get(point, 3))}" for point in points]
