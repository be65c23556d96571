"""Changes of a table's columns that a changelog can follow."""

import re
from typing import TYPE_CHECKING

from cdcrandom.oracle import Column, shape_note, sql_name
from cdcrandom.tables import Table, quoted

if TYPE_CHECKING:
    from cdcrandom.statements import Hand

NAMES = ("first", "second", "third", "fourth", "fifth", "sixth", "Über", "with space")
TYPES = (
    "integer", "smallint", "text", "numeric(8,2)", "timestamp with time zone", "text[]", "boolean", "real",
    "character varying(6)",
)  # fmt: skip
MOST_COLUMNS = 9


async def evolve(hand: "Hand", table: Table) -> None:
    """Change the columns of a table in one way, with rows before and behind it in the same transaction now and then."""
    if hand.rng.random() < 0.5:
        await hand.update(table, 2)
    await _change(hand, table)
    await hand.run(shape_note(table))
    if hand.rng.random() < 0.7:
        await hand.insert(table, 2)
        await hand.update(table, 2)


async def _change(hand: "Hand", table: Table) -> None:
    columns = [column for column in await hand.columns(table) if column.name not in table.key]
    used = {column.name for column in columns}
    free = [name for name in NAMES if name not in used]
    wider = [(column, kind) for column in columns for kind in _wider(column)]
    kinds = ["add"] * (3 if len(columns) < MOST_COLUMNS and free else 0)
    kinds += (["drop"] * 2 + ["drop and add"] * 2 + ["rename"] * 2 * bool(free)) if columns else []
    kinds += ["widen"] * 3 * bool(wider)
    alter = f"ALTER TABLE {sql_name(table)}"
    match hand.rng.choice(kinds or ["nothing"]):
        case "add":
            await hand.run(f"{alter} ADD COLUMN {quoted(hand.rng.choice(free))} {hand.rng.choice(TYPES)}")
        case "drop":
            await hand.run(f"{alter} DROP COLUMN {quoted(hand.rng.choice(columns).name)}")
        case "rename":
            old = hand.rng.choice(columns).name
            await hand.run(f"{alter} RENAME COLUMN {quoted(old)} TO {quoted(hand.rng.choice(free))}")
        case "widen":
            column, kind = hand.rng.choice(wider)
            await hand.run(f"{alter} ALTER COLUMN {quoted(column.name)} TYPE {kind}")
        case "drop and add":
            await _drop_and_add(hand, table, hand.rng.choice(columns).name)


async def _drop_and_add(hand: "Hand", table: Table, name: str) -> None:
    """Another column of the same name, at once or after rows that have neither."""
    alter = f"ALTER TABLE {sql_name(table)}"
    add = f"ADD COLUMN {quoted(name)} {hand.rng.choice(TYPES)}"
    if hand.rng.random() < 0.3:
        await hand.run(f"{alter} DROP COLUMN {quoted(name)}, {add}")
        return
    await hand.run(f"{alter} DROP COLUMN {quoted(name)}")
    await hand.run(shape_note(table))
    await hand.insert(table, 1)
    await hand.run(f"{alter} {add}")


def _wider(column: Column) -> list[str]:
    """Types that hold whatever this one holds, and that Iceberg can widen to."""
    simple = {"smallint": ["integer"], "integer": ["bigint"], "real": ["double precision"]}
    if column.type in simple:
        return simple[column.type]
    numeric = re.fullmatch(r"numeric\((\d+),(\d+)\)", column.type)
    if numeric and int(numeric[1]) < 30:
        return [f"numeric({int(numeric[1]) + 2},{numeric[2]})"]
    varying = re.fullmatch(r"character varying\((\d+)\)", column.type)
    return [f"character varying({int(varying[1]) * 2})", "text"] if varying else []
