"""`icefleet watch`: events as they come."""

import contextlib
import json as jsonlib
import re
import sys
from typing import Annotated, Any

import typer

from starter.common import USAGE, EnvironmentOption, JsonOption, fail, load_environment, run, say
from worker.bus import open_bus
from worker.command_spans import heard
from worker.config import Environment

SUBJECT = re.compile(r"[^\s.]+(\.[^\s.]+)*")
"""What NATS takes as the end of a subject: words between dots."""


def watch(
    environment: EnvironmentOption = "local",
    table: Annotated[str, typer.Argument(help="<network>.<table>; * and > as NATS takes them.")] = ">",
    everything: Annotated[bool, typer.Option("--all", help="Begin with the oldest event that is kept.")] = False,
    count: Annotated[int, typer.Option(min=0, help="Leave after so many events; 0 never.")] = 0,
    json: JsonOption = False,
) -> None:
    """Print an event for every snapshot that is committed, and for findings that change, until Ctrl-C.

    \b
    icefleet watch
    icefleet watch mainnet.beacon_api_eth_v1_events_block --all
    icefleet watch 'mainnet.*' --json
    """
    if not SUBJECT.fullmatch(table):
        fail(f"{table!r} is no table: write <network>.<table>, where * stands for one word and > for the rest", USAGE)
    resolved = load_environment(environment, "nats")
    findings = table if table.endswith(">") else f"{table}.*"
    subjects = (f"icefleet.{environment}.snapshot.{table}", f"icefleet.{environment}.finding.{findings}")
    with contextlib.suppress(KeyboardInterrupt):
        run(_watch(resolved, subjects, everything=everything, count=count, json=json))


async def _watch(
    environment: Environment, subjects: tuple[str, ...], *, everything: bool, count: int, json: bool
) -> None:
    bus = open_bus(environment)
    seen = 0
    async with contextlib.aclosing(bus.events(*subjects, from_start=everything)) as events:
        async for event in events:
            with heard(event.subject, event.traceparent) as trace:
                if json:
                    sys.stdout.write(event.body.decode() + "\n")
                    sys.stdout.flush()
                else:
                    say(line_of(jsonlib.loads(event.body)) + (f"  trace {trace}" if trace else ""))
            seen += 1
            if seen == count:
                break
        else:
            fail(f"NATS {environment.nats.url} has closed the connection")
    await bus.close()


def line_of(event: dict[str, Any]) -> str:
    """One event as a line for people."""
    if "kind" in event:
        return _finding_line(event)
    start = f"{event.get('committedAt', '')[:19]}  {event['table']}  {event['operation']} #{event['sequenceNumber']}  "
    partitions = event.get("partitions", [])
    more = len(partitions) - 3 + int(event.get("partitionsOmitted", 0))
    added, removed = event.get("added", {}), int(event.get("filesRemoved", 0))
    if not partitions:
        return start + (f"{removed} files removed" if removed else "no rows: columns or positions alone")
    brought = f"{start}{added.get('files', 0)} files, {int(added.get('rows', 0)):,} rows"
    # A mirror may be cut by nothing.
    names = ", ".join(name for partition in partitions[:3] if (name := partition.get("partition")))
    rest = f" and {more} more" if more > 0 else ""
    return f"{brought}: {names}{rest}" if names else brought


def _finding_line(event: dict[str, Any]) -> str:
    partitions = event.get("partitions", [])
    start = f"{event.get('foundAt', '')[:19]}  {event['table']}  {event['kind']}"
    if not partitions:
        return f"{start}  nothing any more"
    more = len(partitions) - 3 + int(event.get("partitionsOmitted", 0))
    rest = f" and {more} more" if more > 0 else ""
    return f"{start}  {', '.join(_found(partition) for partition in partitions[:3])}{rest}"


def _found(partition: dict[str, Any]) -> str:
    words = [f"{int(partition['rows']):,} rows"] if "rows" in partition else []
    words += [f"{int(partition['sourceRows']):,} at the source"] if "sourceRows" in partition else []
    words += [partition["detail"]] if partition.get("detail") else []
    return f"{partition['partition']} ({', '.join(words)})" if words else str(partition["partition"])
