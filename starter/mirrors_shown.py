"""How `icefleet mirrors` shows what it knows: tables on a terminal."""

from collections.abc import Sequence

from rich.table import Table

from starter.cdc_shown import nice_seconds
from starter.common import say, show_table
from worker.mirror_status import MirrorReport, TablesStatus

COUNTS = {
    "scanned": "changes read",
    "upserted": "rows upserted",
    "deleted": "rows deleted",
    "superseded": "changes that a newer one had made void",
    "ties": "changes with the sequence number of another one",
    "refused": "changes of keys that may have been deleted too long ago",
    "commits": "commits",
    "indexes_rebuilt": "indexes made anew",
}


def show_all(reports: Sequence[MirrorReport]) -> None:
    """A line for each mirror, and below what is wrong."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("mirror", "changelog", "state", "watermark", "last merge"):
        table.add_column(name, no_wrap=True)
    for name in ("rows", "lag events", "lag"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in reports:
        tables = one.tables
        table.add_row(
            *(one.mirror, one.changelog, one.loop.state, tables.watermark or "none", tables.last_merge or "never"),
            *(f"{tables.rows:,}", "unknown" if tables.problem else f"{tables.lag_events:,}", _lag(tables)),
        )
    show_table(table)
    for one in reports:
        # A loop that is gone merges nothing, however well the tables are.
        if said := one.trouble or (one.loop.cause if one.loop.state == "absent" else ""):
            say(f"{one.mirror} is {one.loop.state}: {said}")


def show_one(report: MirrorReport) -> None:
    """One mirror: its tables, its loop, its counts."""
    tables, progress = report.tables, report.loop.progress
    say(f"mirror {report.mirror} of {report.changelog}")
    say(f"  loop      {report.loop.state}{f': {report.loop.cause}' if report.loop.cause else ''}")
    if tables.problem:
        say(f"  tables    {tables.problem}")
    when = f" of {tables.watermark_time}, sequence {tables.watermark_sequence}" if tables.watermark else ""
    say(f"  watermark {tables.watermark or 'none'}{when}")
    say("  lag       unknown" if tables.problem else f"  lag       {tables.lag_events:,} events, {_lag(tables)}")
    say(f"  merged    {tables.last_merge or 'never'}, {tables.rows:,} rows in snapshot {tables.snapshot_id or 'none'}")
    if not progress:
        return
    for name, words in COUNTS.items():
        if count := progress["counts"][name]:
            say(f"  {count:>9,} {words}")
    compaction, tidying = progress["compaction"], progress["tidying"]
    if compaction["due"]:
        say(f"  a compaction is due: {compaction['due']}")
    if compaction["failed"]:
        say(f"  the last compaction failed: {compaction['failed']}")
    if tidying["problem"]:
        say(f"  tidying: {tidying['problem']}")


def _lag(tables: TablesStatus) -> str:
    if tables.problem:
        return "unknown"  # nobody can tell what waits
    return nice_seconds(tables.lag_seconds) if tables.lag_events else "none"
