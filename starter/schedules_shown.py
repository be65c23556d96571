"""How schedules, and what is to become of them, are shown."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.table import Table

from starter.common import errors, say
from worker.schedule_diff import Difference
from worker.schedule_list import SeenSchedule


def show_difference(difference: Difference, *, prune: bool) -> None:
    """What `apply` would do, for people."""
    for one in difference.new:
        paused = ", paused" if one.timing.paused else ""
        say(f"+ {one.id}  {one.timing.cron} {one.timing.time_zone}{paused}")
    for one, fields in difference.changed:
        say(f"~ {one.id}")
        for name, (there, to_be) in fields.items():
            say(f"    {name}: {there} → {to_be}")
    for name in difference.gone:
        say(f"- {name}" if prune else f"? {name}  config has it no more; --prune deletes it")
    for name in difference.foreign:
        errors.print(
            f"! {name}  is a schedule that icefleet has not made, and is left alone; delete it, or give it another id"
        )
    say(
        f"{len(difference.new)} new, {len(difference.changed)} changed, {len(difference.unchanged)} unchanged, "
        f"{len(difference.gone)} gone"
    )


def difference_json(difference: Difference, *, applied: bool) -> dict[str, Any]:
    """The same for a script; `applied` says whether it was done."""
    return {
        "new": [one.id for one in difference.new],
        "changed": [
            {"id": one.id, "fields": {name: {"is": there, "wanted": to_be} for name, (there, to_be) in fields.items()}}
            for one, fields in difference.changed
        ],
        "unchanged": [one.id for one in difference.unchanged],
        "gone": difference.gone,
        "foreign": difference.foreign,
        "applied": applied,
    }


def table_of(seen: list[SeenSchedule]) -> Table:
    """Our schedules, a line each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("schedule", "cron", "next run", "last run", "outcome"):
        table.add_column(name, no_wrap=True)
    table.add_column("")
    for one in seen:
        zone = "" if one.time_zone == "UTC" else f" {one.time_zone}"
        next_run = "paused" if one.paused else f"{one.next_run:%Y-%m-%d %H:%M}" if one.next_run else ""
        last_run = f"{one.last_run:%Y-%m-%d %H:%M}" if one.last_run else ""
        table.add_row(
            one.id, f"{one.cron}{zone}", next_run, last_run, one.outcome, one.note if one.paused else one.message
        )
    return table


def seen_json(seen: SeenSchedule) -> dict[str, Any]:
    """One of our schedules for a script: times are ISO 8601 in UTC."""
    return {name: f"{value:%FT%TZ}" if isinstance(value, datetime) else value for name, value in asdict(seen).items()}
