"""What is there of many tables, as runs of states: the comparison with their sources, ready to be shown."""

from collections.abc import Callable

from activities.core.coverage import Bounds, Coverage, runs_over
from worker.comparison import Chosen, Comparison, compare_all
from worker.config import Settings


async def cover(
    settings: Settings,
    environment: str,
    chosen: Chosen,
    bounds: Bounds,
    *,
    ask_source: bool = True,
    looked: Callable[[], None] = lambda: None,
) -> list[Coverage]:
    """Look at tables and networks, as `compare_all` does.

    Raises:
        Fault: the catalog cannot be reached or refuses, so nothing can be looked at.
    """
    seen = await compare_all(settings, environment, chosen, bounds, ask_source=ask_source, looked=looked)
    return [_covered(one) for one in seen]


def _covered(seen: Comparison) -> Coverage:
    return Coverage(
        seen.config.name,
        seen.network,
        seen.config.partition,
        first=seen.expected.first,
        runs=runs_over(
            seen.expected,
            {
                "there": seen.present,
                "stale": seen.stale,
                "shrunk": seen.shrunk,
                "empty": seen.empty,
                "open": seen.open,
                "suspended": seen.suspended,
            },
        ),
        asked=seen.asked,
        trouble=seen.problem,
    )
