"""Gauges whose values age: what waits grows older while nobody looks, and what a worker said long ago is not said on.

A table's work moves from worker to worker. One that has not looked for a while says nothing more, so that the largest
value of all workers is true again soon after another one has seen better.
"""

import time
from collections.abc import Iterable, Mapping

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

FORGET_SECONDS = 900.0

Attributes = frozenset[tuple[str, str]]


class Lately:
    """A gauge of what was said lately; `zero_seconds` is how long a 0 is told, if not as long as all else."""

    def __init__(
        self,
        name: str,
        description: str,
        *,
        unit: str = "",
        forget_seconds: float = FORGET_SECONDS,
        zero_seconds: float | None = None,
    ) -> None:
        self._forget_seconds = forget_seconds
        self._zero_seconds = forget_seconds if zero_seconds is None else zero_seconds
        self._said: dict[Attributes, tuple[float, float]] = {}
        """The value, and when it was said (unix seconds)."""
        metrics.get_meter("icefleet").create_observable_gauge(name, [self._observe], unit=unit, description=description)

    def set(self, value: float, about: Mapping[str, str]) -> None:
        """Say what is so now."""
        self._said[frozenset(about.items())] = (value, time.time())

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        now = time.time()
        for about, (value, said) in list(self._said.items()):
            if said + self.lasts(value) < now:
                self._said.pop(about, None)
            else:
                yield Observation(self.told(value, now), dict(about))

    def lasts(self, value: float) -> float:
        """For how many seconds a value is told that is not said again."""
        return self._forget_seconds if value else self._zero_seconds

    def told(self, value: float, now: float) -> float:
        """What is told at `now` of a value that was said before."""
        del now
        return value


class Waiting(Lately):
    """A gauge of seconds: for how long the oldest of what waits has been waiting; 0 while nothing does.

    What is kept is since when it waits, in unix seconds; 0 for nothing. That something waits is soon said again by
    whoever tries next, so it is forgotten after FORGET_SECONDS at the latest: it would grow older here for as long as
    it is told, although another worker has long done it.
    """

    def __init__(self, name: str, description: str, *, forget_seconds: float = FORGET_SECONDS) -> None:
        # That nothing waits is told for longer than that something does.
        something = min(forget_seconds, FORGET_SECONDS)
        super().__init__(name, description, unit="s", forget_seconds=something, zero_seconds=forget_seconds)

    def still(self, about: Mapping[str, str]) -> None:
        """A try failed: what waited goes on waiting. Where nothing is known to, something does from now on."""
        now = time.time()
        before, said = self._said.get(frozenset(about.items()), (0.0, 0.0))
        is_known = before and said + self.lasts(before) >= now
        self.set(before if is_known else now, about)

    def told(self, value: float, now: float) -> float:
        """The age of what waits."""
        return max(0.0, now - value) if value else 0.0


class LongestWaiting(Waiting):
    """The same, told only of what has been waiting for longest of each `network`, or whatever `of` says.

    So there is one series instead of hundreds.
    """

    def __init__(self, name: str, description: str, *, of: str = "network") -> None:
        super().__init__(name, description)
        self._of = of

    def _observe(self, options: CallbackOptions) -> Iterable[Observation]:
        longest: dict[str, Observation] = {}
        for one in super()._observe(options):
            whose = str((one.attributes or {}).get(self._of, ""))
            if whose not in longest or one.value > longest[whose].value:
                longest[whose] = one
        return longest.values()
