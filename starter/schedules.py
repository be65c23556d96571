"""`icefleet schedules`: the Temporal Schedules of config/schedules.yaml, made, compared, paused and started."""

import asyncio
import fnmatch
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer
from temporalio.client import Client, ScheduleHandle

from activities.core.faults import BadRequest
from starter.asking import connect
from starter.common import (
    FAILED,
    USAGE,
    EnvironmentOption,
    JsonOption,
    fail,
    load,
    one_line,
    run,
    say,
    say_json,
    show_table,
)
from starter.schedules_shown import difference_json, seen_json, show_difference, table_of
from worker.config import Settings
from worker.schedule_diff import Difference, bring_into_line, compare, delete, our_ids
from worker.schedule_list import SeenSchedule, look
from worker.schedules import Wanted, wanted

app = typer.Typer(help="When exports run by themselves.", no_args_is_help=True)

Patterns = Annotated[
    list[str] | None, typer.Argument(help="Tables, schedule ids, or globs of either; without: all.", metavar="TABLE")
]
Chosen = Annotated[list[str] | None, typer.Argument(help="Tables, schedule ids, or globs of either.", metavar="TABLE")]
All = Annotated[bool, typer.Option("--all", help="Every schedule of the environment.")]
Prune = Annotated[bool, typer.Option("--prune", help="Also delete those that config does not have any more.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Note = Annotated[str, typer.Option(help="Why, for whoever looks at the schedule.")]


@app.callback()
def schedules() -> None:
    """When exports run by themselves: one Temporal Schedule of each table, from config/schedules.yaml."""


@app.command()
def apply(
    tables: Patterns = None,
    environment: EnvironmentOption = "local",
    prune: Prune = False,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    json: JsonOption = False,
) -> None:
    """Bring Temporal's schedules into line with config, after showing what differs. Safe to repeat.

    \b
    icefleet schedules apply
    icefleet schedules apply -e production --yes --prune
    icefleet schedules apply 'canonical_*' --dry-run

    A schedule that a person has paused stays paused, and schedules that are not ours are never touched. Without a
    terminal it wants --yes. Exit codes: 0 done, 1 failed, 2 cannot be.
    """
    settings = load()
    raise typer.Exit(run(_apply(settings, environment, tables or [], prune=prune, yes=yes, dry_run=dry_run, json=json)))


@app.command()
def diff(
    tables: Patterns = None,
    environment: EnvironmentOption = "local",
    prune: Prune = False,
    json: JsonOption = False,
) -> None:
    """Show what `apply` would change.

    \b
    icefleet schedules diff
    icefleet schedules diff -e production --json
    """
    settings = load()
    raise typer.Exit(run(_apply(settings, environment, tables or [], prune=prune, yes=False, dry_run=True, json=json)))


@app.command(name="list")
def list_(tables: Patterns = None, environment: EnvironmentOption = "local", json: JsonOption = False) -> None:
    """List our schedules: next run, last run and what became of it, pauses and their notes.

    \b
    icefleet schedules list
    icefleet schedules list 'canonical_*' --json
    """
    settings = load()
    with one_line():
        resolved = settings.environment(environment, "temporal")

    async def find() -> list[SeenSchedule]:
        client = await connect(resolved)
        return await look(client, await _ours(client, environment, tables or ["*"]))

    seen = run(find())
    if json:
        say_json([seen_json(one) for one in seen])
    elif seen:
        show_table(table_of(seen))
    else:
        say(f"no schedules in environment {environment}; make them with `icefleet schedules apply`")


@app.command()
def pause(
    tables: Chosen = None,
    environment: EnvironmentOption = "local",
    everything: All = False,
    note: Note = "paused with `icefleet schedules pause`",
) -> None:
    """Start no more runs, until `resume`; what runs goes on. `apply` keeps the pause.

    \b
    icefleet schedules pause canonical_execution_block --note "the source is being moved"
    icefleet schedules pause --all
    """
    _on_each(environment, tables, lambda handle: handle.pause(note=note), "paused", everything=everything)


@app.command()
def resume(
    tables: Chosen = None,
    environment: EnvironmentOption = "local",
    everything: All = False,
) -> None:
    """Let schedules run again.

    \b
    icefleet schedules resume canonical_execution_block
    icefleet schedules resume --all
    """
    notes = {one.id: one.note for one in _wanted(load(), environment)}

    async def unpause(handle: ScheduleHandle) -> None:
        await handle.unpause(note=notes.get(handle.id, "resumed with `icefleet schedules resume`"))

    _on_each(environment, tables, unpause, "resumed", everything=everything)


@app.command()
def trigger(
    tables: Chosen = None,
    environment: EnvironmentOption = "local",
    everything: All = False,
) -> None:
    """Run now, also what is paused. While a run is under way, the schedule's overlap policy decides.

    \b
    icefleet schedules trigger canonical_execution_block
    icefleet schedules trigger 'canonical_*'
    """
    _on_each(environment, tables, lambda handle: handle.trigger(), "triggered", everything=everything)


@app.command(name="delete")
def delete_(
    tables: Chosen = None,
    environment: EnvironmentOption = "local",
    everything: All = False,
    yes: Yes = False,
) -> None:
    """Delete schedules of ours; what runs goes on. `apply` makes those that config has anew.

    \b
    icefleet schedules delete canonical_execution_block --yes
    icefleet schedules delete --all
    """

    async def remove(client: Client, ids: list[str]) -> None:
        for name in ids:
            say(f"- {name}")
        if _agreed(f"delete {len(ids)} schedules?", yes=yes):
            await asyncio.gather(*(delete(client, name) for name in ids))
            say(f"{len(ids)} deleted")

    _with_chosen(environment, tables, remove, everything=everything)


async def _apply(
    settings: Settings, environment: str, patterns: list[str], *, prune: bool, yes: bool, dry_run: bool, json: bool
) -> int:
    chosen = _wanted(settings, environment)
    client = await connect(settings.environment(environment, "temporal"))
    difference = await compare(client, environment, chosen)
    _narrow(difference, environment, patterns)
    if not json:
        show_difference(difference, prune=prune)
    done = False
    if not dry_run and not difference.is_empty(prune=prune) and _agreed("apply this?", yes=yes):
        await bring_into_line(client, difference, prune=prune)
        done = True
        if not json:
            removed = f", {len(difference.gone)} deleted" if prune and difference.gone else ""
            say(f"applied: {len(difference.new)} made, {len(difference.changed)} changed{removed}")
    if json:
        say_json(difference_json(difference, applied=done))
    return FAILED if difference.foreign else 0


def _wanted(settings: Settings, environment: str) -> list[Wanted]:
    with one_line():
        return wanted(settings, environment)


def _matches(name: str, environment: str, patterns: list[str]) -> bool:
    """Whether a schedule is meant: by its id, or by what stands behind the environment in it."""
    table = name.partition(f"/{environment}/")[2]
    return any(fnmatch.fnmatchcase(said, pattern) for pattern in patterns for said in (name, table) if said)


def _narrow(difference: Difference, environment: str, patterns: list[str]) -> None:
    if not patterns:
        return

    def meant(name: str) -> bool:
        return _matches(name, environment, patterns)

    difference.new = [one for one in difference.new if meant(one.id)]
    difference.changed = [(one, fields) for one, fields in difference.changed if meant(one.id)]
    difference.unchanged = [one for one in difference.unchanged if meant(one.id)]
    difference.gone = [name for name in difference.gone if meant(name)]
    difference.foreign = [name for name in difference.foreign if meant(name)]
    known = [difference.new, difference.changed, difference.unchanged, difference.gone, difference.foreign]
    if not any(known):
        raise BadRequest(f"no schedule of environment {environment} is called {' or '.join(patterns)}")


def _agreed(question: str, *, yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        fail("nobody is there to be asked: say --yes", USAGE)
    return typer.confirm(question)


async def _ours(client: Client, environment: str, patterns: list[str]) -> list[str]:
    return [name for name in await our_ids(client, environment) if _matches(name, environment, patterns)]


def _with_chosen(
    environment: str,
    patterns: list[str] | None,
    work: Callable[[Client, list[str]], Awaitable[None]],
    *,
    everything: bool,
) -> None:
    if bool(patterns) == everything:
        fail("say which: tables, or --all", USAGE)
    with one_line():
        resolved = load().environment(environment, "temporal")

    async def do() -> None:
        client = await connect(resolved)
        ids = await _ours(client, environment, patterns or ["*"])
        if not ids:
            raise BadRequest(
                f"no schedule of environment {environment} is called {' or '.join(patterns or ['*'])}; "
                "`icefleet schedules list` shows them"
            )
        await work(client, ids)

    run(do())


def _on_each(
    environment: str,
    patterns: list[str] | None,
    work: Callable[[ScheduleHandle], Awaitable[None]],
    done: str,
    *,
    everything: bool,
) -> None:
    async def all_of_them(client: Client, ids: list[str]) -> None:
        await asyncio.gather(*(work(client.get_schedule_handle(name)) for name in ids))
        for name in ids:
            say(f"{done} {name}")

    _with_chosen(environment, patterns, all_of_them, everything=everything)
