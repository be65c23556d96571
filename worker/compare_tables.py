"""Tables and networks of two places, compared one after the other."""

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from activities.contracts.export import table_identifier
from activities.core.choosing import Export, choose
from activities.core.coverage import Bounds
from activities.core.faults import BadRequest, Fault
from activities.core.partitions import span_of
from worker.compare import FOOTERS_AT_ONCE, CompareReport, Comparison, Counts, compare, in_words
from worker.compare_sides import SideSpec, parse_side
from worker.config import Settings

GIVE_UP_AFTER = 3
"""Tables in a row that cannot be read: then a place is away, and nobody waits for it once for every table."""
Show = Callable[[str, int, int], None]
"""Told a table's name, how many of its partitions are done, and how many there are."""


@dataclass
class Compared(Counts):
    """What was found of all tables and networks together, and of each."""

    left: str = ""
    right: str = ""
    status: str = "same"
    """The worst of the tables: `failed`, `different`, or `same`."""
    message: str = ""
    tables: dict[str, CompareReport] = field(default_factory=dict)
    """`<network>.<table>` → what was found of it."""


def understand(
    settings: Settings, left: str, right: str, environment: str, *, tables: Sequence[str] = (),
    networks: Sequence[str] = (), first: str = "", last: str = "", deep: bool = False,
) -> list[Comparison]:  # fmt: skip
    """What a command line asks for, table by table; of trees every table and network that is not left out.

    Raises:
        BadRequest: it cannot be; the message says what is missing, or what contradicts what.
    """
    sides = parse_side(left, environment), parse_side(right, environment)
    chosen = _named_by(settings, sides, tables, networks)
    if chosen is None:
        chosen = _chosen(settings, environment, tables, networks)
    bounds = Bounds(first, last)
    if len(chosen) > 1:
        bounds.check([config.partition for config, _ in chosen])
    elif first or last:
        span_of(chosen[0][0].partition, first or last, last or first)
    return [Comparison(*sides, config, network, *bounds.labels(config.partition), deep) for config, network in chosen]


def _named_by(
    settings: Settings, sides: Sequence[SideSpec], tables: Sequence[str], networks: Sequence[str]
) -> list[Export] | None:
    """The one table that a side names; None when both are trees."""
    named = [side for side in sides if side.kind == "table"]
    if not named:
        return None
    one = named[0]
    if any((other.network, other.table) != (one.network, one.table) for other in named):
        texts = " and ".join(side.text for side in sides)
        raise BadRequest(f"{texts} are different tables; compare one table of two environments")
    if not all(fnmatchcase(one.table, word) for word in tables) or not all(
        fnmatchcase(one.network, word) for word in networks
    ):
        raise BadRequest("--table and --network say something else than the table that is compared; leave them out")
    return [(settings.table(one.environment, one.table, one.network), one.network)]


def _chosen(settings: Settings, environment: str, tables: Sequence[str], networks: Sequence[str]) -> list[Export]:
    def explain(name: str) -> str:
        try:
            settings.table(environment, name, "")
        except BadRequest as wrong:
            return str(wrong)
        return f"no table {name!r}"

    chosen, problems = choose(settings.exports(environment), tables or ["*"], networks, explain)
    if problems:
        raise BadRequest("; ".join(problems))
    return chosen


async def compare_all(
    settings: Settings,
    asked: Sequence[Comparison],
    show: Show = lambda *_: None,
    ended: Callable[[CompareReport], None] = lambda _: None,
) -> Compared:
    """Compare one table after the other; `ended` is told of each. A table that cannot be compared says why.

    Raises:
        BadRequest: neither side has anything of what was asked, or the only table asked for cannot be compared.
        Fault: the first table cannot be read, so that probably nothing can.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(FOOTERS_AT_ONCE))
    seen = Compared(left=asked[0].left.text, right=asked[0].right.text)
    in_a_row = 0
    for one in asked:
        name = table_identifier(one.network, one.config.name)
        report = CompareReport(left=seen.left, right=seen.right, table=name, status="failed")
        if in_a_row == GIVE_UP_AFTER:
            report.message = f"{name}: not compared, since {GIVE_UP_AFTER} tables in a row could not be read"
        else:
            try:
                report = await compare(settings, one, functools.partial(show, name))
                in_a_row = 0
            except (Fault, OSError) as wrong:
                if not seen.tables and (len(asked) == 1 or not isinstance(wrong, BadRequest)):
                    raise
                in_a_row += not isinstance(wrong, BadRequest)
                report.message = f"{name}: {wrong}"
        _add(seen, report)
        ended(report)
    return _summed_up(seen, deep=asked[0].deep)


def _add(seen: Compared, report: CompareReport) -> None:
    seen.tables[report.table] = report
    seen.counts = dict(Counter(seen.counts) + Counter(report.counts))
    for name in ("partitions", "same", "rows_left", "rows_right", "found"):
        setattr(seen, name, getattr(seen, name) + getattr(report, name))


def _summed_up(seen: Compared, *, deep: bool) -> Compared:
    by_status = Counter(report.status for report in seen.tables.values())
    if by_status["nothing"] == len(seen.tables):
        reports = list(seen.tables.values())
        what = f"{len(reports)} tables and networks"
        several = f"neither {seen.left} nor {seen.right} has any partition of these {what} in this range"
        raise BadRequest(reports[0].message if len(reports) == 1 else several)
    seen.status = next((status for status in ("failed", "different") if by_status[status]), "same")
    words = {"different": "different", "nothing": "on neither side", "failed": "failed"}
    parts = [f"{by_status['same']} of {len(seen.tables)} tables and networks are the same"]
    parts += [f"{by_status[status]} {said}" for status, said in words.items() if by_status[status]]
    seen.message = f"{', '.join(parts)}; {in_words(seen, deep=deep)}"
    return seen
