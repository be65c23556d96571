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


class Waiting:
    """A gauge of seconds: for how long the oldest of what waits has been waiting; 0 while nothing does."""

    def __init__(self, name: str, description: str, *, forget_seconds: float = FORGET_SECONDS) -> None:
        self._forget_seconds = forget_seconds
        self._since: dict[Attributes, tuple[float, float]] = {}
        """Since when something waits (unix seconds, 0 for nothing), and when that was said."""
        metrics.get_meter("icefleet").create_observable_gauge(name, [self._observe], unit="s", description=description)

    def nothing(self, about: Mapping[str, str]) -> None:
        """Everything has been done."""
        self._since[frozenset(about.items())] = (0.0, time.time())

    def since(self, about: Mapping[str, str], moment: float) -> None:
        """What waits has been waiting since this moment (unix seconds)."""
        self._since[frozenset(about.items())] = (moment, time.time())

    def still(self, about: Mapping[str, str], moment: float = 0.0) -> None:
        """A try failed: what waited goes on waiting. Where nothing did, it does since `moment`, by default now."""
        before, _ = self._since.get(frozenset(about.items()), (0.0, 0.0))
        self.since(about, before or moment or time.time())

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        now = time.time()
        for about, (since, said) in list(self._since.items()):
            if said + self._forget_seconds < now:
                self._since.pop(about, None)
            else:
                yield Observation(max(0.0, now - since) if since else 0.0, dict(about))
