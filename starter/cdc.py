"""`icefleet cdc`: set up, watch and steer pipelines from PostgreSQL to changelogs."""

from dataclasses import asdict
from typing import Annotated

import typer

from activities.contracts.cdc import (
    INSTALL_WORKFLOW,
    UNINSTALL_WORKFLOW,
    InstallRequest,
    LettersRequest,
    UninstallRequest,
)
from activities.contracts.inputs import write_input
from starter.cdc_asking import ask, choose, chosen_of, loops_of, pause_loops, resume_loops, settle
from starter.common import FAILED, PARTIAL, EnvironmentOption, JsonOption, load_environment, run, say, say_json

app = typer.Typer(help="Carry changes of PostgreSQL tables into Iceberg changelogs.", no_args_is_help=True)
PipelineOption = Annotated[
    str, typer.Option("--pipeline", "-p", help="A pipeline under `cdc`; may be left out when there is one.")
]
TableOption = Annotated[str, typer.Option("--table", "-t", help="A source table, schema.table.")]
LettersArgument = Annotated[list[int] | None, typer.Argument(help="Ids of dead letters; none: all of --table.")]
OnlyOption = Annotated[str, typer.Option("--only", help="Only this loop: capture or ingest.")]


@app.command()
def install(
    tables: Annotated[
        list[str] | None, typer.Option("--tables", "-t", help="schema.table, separated by commas; may be repeated.")
    ] = None,
    environment: EnvironmentOption = "local",
    pipeline: PipelineOption = "",
    full_identity: Annotated[
        bool, typer.Option("--full-identity", help="Log whole old rows, also of tables with a key.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Copy the tables anew, as after a lost slot.")] = False,
    json: JsonOption = False,
) -> None:
    """Set up buffer, publication, slot and trigger, and have tables copied and followed. What is there stays.

    \b
    icefleet cdc install --tables public.orders,public.customers
    icefleet cdc install --pipeline shop --tables public.orders --again
    icefleet cdc install --pipeline fed-by-others

    Without tables only the buffer is made, for producers of your own.
    """
    wanted = [name.strip() for text in tables or [] for name in text.split(",") if name.strip()]
    resolved, name = choose(environment, pipeline)
    request = InstallRequest(name, wanted, environment, full_identity=full_identity, again=again)
    from starter.cdc_shown import show_installed  # noqa: PLC0415 - it loads drivers, which most commands do not need

    report = run(ask(resolved, name, INSTALL_WORKFLOW, write_input(request)))
    if json:
        say_json(report)
    else:
        show_installed(report)
        say("follow it with: icefleet cdc status")


