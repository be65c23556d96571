"""`icefleet cdc`: set up, watch and steer pipelines from PostgreSQL to changelogs."""

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from activities.contracts.cdc import (
    CAPTURE,
    INGEST,
    INSTALL_WORKFLOW,
    LETTERS_WORKFLOW,
    LOOPS,
    PAUSE_SIGNAL,
    RESUME_SIGNAL,
    UNINSTALL_WORKFLOW,
    InstallRequest,
    LettersRequest,
    UninstallRequest,
)
from activities.contracts.export import ENVIRONMENT_ATTRIBUTE
from activities.contracts.inputs import write_input
from activities.core.names import near
from starter.common import (
    FAILED,
    USAGE,
    EnvironmentOption,
    JsonOption,
    errors,
    fail,
    load_environment,
    run,
    say,
    say_json,
)
from starter.export import connect, explain, has_worker
from worker.config import Environment

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

    Without tables only what is missing is made, and the loops are started.
    """
    wanted = [name.strip() for text in tables or [] for name in text.split(",") if name.strip()]
    resolved, name = _pipeline(environment, pipeline)
    request = InstallRequest(name, wanted, environment, full_identity=full_identity, again=again)
    from starter.cdc_shown import show_installed  # noqa: PLC0415 - it loads drivers, which most commands do not need

    report = run(_ask(resolved, name, INSTALL_WORKFLOW, write_input(request)))
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
    resolved, name = _pipeline(environment, pipeline)
    request = UninstallRequest(name, environment, drop_buffer=drop_buffer)
    report = run(_ask(resolved, name, UNINSTALL_WORKFLOW, write_input(request)))
    if json:
        say_json(report)
    else:
        say(report["message"] or f"removed: {', '.join(report['removed']) or 'nothing was there'}")


@app.command()
def status(environment: EnvironmentOption = "local", pipeline: PipelineOption = "", json: JsonOption = False) -> None:
    """Show how far pipelines are: slot, loops, and of each table what was captured, written, and waits.

    \b
    icefleet cdc status
    icefleet cdc status --pipeline shop --json

    Whatever cannot be asked says why, and the rest is shown: the source, the buffer and Temporal may be away.
    """
    from starter.cdc_shown import show_status  # noqa: PLC0415 - they load drivers
    from worker.cdc_status import look_at  # noqa: PLC0415

    resolved = load_environment(environment, "cdc")
    names = [_chosen(resolved, pipeline)] if pipeline else list(resolved.cdc) or [_chosen(resolved, "")]
    found = [run(look_at(resolved, name)) for name in names]
    if json:
        say_json([asdict(report) for report in found])
        return
    for report in found:
        show_status(report)


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
    name = _chosen(resolved, pipeline)
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
    _settle(environment, pipeline, LettersRequest("", "requeue", table, letters or []), json=json)


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
    _settle(environment, pipeline, LettersRequest("", "drop", table, letters or [], reason), json=json)


@app.command()
def pause(environment: EnvironmentOption = "local", pipeline: PipelineOption = "", only: OnlyOption = "") -> None:
    """Pause capture and ingest. The source keeps its log meanwhile, and the buffer its events.

    \b
    icefleet cdc pause --pipeline shop
    icefleet cdc pause --only ingest
    """
    resolved, name = _pipeline(environment, pipeline)
    ran = run(_pause(resolved, name, _loops(resolved, name, only)))
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
        _settle(environment, pipeline, LettersRequest("", "resume-table", table), json=json)
        return
    resolved, name = _pipeline(environment, pipeline)
    run(_resume(resolved, name, _loops(resolved, name, only)))


# --- how ----------------------------------------------------------------------------------------------------------


def _pipeline(environment: str, name: str) -> tuple[Environment, str]:
    resolved = load_environment(environment, "temporal")
    return resolved, _chosen(resolved, name)


def _chosen(environment: Environment, name: str) -> str:
    known = list(environment.cdc)
    if not known:
        fail(f"environment {environment.name!r} has no pipeline; docs/guides/cdc.md says how to write `cdc`", USAGE)
    if not name and len(known) > 1:
        fail(f"environment {environment.name!r} has several pipelines: say --pipeline {' or '.join(known)}", USAGE)
    if name and name not in known:
        fail(f"no pipeline {name!r} under `cdc` of environment {environment.name!r}{near(name, known)}", USAGE)
    return name or known[0]


def _loops(environment: Environment, name: str, only: str) -> list[str]:
    there = [CAPTURE, INGEST] if environment.cdc[name].source is not None else [INGEST]
    if only and only not in LOOPS:
        fail(f"--only is {CAPTURE} or {INGEST}, not {only!r}", USAGE)
    if only and only not in there:
        fail(f"pipeline {name!r} has no `source` in config: others fill its buffer, and nothing is captured", USAGE)
    return [only] if only else there


def _settle(environment: str, pipeline: str, asked: LettersRequest, *, json: bool) -> None:
    resolved, name = _pipeline(environment, pipeline)
    request = {**write_input(asked), "pipeline": name, "environment": environment}
    report = run(_ask(resolved, name, LETTERS_WORKFLOW, request))
    if json:
        say_json(report)
    else:
        say(report["message"])


async def _ask(environment: Environment, pipeline: str, workflow: str, request: dict[str, Any]) -> dict[str, Any]:
    """Start a door and wait for its report; its failure is said, and ends the command."""
    client = await connect(environment)
    queue = environment.temporal.cdc_task_queue
    if not await has_worker(client, queue):
        errors.print(f"no worker listens on task queue {queue}: this waits for one (icefleet worker)")
    handle = await client.start_workflow(
        workflow,
        request,
        id=f"cdc/request/{environment.name}/{pipeline}/{time.time_ns() // 1_000_000}",
        task_queue=queue,
        search_attributes=_attributes(environment),
    )
    try:
        report: dict[str, Any] = await handle.result()
    except WorkflowFailureError as failed:
        raise typer.Exit(explain(failed)) from failed
    return report


async def _pause(environment: Environment, pipeline: str, loops: list[str]) -> bool:
    """Whether any of them ran."""
    client = await connect(environment)
    ran = False
    for loop in loops:
        try:
            await client.get_workflow_handle(LOOPS[loop][1](environment.name, pipeline)).signal(PAUSE_SIGNAL)
        except RPCError as gone:
            if gone.status != RPCStatusCode.NOT_FOUND:
                raise
            say(f"{loop} of {pipeline} does not run")
        else:
            ran = True
            say(f"{loop} of {pipeline} pauses; go on with: icefleet cdc resume --pipeline {pipeline}")
    return ran


async def _resume(environment: Environment, pipeline: str, loops: list[str]) -> None:
    client = await connect(environment)
    for loop in loops:
        await _start(client, environment, pipeline, loop)
        say(f"{loop} of {pipeline} goes on")
    if not await has_worker(client, environment.temporal.cdc_task_queue):
        errors.print(f"no worker listens on task queue {environment.temporal.cdc_task_queue} (icefleet worker)")


async def _start(client: Client, environment: Environment, pipeline: str, loop: str) -> None:
    workflow, identity = LOOPS[loop]
    await client.start_workflow(
        workflow,
        {"environment": environment.name, "pipeline": pipeline},
        id=identity(environment.name, pipeline),
        task_queue=environment.temporal.cdc_task_queue,
        static_summary=f"{loop} of {pipeline}",
        start_signal=RESUME_SIGNAL,
        search_attributes=_attributes(environment),
    )


def _attributes(environment: Environment) -> TypedSearchAttributes:
    return TypedSearchAttributes([SearchAttributePair(ENVIRONMENT_ATTRIBUTE, environment.name)])
