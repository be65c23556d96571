"""Coverage in a terminal: strips and calendars of marks that differ by shape as well as by colour."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import groupby
from textwrap import wrap

from rich.text import Text

from activities.core.coverage import DUE, STATES, Coverage, State, sentence, worst_of
from activities.core.partitions import label_of, step_of

CALENDARS = 4
"""So many tables and networks, or fewer, are shown day by day; of more, each gets one line."""
MOST_WIDE = 160
"""Columns beyond which a line is not easier to read."""
_DAY = 86_400
_EPOCH = date(1970, 1, 1)
_INDENT = "  "

MARKS: dict[State, tuple[str, str, str]] = {
    "empty": ("·", ".", "bright_black"),
    "there": ("■", "#", "green"),
    "open": ("○", "o", "cyan"),
    "stale": ("~", "~", "yellow"),
    "shrunk": ("▼", "v", "magenta"),
    "suspended": ("‖", "=", "blue"),
    "missing": ("✗", "x", "bold red"),
}
"""State → its mark, its mark where only ASCII can be shown, its colour."""


def strips(seen: Sequence[Coverage], width: int, *, ascii_only: bool = False) -> Iterator[Text]:
    """Lines for a terminal of so many columns: a heading and a sentence for each table, with its marks between."""
    width = min(width, MOST_WIDE)
    for one in seen:
        newest = f"  newest {one.newest()}" if one.newest() else ""
        yield Text.assemble((one.table, "bold"), f"  {_kind(one)}", (newest, "dim"))
        if one.runs and len(seen) <= CALENDARS:
            yield from _grid(one, width, ascii_only=ascii_only)
        elif one.runs:
            states = _squeezed(one, width - len(_INDENT))
            yield Text(_INDENT) + _marks(states, ascii_only=ascii_only)
        words = "it could not be looked at" if one.trouble and not one.runs else sentence(one)
        due = bool(one.trouble) or any(one.counts[state] for state in DUE)
        for line in wrap(words, width - len(_INDENT), break_long_words=False, break_on_hyphens=False):
            yield Text(_INDENT + line, style="" if due else "dim")


def legend(seen: Sequence[Coverage], *, ascii_only: bool = False) -> Text:
    """What the marks mean, and how many partitions there are of each."""
    text = Text()
    for state in reversed(STATES):
        count = sum(one.counts[state] for one in seen)
        text += _marks([state], ascii_only=ascii_only) + Text(f" {state} {count:,}   ")
    return text


def _marks(states: Sequence[State | None], *, ascii_only: bool) -> Text:
    text = Text()
    for state, same in groupby(states):
        count = sum(1 for _ in same)
        if state is None:
            text.append(" " * count)
        else:
            mark, plain, colour = MARKS[state]
            text.append((plain if ascii_only else mark) * count, style=colour)
    return text


def _kind(one: Coverage) -> str:
    return f"chunks of {one.rule.chunk_size:,}" if one.rule.kind == "integer" else one.rule.kind


def _squeezed(one: Coverage, width: int) -> list[State]:
    """The whole table in one line: the worst state of as many partitions as share a mark."""
    return worst_of(one, -(-len(one.span) // max(1, width - 1)))[1]


def _grid(one: Coverage, width: int, *, ascii_only: bool) -> Iterator[Text]:
    if one.rule.kind == "integer":
        yield from _chunks(one, width, ascii_only=ascii_only)
        return
    months = list(_months(one))
    block = len("2024-03 ") + 31 + len(_INDENT)
    for beside in range(0, len(months), max(1, width // block)):
        line = Text()
        for month, states in months[beside : beside + max(1, width // block)]:
            line += Text(f"{_INDENT}{month} ", style="dim")
            line += _marks([*states, *([None] * (31 - len(states)))], ascii_only=ascii_only)
        line.rstrip()
        yield line


def _months(one: Coverage) -> Iterator[tuple[str, list[State | None]]]:
    """Month → the worst state of each of its days; None where nothing is expected."""
    first, states = worst_of(one, _DAY // step_of(one.rule))
    days = ((_EPOCH + timedelta(days=first + number), state) for number, state in enumerate(states))
    for month, of_month in groupby(days, key=lambda day: f"{day[0]:%Y-%m}"):
        marked = list(of_month)
        before: list[State | None] = [None] * (marked[0][0].day - 1)
        yield month, before + [state for _, state in marked]


def _chunks(one: Coverage, width: int, *, ascii_only: bool) -> Iterator[Text]:
    """Lines of marks, each under the first value of its line; a mark is a round number of chunks."""
    last = len(label_of(one.rule, one.span.stop))
    marks = max(10, (width - len(_INDENT) - last - 1) // 10 * 10)
    each = _round_up(-(-len(one.span) // (marks * 12)))
    first, states = worst_of(one, each)
    lead = first % marks
    cells: list[State | None] = [*([None] * lead), *states]
    for number in range(0, len(cells), marks):
        label = label_of(one.rule, (first - lead + number) * each).rjust(last)
        here = _marks(cells[number : number + marks], ascii_only=ascii_only)
        yield Text.assemble((f"{_INDENT}{label} ", "dim"), here)
    yield Text(f"{_INDENT}a mark is {each * one.rule.chunk_size:,} values", style="dim")


def _round_up(number: int) -> int:
    size = 1
    while True:
        for factor in (1, 2, 5):
            if factor * size >= number:
                return factor * size
        size *= 10