@app.command()
def uninstall(
    environment: EnvironmentOption = "local",
    pipeline: PipelineOption = "",
    drop_buffer: Annotated[
        bool, typer.Option("--drop-buffer", help="Also drop the buffer, with whatever was not ingested.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Remove slot, publication and trigger from the source. Changelogs stay, and what is buffered is still ingested.

    \b
    icefleet cdc uninstall --pipeline shop
    icefleet cdc uninstall --pipeline shop --drop-buffer
    """
    resolved, name = choose(environment, pipeline)
    request = UninstallRequest(name, environment, drop_buffer=drop_buffer)
    report = run(ask(resolved, name, UNINSTALL_WORKFLOW, write_input(request)))
    if json:
        say_json(report)
    else:
        say(f"removed: {', '.join(report['removed']) or 'nothing was there'}")
        say(report["message"])


@app.command()
def status(environment: EnvironmentOption = "local", pipeline: PipelineOption = "", json: JsonOption = False) -> None:
    """Show how far pipelines are: slot, loops, and of each table what was captured, written, and waits.

    \b
    icefleet cdc status
    icefleet cdc status --pipeline shop --json

    Whatever cannot be asked says why, and the rest is shown: the source, the buffer and Temporal may be away. Exit
    codes: 0 all was asked, 1 failed, 2 cannot be, 3 some could not be asked.
    """
    from starter.cdc_shown import show_status  # noqa: PLC0415 - they load drivers
    from worker.cdc_status import look_at  # noqa: PLC0415

    resolved = load_environment(environment, "cdc")
    names = [chosen_of(resolved, pipeline)] if pipeline else list(resolved.cdc) or [chosen_of(resolved, "")]
    found = [run(look_at(resolved, name)) for name in names]
    if json:
        say_json([asdict(report) for report in found])
    else:
        for report in found:
            show_status(report)
    raise typer.Exit(0 if all(report.is_whole for report in found) else PARTIAL)


@app.command(name="dead-letters")
def dead_letters(
    environment: EnvironmentOption = "local",
    pipeline: PipelineOption = "",
    table: TableOption = "",
    every: Annotated[bool, typer.Option("--all", help="Also those that were settled.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    json: JsonOption = False,
) -> None:
    """List events that could not be written, with the cause, and those of the same key that wait behind them.

    \b
    icefleet cdc dead-letters
    icefleet cdc dead-letters --table public.orders --json
    """
    from starter.cdc_shown import show_letters  # noqa: PLC0415 - they load drivers
    from worker.cdc_status import dead_letters as look  # noqa: PLC0415

    resolved = load_environment(environment, "cdc")
    name = chosen_of(resolved, pipeline)
    schema, dot, rest = table.partition(".")
    chosen = ((schema, rest) if dot else ("public", schema)) if table else None
    letters = [asdict(letter) for letter in run(look(resolved, name, chosen, every=every, limit=limit))]
    if json:
        say_json(letters)
    elif letters:
        show_letters(letters, limit)
    else:
        say("no dead letters")


@app.command()
def requeue(
    letters: LettersArgument = None,
    environment: EnvironmentOption = "local",
    pipeline: PipelineOption = "",
    table: TableOption = "",
    json: JsonOption = False,
) -> None:
    """Try dead letters again, after what was wrong with them has been mended; what waits behind them follows.

    \b
    icefleet cdc requeue 4711 4712
    icefleet cdc requeue --table public.orders
    """
    settle(environment, pipeline, LettersRequest("", "requeue", table, letters or []), json=json)


@app.command()
def drop(
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept beside them.")],
    letters: LettersArgument = None,
    environment: EnvironmentOption = "local",
    pipeline: PipelineOption = "",
    table: TableOption = "",
    json: JsonOption = False,
) -> None:
    """Give dead letters up for good; what waits behind them goes on.

    \b
    icefleet cdc drop 4711 --reason "a test row of the shop's"
    icefleet cdc drop --table public.orders --reason "all of them were made by a faulty import"
    """
    settle(environment, pipeline, LettersRequest("", "drop", table, letters or [], reason), json=json)


@app.command()
def pause(environment: EnvironmentOption = "local", pipeline: PipelineOption = "", only: OnlyOption = "") -> None:
    """Pause capture and ingest. The source keeps its log meanwhile, and the buffer its events.

    \b
    icefleet cdc pause --pipeline shop
    icefleet cdc pause --only ingest
    """
    resolved, name = choose(environment, pipeline)
    ran = run(pause_loops(resolved, name, loops_of(resolved, name, only)))
    raise typer.Exit(0 if ran else FAILED)


@app.command()
def resume(
    environment: EnvironmentOption = "local",
    pipeline: PipelineOption = "",
    only: OnlyOption = "",
    table: TableOption = "",
    json: JsonOption = False,
) -> None:
    """Go on after a pause, or at once after something was mended; loops that do not run are started.

    With --table, let a table go on that was stopped.

    \b
    icefleet cdc resume --pipeline shop
    icefleet cdc resume --table public.orders
    """
    if table:
        settle(environment, pipeline, LettersRequest("", "resume-table", table), json=json)
        return
    resolved, name = choose(environment, pipeline)
    run(resume_loops(resolved, name, loops_of(resolved, name, only)))
