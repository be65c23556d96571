"""How `icefleet backfill` shows what it knows: a bar on a terminal, lines elsewhere, tables and reports."""

import contextlib
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError

from activities.contracts.backfill import BackfillFailure, BackfillReport
from activities.contracts.export import PROGRESS_QUERY, loop_id
from starter.common import console, say, show_table

LISTED = 100
"""Backfills, or tables of one, that are listed at most."""
QUERY_SECONDS = 2
MINUTE, HOUR = 60, 3600
_LOOKED_AT_LOOPS = 10
_LINE_SECONDS = 5
"""Between two lines where there is no bar."""
_PACE_LOOKS, _PACE_SECONDS = 60, 5


class Pace:
    """The rate of the last minute, as seen from here: a slice of large partitions may be long in reporting."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque(maxlen=_PACE_LOOKS)

    def note(self, progress: dict[str, Any], now: float) -> None:
        """Look at the progress, and replace its rate and the time left once there is something to tell them by."""
        self._seen.append((now, progress["expected"], progress["exported"]))
        began, looked, exported = self._seen[0]
        seconds = now - began
        if seconds < _PACE_SECONDS:
            return
        progress["partitions_per_second"] = max(0, progress["exported"] - exported) / seconds
        rate, total = (progress["expected"] - looked) / seconds, asked_for(progress)
        known = rate > 0 and total is not None and not progress["paused"]
        progress["seconds_left"] = round(max(0, total - progress["expected"]) / rate) if known and total else None


def asked_for(progress: dict[str, Any]) -> int | None:
    """Partitions that the whole backfill looks at; None while that is not known."""
    totals = [lane["total"] for lane in progress["lanes"] if lane["status"] not in {"failed", "skipped"}]
    ended = sum(lane["expected"] for lane in progress["lanes"] if lane["status"] in {"failed", "skipped"})
    return None if None in totals else sum(totals) + ended


class Bar(contextlib.AbstractContextManager["Bar"]):
    """Progress of one backfill: a bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, client: Client, *, quiet: bool = False) -> None:
        self._client = client
        self._quiet = quiet
        self._last = ""
        self._next_line = 0.0
        self._pace = Pace()
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[words]}"))
        self._bars = (
            Progress(*columns, TimeElapsedColumn(), console=console) if console.is_terminal and not quiet else None
        )
        self._task = self._bars.add_task("backfill", total=None, words="planning") if self._bars else None

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    async def show(self, progress: dict[str, Any]) -> None:
        """Show what the backfill says, and what the loops that work for it add to that."""
        if self._quiet or not progress["lanes"]:
            return
        for name, request_id in list(progress["in_flight"].items())[:_LOOKED_AT_LOOPS]:
            await self._add(progress, name, request_id)
        now = time.monotonic()
        self._pace.note(progress, now)
        words = words_of(progress)
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, total=asked_for(progress), completed=progress["expected"], words=words)
        elif words != self._last and now >= self._next_line:
            self._last, self._next_line = words, now + _LINE_SECONDS
            say(words)

    async def _add(self, progress: dict[str, Any], identifier: str, request_id: str) -> None:
        """Count what a loop has done of the slice in flight; it reports only at the slice's end."""
        network, _, table = identifier.partition(".")
        loop = self._client.get_workflow_handle(loop_id(progress["environment"], network, table))
        with contextlib.suppress(RPCError, WorkflowQueryFailedError):
            seen = await loop.query(PROGRESS_QUERY, rpc_timeout=timedelta(seconds=QUERY_SECONDS))
            for request in seen["requests"]:
                if request["id"] == request_id:
                    for name in ("exported", "already_there", "rows", "bytes", "failed"):
                        progress[name] += request[name]
                    progress["expected"] += request["exported"] + request["already_there"]


def words_of(progress: dict[str, Any]) -> str:
    """The state of a backfill in one line."""
    ended = sum(progress["tables"].get(state, 0) for state in ("done", "partial", "failed", "skipped", "planned"))
    text = f"{ended}/{len(progress['lanes'])} tables, {progress['exported']:,} partitions, {progress['rows']:,} rows"
    text += f", {progress['bytes'] / 1e6:,.1f} MB"
    if progress["failed"]:
        text += f", {progress['failed']} failed"
    if progress["partitions_per_second"]:
        text += f", {progress['partitions_per_second']:,.1f} partitions/s"
    if progress["seconds_left"] is not None:
        text += f", about {lasting(progress['seconds_left'])} left"
    return f"paused: {text}" if progress["paused"] else text


def lasting(seconds: int) -> str:
    """A duration for people."""
    if seconds < 2 * MINUTE:
        return f"{seconds} s"
    return f"{seconds // MINUTE} min" if seconds < 2 * HOUR else f"{seconds // HOUR} h {seconds % HOUR // MINUTE} min"


def print_progress(progress: dict[str, Any]) -> None:
    """A running backfill for people."""
    say(words_of(progress))
    _print_lanes(progress["lanes"])
    _print_failures([BackfillFailure(**failure) for failure in progress["failures"]], progress["failed"])


def print_report(report: BackfillReport) -> None:
    """The report for people."""
    say(report.message)
    if report.status == "dry_run":
        say("rows are the source's raw counts; bytes are rows times the mean size of a row: an estimate")
    _print_lanes([asdict(lane) for lane in report.lanes])
    _print_failures(report.failures, report.failed)
    if report.shrunk:
        say(f"the source holds less than the tables for {report.shrunk} partitions; nothing was replaced")


def _print_lanes(lanes: Sequence[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("table", "state", "looked at", "to do", "exported", "failed", "rows", "MB"):
        table.add_column(name, no_wrap=True, justify="left" if name in {"table", "state"} else "right")
    for lane in lanes[:LISTED]:
        total = "?" if lane["total"] is None else f"{lane['total']:,}"
        table.add_row(
            lane["table"],
            lane["status"],
            f"{lane['expected']:,}/{total}",
            f"{lane['missing'] + lane['stale'] + lane['forced']:,}",
            f"{lane['exported']:,}",
            f"{lane['failed']:,}",
            f"{lane['rows']:,}",
            f"{lane['bytes'] / 1e6:,.1f}",
        )
    show_table(table)
    if len(lanes) > LISTED:
        say(f"  and {len(lanes) - LISTED} more tables; --json has them")
    for lane in lanes[:LISTED]:
        if lane["message"] and lane["status"] != "failed":
            say(f"  {lane['table']}: {lane['message']}")


def _print_failures(failures: Sequence[BackfillFailure], count: int) -> None:
    for one in failures:
        what = f"{one.table} {one.partition}".strip()
        say(f"  failed {what}: {one.cause}: {one.message} (who must act: {one.who})")
    if count > len(failures):
        say(f"  and {count - len(failures)} more")
