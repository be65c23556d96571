"""The demo's act on change data capture: what SQL does to a table of PostgreSQL arrives in a changelog."""

import asyncio
import time
from typing import Any

from starter.common import errors, run, say, show_table
from starter.demo_parts import HEAD, SECONDS, ask, command, hear, print_events, until
from starter.sql import table_of
from worker.config import Environment
from worker.config_cdc import CaptureSource
from worker.wiring_cdc import postgres_settings

PIPELINE, TABLE, CHANGELOG = "demo", "public.orders", "cdc.public_orders_changelog"
CREATE = """CREATE TABLE IF NOT EXISTS public.orders (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL, amount numeric(10, 2), status text
)"""
STATE = "SELECT state FROM {schema}.tables WHERE source_schema || '.' || source_table = 'public.orders'"
INSERT = "INSERT INTO public.orders (customer, amount, status) VALUES ('Ada', 120, 'new'), ('Grace', 75.5, 'new')"
UPDATE = "UPDATE public.orders SET status = 'paid' WHERE id = {0}"
DELETE = "DELETE FROM public.orders WHERE id = {1}"
ARRIVED = ["insert", "insert", "update", "delete"]
QUESTION = """SELECT cdc_sequence_number, cdc_operation, id, customer, amount, status
FROM lake.cdc.public_orders_changelog WHERE id IN ({0}, {1}) ORDER BY 1"""


class Shop:
    """The table whose changes are captured, and the buffer beside it."""

    def __init__(self, environment: Environment) -> None:
        pipeline = environment.cdc[PIPELINE]
        source: CaptureSource | None = pipeline.source
        if source is None:
            raise ValueError(f"pipeline {PIPELINE!r} of environment {environment.name!r} has no source")
        self._postgres = postgres_settings("the local PostgreSQL", source)
        self._state = STATE.format(schema=pipeline.buffer.schema_)

    async def run(self, statement: str) -> list[tuple[Any, ...]]:
        """One statement in a transaction of its own; what it answers."""
        async with await self._postgres.connect() as connection:
            done = await connection.execute(statement.encode())
            return await done.fetchall() if done.description else []

    async def change(self) -> tuple[int, int]:
        """Insert two orders, update the first and delete the second, each with a commit; answers their ids."""
        say(f"{INSERT};")
        first, second = (row[0] for row in await self.run(f"{INSERT} RETURNING id"))
        for statement in (UPDATE, DELETE):
            text = statement.format(first, second)
            say(f"{text};")
            await self.run(text)
        return first, second

    async def is_followed(self) -> bool:
        """Whether the first copy is in the changelog, so that each later change has a row of its own."""
        return await self.run(self._state) == [("active",)]


def create_and_install(environment: Environment) -> None:
    """Make the table unless it is there, and have its changes captured."""
    say(f"{CREATE};\n")
    run(Shop(environment).run(CREATE))
    command("cdc", "install", "--tables", TABLE)


async def show_changes(environment: Environment) -> bool:
    """Change rows, and show the changelog's rows and events of it; whether all of them arrived in order."""
    shop = Shop(environment)
    heard: set[str] = set()
    subject = f"icefleet.{environment.name}.snapshot.{CHANGELOG}"
    listening = asyncio.create_task(print_events(environment, subject, heard))
    await until(shop.is_followed, bool)
    question = QUESTION.format(*await shop.change())
    started = time.monotonic()
    columns, rows = await until(lambda: ask(environment, question), lambda found: len(found[1]) >= len(ARRIVED))
    seconds = time.monotonic() - started
    _, head = await ask(environment, HEAD.format(table=CHANGELOG))
    await hear(heard, {str(row[0]) for row in head}, listening)
    say(f"\n{question}")
    show_table(table_of(columns, rows))
    if [row[1] for row in rows] != ARRIVED:
        errors.print(f"not all changes arrived within {SECONDS} s; `icefleet cdc status` says why", style="bold red")
        return False
    say(f"{seconds:.1f} s after the last COMMIT")
    return True
