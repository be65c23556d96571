"""Dead letters at the end of a run: looked at, tried again in vain, and dropped, until none is left."""

from dataclasses import dataclass
from typing import Any

from cdcrandom.world import SCHEMA, World
from support.fleet import eventually

ROUNDS = 20
SECONDS = 60


@dataclass(frozen=True)
class Letter:
    """An event that could not be written."""

    id: int
    table: str
    lsn: str
    operation: str
    cause: str
    behind: int | None
    """The letter that it only waits for."""
    due: Any
    """What was meant to be written of the column that holds what cannot be."""


async def waiting(world: World) -> list[Letter]:
    """The letters that nobody has decided about."""
    rows = await world.buffer.rows(
        "SELECT event_id, source_schema || '.' || source_table, commit_lsn::text, operation, cause, behind, "
        f"new_row ->> 'due' FROM {SCHEMA}.dead_letters WHERE state = 'waiting' ORDER BY event_id"
    )
    return [Letter(*row) for row in rows]


async def settle_letters(world: World, last: int) -> list[Letter]:
    """Requeue them all once, and drop those that cannot be written again and again; answers what was dropped."""
    before = await waiting(world)
    if before:
        world.say(f"{len(before)} dead letters, {sum(one.behind is None for one in before)} of them poison")
        await world.insist("requeue", "--table", before[0].table)
        await _settled(world, last)
    dropped: list[Letter] = []
    for _ in range(ROUNDS):
        poison = [letter for letter in await waiting(world) if letter.behind is None]
        if not poison:
            break
        await world.insist("drop", *(str(letter.id) for letter in poison), "--reason", "it has no end")
        dropped += poison
        await _settled(world, last)
    return dropped


async def _settled(world: World, last: int) -> None:
    """Wait until what was released has been carried over, or is a dead letter again."""
    await world.carried(last, SECONDS)

    async def decided() -> bool:
        return not await world.buffered()

    await eventually(decided, seconds=SECONDS)
