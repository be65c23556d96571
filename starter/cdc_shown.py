"""How `icefleet cdc` shows what it knows: tables on a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from activities.contracts.cdc import CAPTURE
from starter.common import say, show_table
from worker.cdc_status import PipelineReport, SourceStatus

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
STEP = 1024
MINUTE, HOUR, DAY = 60, 3600, 86_400
KEY_LENGTH = 40


def show_status(report: PipelineReport) -> None:
    """One pipeline: its source, its loops, and a line for each table."""
    say(f"pipeline {report.pipeline}")
    say(f"  source   {_source(report.source)}")
    if report.source is not None and report.source.note:
        say(f"           {report.source.note}")
    for name, loop in report.loops.items():
        say(f"  {name:<8} {loop.state}{f': {loop.cause}' if loop.cause else ''}")
    if report.ended:
        say(f"  ended    {report.ended}")
    if report.problem:
        say(f"  buffer   {report.problem}")
        return
    if report.captured_lsn:
        say(f"  captured {report.captured_lsn}")
    if not report.tables:
        say("  no table yet; `icefleet cdc install --tables …` follows some")
        return
    uncaptured = _holds_uncaptured(report)
    table = _table(("table", "changelog", "state", "captured to", "written to"), ("written", "buffered", "lag", "dead"))
    for one in report.tables:
        lag = f"{nice_bytes(one.lag_bytes)}, {nice_seconds(one.lag_seconds)}" if one.lag_events else "none"
        lag += " + uncaptured" if uncaptured else ""
        dead = f"{one.dead_letters:,}" + (f" (+{one.waiting_behind:,} behind)" if one.waiting_behind else "")
        table.add_row(
            *(one.table, one.changelog, one.state, one.source_lsn, one.written_lsn),
            *(f"{one.written:,}", f"{one.buffered:,}", lag, dead),
        )
    show_table(table)
    for one in report.tables:
        if one.cause:
            say(f"{one.table} is {one.state}: {one.cause}")


def _holds_uncaptured(report: PipelineReport) -> bool:
    """Whether the log has more, and nobody is about to bring it in: of any table, since no one has read it."""
    capture = report.loops.get(CAPTURE)
    behind = report.source is not None and report.source.lag_bytes > 0
    return behind and capture is not None and capture.state != "running"


def _source(source: SourceStatus | None) -> str:
    if source is None:
        return "none: others fill the buffer"
    if source.problem:
        return f"slot {source.slot}: {source.problem}"
    read = "read" if source.active else "not read"
    return (
        f"slot {source.slot}, {read} just now, log at {source.log_lsn}, {nice_bytes(source.lag_bytes)} not captured, "
        f"{nice_bytes(source.retained_bytes)} retained (warns at {nice_bytes(source.warn_retained_bytes)}, given up at "
        f"{nice_bytes(source.max_retained_bytes)})"
    )


def show_installed(report: dict[str, Any]) -> None:
    """What was set up."""
    if report["message"]:
        say(report["message"])
    if report["slot"]:
        told = "with identities of columns" if report["schema_events"] == "trigger" else "by names of columns alone"
        say(f"slot {report['slot']}, publication {report['publication']}; DDL is told {told}")
    if not report["tables"]:
        return
    table = _table(("table", "changelog", "key", "old rows", "state", "note"), ())
    for one in report["tables"]:
        key = ", ".join(one["key_columns"]) or "none"
        table.add_row(one["table"], one["changelog"], key, one["identity"], one["state"], one["note"])
    show_table(table)


def show_letters(letters: Sequence[dict[str, Any]], limit: int) -> None:
    """Dead letters, oldest first."""
    table = _table(("id", "table", "operation", "key", "position", "state", "cause"), ())
    for one in letters:
        key = ", ".join(f"{name}={value}" for name, value in (one["key"] or {}).items())
        cause = f"waits behind {one['behind']}" if one["behind"] else one["cause"]
        reason = f" ({one['reason']})" if one["reason"] else ""
        table.add_row(
            *(str(one["event_id"]), f"{one['schema']}.{one['name']}", one["operation"], key[:KEY_LENGTH]),
            *(f"{one['commit_lsn']} {one['ordinal']}", one["state"] + reason, cause),
        )
    show_table(table)
    if len(letters) == limit:
        say(f"these are the first {limit}; --limit lists more")


def _table(left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in left:
        table.add_column(name, no_wrap=name not in {"note", "cause"}, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def nice_bytes(count: float) -> str:
    """A number of bytes as people say it."""
    for unit in UNITS[:-1]:
        if count < STEP:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= STEP
    return f"{count:.1f} {UNITS[-1]}"


def nice_seconds(seconds: float) -> str:
    """A time as people say it."""
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < DAY else f"{seconds / DAY:.1f} days"
