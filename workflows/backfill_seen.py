"""A backfill as people see it: its report, its progress, and the current details of the Temporal UI."""

from dataclasses import asdict, fields
from typing import Any

from activities.contracts.backfill import LISTED_LANES, BackfillReport, LaneReport
from workflows.backfill_lanes import Lanes, LaneState

_SHOWN_LANES = 20
_SHOWN_FAILURES = 10
_COUNTS = [one.name for one in fields(BackfillReport) if one.type is int]


def report_of(lanes: Lanes, *, dry_run: bool) -> BackfillReport:
    """What became of it all."""
    shown = [lane.shown(paused=lanes.paused) for lane in lanes.every]
    report = BackfillReport(
        tables=lanes.counts(),
        lanes=shown[:LISTED_LANES],
        failures=lanes.failures,
        **{name: sum(getattr(lane, name) for lane in shown) for name in _COUNTS},
    )
    report.status = "cancelled" if lanes.cancelled else _status(report, len(shown), dry_run=dry_run)
    report.message = _message(report, len(shown))
    if report.status == "failed":
        first = next(lane for lane in shown if lane.status == "failed")
        report.cause, report.who = first.cause, first.who
        report.message = f"{first.table}: {first.message}"
        if len(shown) > 1:
            report.message += f" (and {len(shown) - 1} more tables failed or were skipped)"
    return report


def _status(report: BackfillReport, count: int, *, dry_run: bool) -> str:
    failed = report.tables.get("failed", 0)
    if failed and failed + report.tables.get("skipped", 0) == count:
        return "failed"
    if failed or report.failed or report.moved:
        return "partial"
    if dry_run:
        return "dry_run"
    return "complete" if report.exported or report.already_there else "nothing_to_do"


def _message(report: BackfillReport, count: int) -> str:
    tables = f"{count} tables" if count != 1 else "1 table"
    todo = report.missing + report.stale + report.forced
    ended = [f"{number} {state}" for state in ("failed", "skipped") if (number := report.tables.get(state, 0))]
    rest = f" ({', '.join(ended)})" if ended else ""
    if report.status == "dry_run" or report.tables.get("planned"):
        return (
            f"{tables}{rest} would get {todo:,} partitions ({report.missing:,} missing, {report.stale:,} stale, "
            f"{report.forced:,} forced) with about {report.rows:,} rows and {report.bytes / 1e6:,.1f} MB; "
            f"{report.present:,} are there, {report.empty:,} empty, {report.open:,} open; nothing was written"
        )
    if report.status == "nothing_to_do":
        return f"nothing to do: {tables}{rest} hold all {report.present:,} of the closed partitions asked for"
    text = f"{report.exported:,} partitions with {report.rows:,} rows committed to {tables}{rest}"
    if report.already_there:
        text += f", {report.already_there:,} were there already"
    if report.failed:
        text += f", {report.failed:,} failed"
    return f"{text}, {report.moved:,} got rows whenever they were exported" if report.moved else text


def rates(lanes: Lanes, now: float) -> dict[str, float]:
    """Partitions looked at, partitions exported and rows, each a second, over the last slices."""
    names = ("looked_per_second", "partitions_per_second", "rows_per_second")
    if not lanes.marks:
        return dict.fromkeys(names, 0.0)
    seconds = max(1.0, now - min(mark[0] for mark in lanes.marks))
    sums = (sum(mark[place] for mark in lanes.marks) for place in (1, 2, 3))
    return {name: round(total / seconds, 3) for name, total in zip(names, sums, strict=True)}


def seconds_left(lanes: Lanes, now: float) -> int | None:
    """How long the rest will take at this rate; None while that cannot be told."""
    left = [_left(lane) for lane in lanes.every if not lane.ended]
    rate = rates(lanes, now)["looked_per_second"]
    known = [one for one in left if one is not None]
    if lanes.paused or not rate or len(known) < len(left):
        return None
    return round(sum(known) / rate)


def _left(lane: LaneState) -> int | None:
    return None if lane.report.total is None else max(0, lane.report.total - lane.report.expected)


def progress_of(lanes: Lanes, now: float, *, dry_run: bool) -> dict[str, Any]:
    """Everything that the progress query answers."""
    report = report_of(lanes, dry_run=dry_run)
    if not lanes.cancelled and not (lanes.ended and lanes.every):
        report.status = "paused" if lanes.paused else "running"
    return {
        **asdict(report),
        "paused": lanes.paused,
        "max_parallel": lanes.max_parallel,
        "in_flight": {lane.name: lane.request_id for lane in lanes.running},
        "seconds_left": seconds_left(lanes, now),
        **rates(lanes, now),
    }


def details_of(lanes: Lanes, now: float, *, dry_run: bool) -> str:
    """The state as Markdown: the current details that the Temporal UI renders."""
    report = report_of(lanes, dry_run=dry_run)
    counts = ", ".join(f"{number} {state}" for state, number in report.tables.items())
    speed, left = rates(lanes, now), seconds_left(lanes, now)
    state = "cancelled: " if lanes.cancelled else "paused: " if lanes.paused else ""
    done = f"{report.exported:,} partitions, {report.rows:,} rows, {report.bytes / 1e6:,.1f} MB"
    pace = f"{speed['partitions_per_second']:,.1f} partitions/s, {speed['rows_per_second']:,.0f} rows/s"
    lines = [
        f"**{state}{done}** in {len(lanes.every)} tables ({counts}), {lanes.max_parallel} at once",
        f"- {pace}, about {left // 60:,} min left" if left is not None else f"- {pace}",
    ]
    lines += [_line(lane.report) for lane in lanes.every if lane.state == "running"][:_SHOWN_LANES]
    lines += [f"- {lane.name}: {lane.report.message}" for lane in lanes.every if lane.rests_until > now][:_SHOWN_LANES]
    lines += [
        f"- failed: {one.table} {one.partition}: {one.cause}: {one.message} (who must act: {one.who})"
        for one in lanes.failures[:_SHOWN_FAILURES]
    ]
    return "\n".join(lines)


def _line(lane: LaneReport) -> str:
    total = f" of {lane.total:,}" if lane.total is not None else ""
    return f"- `{lane.table}`: {lane.expected:,}{total} looked at, {lane.exported:,} exported, {lane.failed:,} failed"
