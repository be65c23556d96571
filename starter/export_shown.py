"""How exports are shown: their progress, and what became of them."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, Self

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from activities.contracts.export import ExportReport, ExportRequest, table_identifier
from starter.common import console, say

Show = Callable[[dict[str, Any]], None]
"""Takes the progress of one request."""


class Shown(contextlib.AbstractContextManager["Shown"]):
    """Progress of requests for people: a bar each on a terminal, a line for every change elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[words]}", table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
        )
        self._bars = Progress(*columns, console=console) if console.is_terminal and not quiet else None

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def add(self, request: ExportRequest) -> Show:
        """One more request; what is answered takes its progress."""
        name = table_identifier(request.network, request.table)
        if self._bars is not None:
            task = self._bars.add_task(name, total=None, words="planning")
            return functools.partial(_bar, self._bars, task)
        return functools.partial(_line, [""], "" if self._quiet else name)


def words_of(seen: dict[str, Any]) -> tuple[int, int, str]:
    """Partitions done, partitions planned, and both in words; none are planned while the loop still plans."""
    planned = seen["missing"] + seen["stale"] + seen["forced"]
    done = seen["exported"] + seen["already_there"] + seen["failed"] + seen.get("removed", 0) + seen.get("uploaded", 0)
    if seen["message"] and seen["status"] == "dry_run":
        return 0, planned, f"{planned} partitions to do"
    if not planned:
        return 0, 0, "nothing to do" if seen["message"] else "planning"
    committed = done - seen.get("uploaded", 0)
    text = f"{committed}/{planned} partitions, {seen['rows']:,} rows, {seen['bytes'] / 1e6:,.1f} MB"
    if seen.get("uploaded"):
        text += f", {seen['uploaded']} more uploaded"
    if seen["failed"]:
        text += f", {seen['failed']} failed"
    return done, planned, text


def _bar(progress: Progress, task: TaskID, seen: dict[str, Any]) -> None:
    if "missing" not in seen:
        return
    done, planned, words = words_of(seen)
    first, *others = seen["in_flight"] or [""]
    flight = f"{first} and {len(others)} more" if others else first
    ended = bool(seen["message"])
    progress.update(
        task,
        completed=1 if ended and not planned else done,
        total=planned or (1 if ended else None),
        words=f"{words}  [dim]{flight}[/dim]",
    )


def _line(last: list[str], name: str, seen: dict[str, Any]) -> None:
    if not name or "missing" not in seen:
        return
    _, _, words = words_of(seen)
    if words != last[0]:
        last[0] = words
        say(f"{name}: {words}")


def print_report(report: ExportReport, *, may_shrink: bool = False) -> None:
    """The report for people."""
    say(report.message)
    for snapshot in report.snapshots[-3:]:
        say(f"  snapshot {snapshot}")
    for failure in report.failures:
        say(f"  failed {failure.partition}: {failure.cause}: {failure.message} (who must act: {failure.who})")
    if report.failed > len(report.failures):
        say(f"  and {report.failed - len(report.failures)} more")
    for one in report.suspensions:
        say(f"  suspended {one.partition}: failed {one.failures} times, last with {one.cause}; due again {one.until}")
    for partition in report.shrunk:
        rest = "" if may_shrink else "; nothing was replaced"
        say(f"  the source holds less than the table for {partition}{rest}")
    if report.shrunk and not may_shrink:
        say("  if that is right, `--force --allow-shrink` makes the table follow the source")
