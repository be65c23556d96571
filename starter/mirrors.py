"""`icefleet mirrors`: watch and steer tables that hold the latest row of every key of a changelog."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from activities.contracts.mirrors import (
    BOOTSTRAP_SIGNAL,
    COMPACT_SIGNAL,
    MERGE_SIGNAL,
    REBUILD_SIGNAL,
    RESUME_SIGNAL,
    VerifyMirrorInput,
)
from starter.common import (
    FAILED,
    PARTIAL,
    USAGE,
    EnvironmentOption,
    JsonOption,
    fail,
    load_environment,
    run,
    say,
    say_json,
)
from starter.mirrors_asking import choose, chosen_of, compare, merge_soon, order, pause_loops, send

app = typer.Typer(help="Keep tables that hold the latest row of every key of a changelog.", no_args_is_help=True)
MirrorArgument = Annotated[str, typer.Argument(help="namespace.table; may be left out when there is one.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every mirror of the environment.")]


@app.command(name="list")
def list_(environment: EnvironmentOption = "local", json: JsonOption = False) -> None:
    """List mirrors: state, watermark, lag, last merge, and what is wrong.

    \b
    icefleet mirrors list
    icefleet mirrors list --json

    The tables themselves are asked, and the loops if they run: Temporal or a catalog that is away says so. Exit codes:
    0 all were asked, 1 failed, 2 cannot be, 3 some could not be asked.
    """
    from starter.mirrors_shown import show_all  # noqa: PLC0415 - they load a lake library
    from worker.mirror_status import look_at  # noqa: PLC0415

    resolved = load_environment(environment)
    found = run(look_at(resolved, list(resolved.mirrors)))
    if json:
        say_json([{**asdict(report), "trouble": report.trouble} for report in found])
    elif found:
        show_all(found)
    else:
        say(f"environment {environment!r} has no mirror; docs/guides/mirrors.md says how to write one")
    raise typer.Exit(0 if all(report.is_whole for report in found) else PARTIAL)


@app.command()
def show(mirror: MirrorArgument = "", environment: EnvironmentOption = "local", json: JsonOption = False) -> None:
    """Show one mirror: its tables, its loop, and what its merges have done.

    \b
    icefleet mirrors show shop.orders
    icefleet mirrors show shop.orders --json

    Exit codes: 0 it was asked, 1 failed, 2 cannot be, 3 its tables or its loop could not be asked.
    """
    from starter.mirrors_shown import show_one  # noqa: PLC0415 - they load a lake library
    from worker.mirror_status import look_at  # noqa: PLC0415

    resolved = load_environment(environment)
    [report] = run(look_at(resolved, chosen_of(resolved, mirror)))
    if json:
        say_json({**asdict(report), "trouble": report.trouble})
    else:
        show_one(report)
    raise typer.Exit(0 if report.is_whole else PARTIAL)


@app.command()
def merge(
    mirror: MirrorArgument = "",
    environment: EnvironmentOption = "local",
    once: Annotated[bool, typer.Option("--once", help="Wait until what is there now is merged.")] = False,
    bootstrap: Annotated[
        bool,
        typer.Option(
            "--bootstrap",
            help="Begin again from the changelog as it is now, and wait for it; rows whose changes it has no more go.",
        ),
    ] = False,
    every: AllOption = False,
    json: JsonOption = False,
) -> None:
    """Have mirrors merge now; the loop of one that does not run is started.

    \b
    icefleet mirrors merge shop.orders
    icefleet mirrors merge --once --all            # what a CronJob runs: it waits, and fails if a merge fails
    icefleet mirrors merge shop.orders --bootstrap # readers have the old rows until the new ones are there
    """
    if bootstrap and every:
        fail("name the mirror that is to begin again: --bootstrap is for one", USAGE)
    resolved, names = choose(environment, mirror, every=None if bootstrap else every)
    if once or bootstrap:
        _order(resolved, names, BOOTSTRAP_SIGNAL if bootstrap else MERGE_SIGNAL, json=json)
        return
    reasons = run(merge_soon(resolved, names))
    if json:
        why = {name: {"status": "refused", "message": reason} for name, reason in reasons.items()}
        say_json({name: why.get(name, {"status": "sent"}) for name in names})
    else:
        for name in names:
            refused = f"{name} does not merge: {reasons[name]}" if name in reasons else ""
            say(refused or f"{name} merges; watch it with: icefleet mirrors show {name}")
    if reasons:
        raise typer.Exit(FAILED if len(reasons) == len(names) else PARTIAL)


@app.command()
def pause(mirror: MirrorArgument = "", environment: EnvironmentOption = "local", every: AllOption = False) -> None:
    """Pause mirrors. What is under way is given up, and changes wait in the changelog.

    \b
    icefleet mirrors pause shop.orders
    icefleet mirrors pause --all
    """
    resolved, names = choose(environment, mirror, every=every)
    raise typer.Exit(0 if run(pause_loops(resolved, names)) else FAILED)


@app.command()
def resume(mirror: MirrorArgument = "", environment: EnvironmentOption = "local", every: AllOption = False) -> None:
    """Go on after a pause, or when what a loop waited for was mended; a loop that does not run is started.

    \b
    icefleet mirrors resume shop.orders
    icefleet mirrors resume --all
    """
    resolved, names = choose(environment, mirror, every=every)
    run(send(resolved, names, RESUME_SIGNAL))
    for name in names:
        say(f"{name} goes on")


@app.command(name="rebuild-index")
def rebuild_index(
    mirror: MirrorArgument = "", environment: EnvironmentOption = "local", json: JsonOption = False
) -> None:
    """Make a mirror's index anew from the mirror and its changelog, and wait for it.

    Example: icefleet mirrors rebuild-index shop.orders
    """
    resolved, names = choose(environment, mirror)
    _order(resolved, names, REBUILD_SIGNAL, json=json)


@app.command()
def compact(
    mirror: MirrorArgument = "",
    environment: EnvironmentOption = "local",
    every: AllOption = False,
    json: JsonOption = False,
) -> None:
    """Rewrite files that are small or mostly deleted, and wait for it. Loops do so by themselves when it is due.

    Example: icefleet mirrors compact shop.orders
    """
    resolved, names = choose(environment, mirror, every=every)
    _order(resolved, names, COMPACT_SIGNAL, json=json)


@app.command()
def verify(
    mirror: MirrorArgument = "",
    environment: EnvironmentOption = "local",
    samples: Annotated[int, typer.Option(min=0, help="Compare so many ranges of keys; 0: everything.")] = 0,
    ranges: Annotated[int, typer.Option(min=1, help="Into how many ranges the keys are cut.")] = 64,
    seed: Annotated[int, typer.Option(help="Which ranges are chosen.")] = 0,
    json: JsonOption = False,
) -> None:
    """Hold a mirror against the fold of its changelog, by counts and checksums; it leaves with 1 if they differ.

    It does so, too, if the index is not that of the rows. Rows whose changes are no longer in the changelog differ as
    well, and are lost if such a mirror begins again.

    \b
    icefleet mirrors verify shop.orders
    icefleet mirrors verify shop.orders --samples 4 --seed 7
    """
    resolved, [name] = choose(environment, mirror)
    asked = VerifyMirrorInput(environment, name, samples=samples, ranges=ranges, seed=seed)
    report = run(compare(resolved, name, asked))
    if json:
        say_json(report)
    else:
        _show_verified(name, report)
    if report["status"] != "equal":
        raise typer.Exit(FAILED)


def _order(environment: Any, names: list[str], what: str, *, json: bool) -> None:
    reports, code = run(order(environment, names, what))
    if json:
        say_json(reports)
    else:
        for name, report in reports.items():
            if report["status"] == "done":
                said = report["message"]
                say(said if name in said else f"{name}: {said}")
    if code:
        raise typer.Exit(code)


def _show_verified(name: str, report: dict[str, Any]) -> None:
    say(f"{name}: {report['message']}")
    say(f"  rows      {report['rows']:,}, expected {report['expected']:,} in {report['ranges']:,} ranges of keys")
    say(f"  checksum  {report['checksum']}, expected {report['expected_checksum']}")
    say(f"  watermark {report['watermark'] or 'none'}")
    say(f"  index     {report['index'] or 'not looked at'}")
    for example in report["examples"]:
        say(f"  differs   {example}")
