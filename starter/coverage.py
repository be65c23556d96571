"""`icefleet coverage`: what is there, missing, stale, shrunk, empty and open, in a terminal or as a page."""

import os
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from activities.contracts.export import table_identifier
from activities.core.coverage import STATES, Bounds, Coverage, sentence
from activities.core.partitions import label_of
from starter.common import (
    FAILED,
    PARTIAL,
    USAGE,
    EnvironmentOption,
    JsonOption,
    console,
    errors,
    fail,
    load,
    one_line,
    run,
    say,
    say_json,
)
from starter.coverage_page import coverage_page
from starter.coverage_strips import legend, strips
from starter.options import OnlyNetworkOption, ToOption
from worker.comparison import Chosen
from worker.config import Settings
from worker.coverage import cover


def coverage(
    pattern: Annotated[
        str, typer.Argument(help="Only tables whose name contains this; * and ? match as in a shell.")
    ] = "",
    environment: EnvironmentOption = "local",
    network: OnlyNetworkOption = "",
    first: Annotated[str, typer.Option("--from", help="First partition: a date, or a number for chunked tables.")] = "",
    last: ToOption = "",
    html: Annotated[Path | None, typer.Option("--html", help="Write one self-contained page to this file.")] = None,
    source: Annotated[bool, typer.Option("--source/--no-source", help="Ask the source too.")] = True,
    json: JsonOption = False,
) -> None:
    """Show what is there of every table and network, partition by partition, and what is not.

    \b
    icefleet coverage
    icefleet coverage 'mainnet.canonical_*' --from 2024-01-01
    icefleet coverage beacon_api_eth_v1_events_block -n mainnet
    icefleet coverage -e production --html coverage.html

    The table is held against its source: one query for each table and network. Without one (--no-source) nothing is
    known to be stale or shrunk, and whatever is not there counts as missing. Exit codes: 0 all were looked at, 1
    failed, 2 cannot be, 3 some could not be looked at.
    """
    settings = load()
    with one_line():
        settings.environment(environment)
        chosen = _chosen(settings, environment, pattern, network)
        bounds = Bounds(first, last)
        bounds.check([config.partition for config, _ in chosen])
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("looking", total=len(chosen))
        looking = cover(settings, environment, chosen, bounds, ask_source=source, looked=lambda: progress.advance(task))
        seen = run(looking)
    if all(one.trouble and not one.runs for one in seen):
        fail(seen[0].trouble, FAILED)
    if html is not None:
        write_whole(html, coverage_page(seen, environment, datetime.now(UTC), asked=source))
    if json:
        say_json([as_json(one) for one in seen])
    elif html is not None:
        say(f"{html}: {len(seen)} tables and networks of {environment}, {html.stat().st_size:,} bytes")
    else:
        _show(seen)
    troubled = [one for one in seen if one.trouble]
    for one in troubled:
        errors.print(f"{one.table}: {one.trouble}", markup=False)
    raise typer.Exit(PARTIAL if troubled else 0)


def _chosen(settings: Settings, environment: str, pattern: str, network: str) -> Chosen:
    every = settings.exports(environment)
    chosen = [
        (config, name)
        for config, name in every
        if network in ("", name) and matches(pattern, config.name, table_identifier(name, config.name))
    ]
    if not chosen:
        if network and network not in {name for _, name in every}:
            fail(f"no table of environment {environment} has a network {network!r}", USAGE)
        fail(f"no table of environment {environment} has {pattern!r} in its name", USAGE)
    return chosen


def matches(pattern: str, name: str, identifier: str) -> bool:
    """Whether a table is meant: by a part of `<network>.<table>`, or by a glob over it or over its name alone."""
    if any(letter in pattern for letter in "*?["):
        return fnmatchcase(identifier, pattern) or fnmatchcase(name, pattern)
    return pattern in identifier


def as_json(one: Coverage) -> dict[str, Any]:
    """A table as JSON: counts by state, and the ranges of each, both ends inclusive."""
    span = one.span
    return {
        "table": one.table,
        "kind": one.rule.kind,
        "first": label_of(one.rule, span.first) if len(span) else "",
        "last": label_of(one.rule, span.stop - 1) if len(span) else "",
        "newest": one.newest(),
        "source_asked": one.asked,
        "trouble": one.trouble,
        "counts": one.counts,
        "ranges": {state: one.ranges(state) for state in STATES if one.counts[state]},
    }


def write_whole(path: Path, text: str) -> None:
    """Put a file in place at once: whoever reads it meanwhile sees the old one or the new one, and nothing between."""
    written = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            written.write_text(text, encoding="utf-8")
            written.replace(path)
        finally:
            written.unlink(missing_ok=True)
    except OSError as wrong:
        fail(f"cannot write {path}: {wrong.strerror}", USAGE)


def _show(seen: list[Coverage]) -> None:
    if not console.is_terminal:
        for one in seen:
            console.print(f"{one.table}: {sentence(one)}{_since(one)}", markup=False, soft_wrap=True)
        return
    for text in strips(seen, console.width, ascii_only="utf" not in console.encoding.lower()):
        console.print(text)
    console.print(legend(seen, ascii_only="utf" not in console.encoding.lower()))


def _since(one: Coverage) -> str:
    newest = f"; newest {one.newest()}" if one.newest() else ""
    return newest + ("" if one.asked or not one.runs else "; source not asked")
