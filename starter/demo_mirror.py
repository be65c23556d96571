"""The demo's act on mirrors: what SQL does to a table of PostgreSQL is in the mirror of its changelog soon after."""

import asyncio
import time
from typing import Any

from starter.common import errors, say, show_table
from starter.demo_changes import Shop
from starter.demo_parts import HEAD, SECONDS, Found, ask, command, hear, print_events, until
from starter.sql import table_of
from worker.config import Environment

MIRROR = "shop.orders"
SHOWN_ROWS = 6
CHANGES = (
    "UPDATE public.orders SET amount = amount + 10, status = 'shipped' WHERE status = 'paid'",
    "INSERT INTO public.orders (customer, amount, status) VALUES ('Edsger', 12.5, 'new')",
)
COLUMNS = "SELECT id, customer, amount, status FROM"
"""What both sides are asked for: the mirror also has the sequence number of each row's last change."""


async def show_mirror(environment: Environment) -> bool:
    """Change rows, and show the mirror's beside PostgreSQL's own; whether they became the same in time."""
    shop = Shop(environment)
    heard: set[str] = set()
    subject = f"icefleet.{environment.name}.snapshot.{MIRROR}"
    listening = asyncio.create_task(print_events(environment, subject, heard))
    for statement in CHANGES:
        say(f"{statement};")
        await shop.run(statement)
    started = time.monotonic()
    source = await shop.run(f"{COLUMNS} public.orders ORDER BY id")
    question = f"{COLUMNS} lake.{MIRROR} ORDER BY id"
    columns, rows = await until(lambda: ask(environment, question), lambda found: found[1] == source)
    seconds = time.monotonic() - started
    _, head = await ask(environment, HEAD.format(table=MIRROR))
    await hear(heard, {str(row[0]) for row in head}, listening)
    say(f"\n{question}  -- the newest {SHOWN_ROWS}, beside PostgreSQL's own")
    show_table(_side_by_side((columns, rows), source))
    command("mirrors", "list")
    if rows != source:
        errors.print(
            f"the mirror did not follow within {SECONDS} s; `icefleet mirrors list` says why", style="bold red"
        )
        return False
    say(f"{len(rows):,} rows, equal to PostgreSQL's {seconds:.1f} s after the last COMMIT")
    return True


def _side_by_side(mirror: Found, source: list[tuple[Any, ...]]) -> Any:
    columns, rows = mirror
    there = {row[0]: row for row in rows}
    shown = [
        (*(there.get(row[0]) or ("",) * len(row)), "equal" if there.get(row[0]) == row else "different", *row[1:])
        for row in source[-SHOWN_ROWS:]
    ]
    named = columns or ["id", "customer", "amount", "status"]
    return table_of([*named, "", *(f"{name} in PostgreSQL" for name in named[1:])], shown)
