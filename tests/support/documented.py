"""The place that documents speak of, on a stack of its own: `production`, its pipeline and mirror, and `parallel`."""

import asyncio
import copy
import json
import os
import pty
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import yaml

from deploy.local import environment as local
from deploy.local.parts import program
from deploy.local.ports import free_port
from deploy.local.sample import TABLES
from deploy.local.stack import Stack
from support import forks
from support.astyped import ran
from support.documents import ROOT
from support.fleet import eventually
from support.ownpostgres import OwnPostgres, server

ENVIRONMENT, PARALLEL = "production", "parallel"
QUEUES = ("task_queue", "cdc_task_queue", "merge_task_queue", "upkeep_task_queue")
SOURCE_TABLES = (
    """CREATE TABLE public.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL,
       amount numeric(10, 2), status text, at timestamptz DEFAULT now())""",
    "CREATE TABLE public.customers (name text PRIMARY KEY)",
    "INSERT INTO public.customers VALUES ('Ada'), ('Grace')",
    "INSERT INTO public.orders (customer, amount, status) VALUES ('Ada', 120, 'new'), ('Grace', 75.5, 'new')",
)
POISON = (
    "INSERT INTO public.orders (customer, at) VALUES ('Ada', 'infinity')",
    "DELETE FROM public.orders WHERE at = 'infinity'",
)
"""An order with a time that no Iceberg table can hold, which is a dead letter; what waits behind it is the second. It
is not left there: a table is not copied with such a row in it."""
Said = tuple[int, str]
NEWEST = {
    "2026-11-01": "2024-03-18",
    "2026-11-10": "2024-03-19",
    "2026-11-16": "2024-03-20",
    "20000000": "3999",
    "20999999": "4999",
}
"""Days and blocks that are recent in documents → those that are in the sample."""


class World:
    """What commands are run against."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        self.stack = stack
        self.directory = directory
        self.public_url = f"http://127.0.0.1:{stack.ports['s3']}/icefleet"
        self.temporal = f"127.0.0.1:{stack.ports['temporal']}"
        self.page = directory / "coverage.html"
        self.postgres = OwnPostgres(server(stack))
        self.variables = {
            **os.environ,
            "ICEFLEET_LOCAL_DIR": str(stack.directory),
            "ICEFLEET_CONFIG_DIR": str(directory / "config"),
            "ICEFLEET_ENVIRONMENT": ENVIRONMENT,
        }

    # --- commands ---------------------------------------------------------------------------------------------

    async def run(self, *words: str, **variables: str) -> Said:
        """Exit code of `icefleet …`, and all that it says."""
        code, output, errors = await forks.run(words, {**self.variables, **variables}, 180)
        return code, output + errors

    async def by_temporal(self, *words: str) -> str:
        """What `temporal …` says, which must end well."""
        return await ran(str(program("temporal")), *words, **self.variables, TEMPORAL_ADDRESS=self.temporal)

    async def must(self, *words: str) -> str:
        """What a command says that the world is made with."""
        code, said = await self.run(*words)
        assert code == 0, f"icefleet {' '.join(words)}: {code}\n{said}"
        return said

    async def agree(self, *words: str) -> Said:
        """The same of a command that asks a person at a terminal, who says yes."""

        def work() -> Said:
            ours, theirs = pty.openpty()
            try:
                os.write(ours, b"y\n")
                done = subprocess.run(
                    [forks.PROGRAM, *words],
                    env=self.variables,
                    stdin=theirs,
                    capture_output=True,
                    text=True,
                    timeout=180,
                    check=False,
                )
            finally:
                os.close(ours)
                os.close(theirs)
            return done.returncode, done.stdout + done.stderr

        return await asyncio.to_thread(work)

    @contextmanager
    def started(self, *words: str, **variables: str) -> Iterator[tuple[forks.Process, Path]]:
        """A command that goes on until it is told to end, and where it says what it says; killed if nobody has."""
        log = self.directory / f"{os.urandom(4).hex()}.log"
        with log.open("wb") as output:
            process = forks.start(words, {**self.variables, **variables}, output, output)
        try:
            yield process, log
        finally:
            process.kill()
            process.wait()

    # --- what documents leave to their reader -----------------------------------------------------------------

    async def fill(self, words: Sequence[str]) -> list[str]:
        """A command's words with what is here in the place of what stands for it."""
        return [await self._meant(word) for word in words]

    async def _meant(self, word: str) -> str:
        if word in FOUND:
            return await FOUND[word](self)
        if re.fullmatch(r"0\.0\.0\.0:\d+", word):
            return f"127.0.0.1:{free_port(set())}"
        if re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", word):
            return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        known = {"https://data.example.org": self.public_url, "coverage.html": str(self.page), "PIPELINE": "shop"}
        return {**known, **NEWEST}.get(word, word)

    async def letter(self) -> str:
        """The id of a dead letter, behind which one event waits."""
        if not (letters := await self.letters()):
            await eventually(lambda: self._orders_are("active"), seconds=180)  # what is older than a copy is no event
            await self.postgres.run(*POISON)
            letters = await eventually(self.letters, seconds=180)
        return str(letters[0]["event_id"])

    async def letters(self) -> list[dict[str, Any]]:
        """The dead letters that wait."""
        found: list[dict[str, Any]] = json.loads(await self.must("cdc", "dead-letters", "--json"))
        return found

    async def stop_orders(self) -> None:
        """Have the table of orders stopped, as it had more dead letters than it may; they are not there any more."""

        async def stopped() -> bool:
            await self.postgres.run(*POISON)
            return await self._orders_are("stopped")

        await eventually(stopped, seconds=180, every=0.5)
        await self.must("cdc", "drop", "--table", "public.orders", "--reason", "made to stop it")

    async def _orders_are(self, state: str) -> bool:
        [report] = json.loads(await self.must("cdc", "status", "--json"))
        return any((one["table"], one["state"]) == ("public.orders", state) for one in report["tables"])

    async def backfill(self) -> str:
        """The id of a backfill."""
        every: list[dict[str, str]] = json.loads(await self.must("backfill", "list", "--all", "--json"))
        return every[0]["id"]


