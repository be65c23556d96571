"""The coverage of many tables as one HTML page that needs nothing else: no server, no font, no script of others."""

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from html import escape
from itertools import groupby
from pathlib import Path

from activities.core.coverage import DUE, STATES, Coverage, Run, State, runs_of, sentence, worst_of
from activities.core.partitions import step_of

MOST_RUNS = 1_500
"""Runs that the page holds of one table and network; one of more is drawn coarser, and its sentence stays exact."""
_HOURS_PER_DAY = 24
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_KINDS = {"daily": 0, "hourly": 1, "integer": 2}

LETTERS: dict[State, str] = {
    "empty": "E",
    "there": "T",
    "open": "O",
    "stale": "S",
    "shrunk": "L",
    "suspended": "P",
    "missing": "M",
}
"""How the page's data and styles call a state."""
SAYS: dict[State, str] = {
    "empty": "The source has no rows for it",
    "there": "In the table",
    "open": "Not over yet; it will be exported when it is",
    "stale": "In the table, and the source has newer rows",
    "shrunk": "The source holds less than the table; it stays as it is until somebody has looked at the source",
    "suspended": "Left out of scheduled exports, because it failed too often",
    "missing": "Over, and not in the table",
}
DOES: dict[State, str] = {
    "stale": "--wait",
    "shrunk": "--force --allow-shrink --wait",
    "suspended": "--wait",
    "missing": "--wait",
}
"""How the command ends that mends a state; the others need none."""


def coverage_page(seen: Sequence[Coverage], environment: str, made: datetime, *, asked: bool) -> str:
    """The page.

    Args:
        seen: Tables and networks; those of one table follow one another.
        environment: What was looked at.
        made: When, in UTC.
        asked: Whether sources were to be asked.
    """
    style, script = _piece("coverage.css"), _script()
    networks = sorted({one.network for one in seen}, key=[one.network for one in seen].index)
    text = {
        "environment": escape(environment),
        "lead": escape(_lead(seen)),
        "made": made.strftime("%Y-%m-%d %H:%M"),
        "made_iso": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "sources": "from the tables and their sources" if asked else "from the tables alone; no source was asked",
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "heads": "".join(f'<th scope="col">{state}</th>' for state in reversed(STATES)),
        "networks": "".join(_network(name, [one for one in seen if one.network == name]) for name in networks),
        "key": "".join(
            f'<div><dt><i class="{LETTERS[state]}"></i>{state}</dt><dd>{escape(SAYS[state])}</dd></div>'
            for state in reversed(STATES)
        ),
        "options": "".join(f"<option>{escape(name)}</option>" for name in networks),
        "choices": "".join(f'<option value="{LETTERS[state]}">{state}</option>' for state in reversed(STATES)),
        "tables": "".join(_group(list(ones)) for _, ones in groupby(seen, key=lambda one: one.name)),
        "data": _json(seen, environment),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: text[mark[1]], _piece("coverage.html"))


def encode(runs: Sequence[Run]) -> str:
    """Runs as text: a letter for the state, and how many of them in base 36 when it is not one: `TufM2T`."""
    return "".join(LETTERS[run.state] + ("" if run.count == 1 else _base36(run.count)) for run in runs)


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits


def _piece(name: str) -> str:
    return (Path(__file__).with_name("pages") / name).read_text(encoding="utf-8")


def _script() -> str:
    body = "\n".join(_piece(f"coverage_{part}.js") for part in ("tables", "details", "filters"))
    return f'(() => {{\n"use strict";\n{body}}})();\n'


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(seen: Sequence[Coverage], environment: str) -> str:
    states = {LETTERS[state]: {"name": state, "says": SAYS[state], "does": DOES.get(state, "")} for state in STATES}
    value = {"environment": environment, "states": states, "rows": [_drawn(one) for one in seen]}
    # No tag can begin in it, whatever a name holds.
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _drawn(one: Coverage) -> list[int | str]:
    """Kind, width of a partition (seconds or values), first index, stop, runs; and what a run's unit holds.

    That is 1, and left out, unless there are so many runs that hours become days, or chunks groups of chunks.
    """
    kind, first, runs, width = one.rule.kind, one.first, one.runs, 1
    while len(runs) > MOST_RUNS and kind != "daily":
        kind, width = ("daily", _HOURS_PER_DAY) if kind == "hourly" else (kind, width * 2)
        first, states = worst_of(one, width)
        runs = runs_of(states)
    stop = first + sum(run.count for run in runs)
    return [_KINDS[kind], step_of(one.rule) * width, first, stop, encode(runs), *([width] if width > 1 else [])]


def _lead(seen: Sequence[Coverage]) -> str:
    there, wanted = sum(one.counts["there"] for one in seen), sum(one.wanted for one in seen)
    tables = len({one.name for one in seen})
    due = [f"{count:,} {state}" for state in DUE if (count := sum(one.counts[state] for one in seen))]
    away = sum(1 for one in seen if one.trouble)
    return (
        f"{tables} tables, {len(seen)} with all their networks: {there:,} of {wanted:,} partitions are there"
        + (f" ({_percent(there, wanted)})" if wanted else "")
        + (f"; {', '.join(due)}" if due else "")
        + (f". {away} could not be looked at in full" if away else "")
        + "."
    )


def _percent(there: int, wanted: int) -> str:
    """Never rounded up: 100 % means all."""
    if not wanted:
        return ""
    hundredths = there * 10_000 // wanted
    return "100 %" if there == wanted else f"{hundredths / 100:.2f} %"


def _network(name: str, seen: Sequence[Coverage]) -> str:
    counts: Counter[State] = Counter()
    for one in seen:
        counts.update(one.counts)
    cells = "".join(
        f"<td>{counts[state]:,}</td>" if counts[state] else '<td class="zero">0</td>' for state in reversed(STATES)
    )
    return f'<tr><th scope="row">{escape(name)}</th><td>{len(seen)}</td>{cells}</tr>'


def _group(ones: Sequence[Coverage]) -> str:
    rule = ones[0].rule
    kind = f"chunks of {rule.chunk_size:,}" if rule.kind == "integer" else rule.kind
    head = (
        '<tr class="h" role="row"><th role="rowheader" colspan="4" scope="rowgroup">'
        f"<h3>{escape(ones[0].name)}</h3> <small>{kind}</small></th></tr>"
    )
    return f'<tbody class="g" role="rowgroup">{head}{"".join(_row(one) for one in ones)}</tbody>\n'


def _row(one: Coverage) -> str:
    words = escape(sentence(one))
    if any(one.counts[state] for state in DUE):
        words = f"<b>{words}</b>"
    if one.trouble:
        # Why is for the command's own output: it may name hosts.
        words = f"<b>{words}; its source could not be asked</b>" if one.runs else "<b>it could not be looked at</b>"
    return (
        f'<tr role="row" id="{escape(one.table)}"><th role="rowheader" scope="row">{escape(one.network)}</th>'
        f'<td role="cell"><div class="s"></div><p>{words}</p></td>'
        f'<td role="cell" class="n">{_percent(one.counts["there"], one.wanted)}</td>'
        f'<td role="cell" class="n">{one.newest()}</td></tr>'
    )
