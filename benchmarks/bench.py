"""The whole of icefleet on this machine, to be measured: the embedded stack, a worker's process, and clients."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import attestations
import published
import yaml

from activities.clients.clickhouse import ClickHouse
from activities.clients.objectstore import ObjectStore
from activities.core.columns import export_columns
from activities.core.partitions import index_of
from activities.core.query import Query, export_query
from activities.core.utf8 import REFUSED_TEXT
from activities.source import read_facts
from deploy.local.stack import Stack
from worker.clickhouse import open_clickhouse
from worker.config import Settings, load_settings
from worker.parts import open_store

READY_SECONDS = 60
GUARD = re.compile(rf"if\(throwIf\(.*?'{REFUSED_TEXT}'\) = 0, (.*?), \1\)(?= AS )")
"""The expression that carries the check of a row's text."""


@dataclass
class Bench:
    """The stack, a worker's process, and the clients that contenders use."""

    stack: Stack
    settings: Settings
    worker: subprocess.Popen[bytes]
    loop: asyncio.AbstractEventLoop
    clickhouse: ClickHouse
    store: ObjectStore
    directory: Path

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(work)

    def sql(self, text: str) -> None:
        """Change the source."""
        self.wait(self.clickhouse.command(text))

    def calm(self) -> None:
        """Wait until the source has merged what is new: that is nobody's time."""
        merging = Query("SELECT count() AS n FROM system.merges")
        while self.wait(self.clickhouse.rows(merging))[0]["n"]:
            time.sleep(1)

    def query(self, hour: str) -> Query:
        """The query that an export of this hour sends, without the check of its text, which is our cost alone."""

        async def make() -> Query:
            config = self.settings.table("local", attestations.TABLE, attestations.NETWORK)
            facts = await read_facts(self.clickhouse, config)
            columns = export_columns(config, facts.columns)
            ours = export_query(config, facts, columns, attestations.NETWORK, index_of(config.partition, hour))
            return replace(ours, text=GUARD.sub(r"\1", ours.text))

        query: Query = self.wait(make())
        return query

    def literal(self, hour: str) -> str:
        """The same with its values written in, for statements that cannot carry parameters."""
        query = self.query(hour)
        text = query.text
        for name, value in query.parameters.items():
            start = text.index("{" + name + ":")
            kind = text[start + len(name) + 2 : text.index("}", start)]
            text = text.replace(text[start : text.index("}", start) + 1], f"CAST('{value}' AS {kind})")
        return text


Derive = Callable[[dict[str, Any]], dict[str, Any]]


@contextmanager
def opened(
    directory: Path,
    more: Sequence[str],
    *,
    last: str,
    narrow: Sequence[str] = (),
    environments: Mapping[str, Derive] | None = None,
    mirrors: Sequence[Mapping[str, Any]] = (),
) -> Iterator[Bench]:
    """Stack, worker and clients, for the table of attestations and `more` like it, with hours up to the day `last`.

    Tables that are `narrow` have nothing to redact. `environments` are made from the shipped `local`, and have no
    worker yet; `mirrors` are what mirrors.yaml has of `local` itself.
    """
    config = directory / "config"
    config.mkdir()
    tables: Any = attestations.tables_yaml(last=last)
    entries = tables["groups"]["hourly"]["tables"]
    entries += [dict(entries[0], name=name) for name in more]
    entries += [dict(entries[0], name=name, redacted_columns=[]) for name in narrow]
    entries.append(published.entry(entries[0]))
    (config / "tables.yaml").write_text(yaml.safe_dump(tables))
    local = yaml.safe_load(Path("config/environments.yaml").read_text())["environments"]["local"]
    local.pop("tables", None)
    plain = {key: value for key, value in local.items() if key != "cdc"}  # a buffer is one environment's
    every = {"local": local} | {name: derive(plain) for name, derive in (environments or {}).items()}
    mappings = [{"source": f"{name}.default", "destination": name} for name in every]
    (config / "environments.yaml").write_text(yaml.safe_dump({"environments": every, "export_mappings": mappings}))
    (config / "mirrors.yaml").write_text(yaml.safe_dump({"mirrors": {"local": [dict(one) for one in mirrors]}}))
    os.environ["ICEFLEET_LOCAL_DIR"] = str(directory / "local")
    os.environ["ICEFLEET_CONFIG_DIR"] = str(config)
    with Stack(directory / "local") as stack:
        settings = load_settings()
        loop = asyncio.new_event_loop()
        with worker_of("local", directory) as worker:
            store = loop.run_until_complete(open_store(settings.environment("local")).__aenter__())
            clickhouse = open_clickhouse(settings, "local.default")
            yield Bench(stack, settings, worker, loop, clickhouse, store, directory)
            loop.run_until_complete(clickhouse.close())
            loop.run_until_complete(store.__aexit__())


@contextmanager
def worker_of(
    environment: str,
    directory: Path,
    name: str = "worker",
    *,
    words: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that serves an environment and is ready, in a process of its own."""
    log = directory / f"{name}-{environment}.log"
    program = str(Path(sys.executable).with_name("icefleet"))
    with log.open("wb") as output:
        command = [program, "worker", "-e", environment, *words]
        worker = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **(variables or {})})
    try:
        wait_for_worker(log)
        yield worker
    finally:
        worker.terminate()
        worker.wait()


def wait_for_worker(log: Path) -> None:
    """Until the worker says that it is ready, and so has imported what it needs."""
    deadline = time.monotonic() + READY_SECONDS
    while "worker is ready" not in log.read_text():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the worker was not ready within {READY_SECONDS} s: {log.read_text()[-2000:]}")
        time.sleep(0.2)