FOUND: Mapping[str, Callable[[World], Awaitable[str]]] = {"ID": World.backfill, "4711": World.letter}
"""Names of things in documents → what finds one here."""


@asynccontextmanager
async def documented(directory: Path) -> AsyncIterator[World]:
    """The world with the sample, exported to both environments in part, and a worker in each."""
    with Stack(directory / "stack") as stack:
        world = World(stack, directory)
        _make_warehouse(stack)
        _write_config(directory / "config")
        with world.started("worker"), world.started("worker", "-e", PARALLEL):
            await asyncio.gather(
                world.must(
                    "seed", "--source", f"{ENVIRONMENT}.default", "--yes-create-tables", "--scale", "0.1", "--json"
                ),
                world.postgres.run(*SOURCE_TABLES),
            )
            # The two tables of mainnet that documents export are left to their commands.
            await asyncio.gather(
                world.must("backfill", "start", "*", "-e", PARALLEL, "--max-parallel", "6", "--wait"),
                world.must("backfill", "start", "*", "-n", "holesky", "--wait"),
                world.must("export", "beacon_api_eth_v1_events_attestation", "-n", "mainnet", "--wait"),
            )
            yield world


def _make_warehouse(stack: Stack) -> None:
    """The second warehouse of the stack's catalog: two environments of one name for a table must not share one."""
    boto3.client(
        "s3tables",
        endpoint_url=f"http://127.0.0.1:{stack.ports['s3']}",
        region_name="us-east-1",
        aws_access_key_id=stack.environment[local.S3_ACCESS_KEY],
        aws_secret_access_key=stack.environment[local.S3_SECRET_KEY],
    ).create_table_bucket(name=PARALLEL)


def _write_config(directory: Path) -> None:
    """The shipped config, with other environments in the place of the local one, and with the sample's tables alone."""
    shipped = {
        name: yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8"))
        for name in ("environments", "tables", "schedules", "mirrors")
    }
    production = shipped["environments"]["environments"]["local"]
    beside = copy.deepcopy(production)
    production["cdc"] = {"shop": production["cdc"]["demo"]}
    production["cdc"]["shop"]["buffer"] = {**production["cdc"]["shop"]["buffer"], "max_dead_letters": 3}
    del beside["cdc"]
    beside["storage"]["prefix"] = beside["catalog"]["warehouse"] = PARALLEL
    beside["temporal"] |= {key: f"{PARALLEL}-{key.replace('_', '-')}" for key in QUEUES}
    staging = copy.deepcopy(beside)  # nobody writes there: it is the lake of `parallel`, seen from elsewhere
    staging["storage"]["prefix"] = "staging"
    environments = {ENVIRONMENT: production, PARALLEL: beside, "staging": staging}
    shipped["environments"] |= {
        "environments": environments,
        "export_mappings": [{"source": f"{name}.default", "destination": name} for name in environments],
    }
    sample = {table.name for table in TABLES}
    for name, group in list(shipped["tables"]["groups"].items()):
        group["tables"] = [table for table in group["tables"] if table["name"] in sample]
        if not group["tables"]:
            del shipped["tables"]["groups"][name]
    shipped["schedules"]["schedules"]["environments"] = {}
    shipped["mirrors"] = {"mirrors": {ENVIRONMENT: shipped["mirrors"]["mirrors"]["local"]}}
    directory.mkdir(parents=True)
    for name, content in shipped.items():
        (directory / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
