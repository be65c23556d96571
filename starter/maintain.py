"""`icefleet maintain`: have the tables of an environment kept in order, of whatever kind they are."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from temporalio.client import WorkflowFailureError

from activities.contracts.inputs import write_input
from activities.contracts.maintain import MAINTAIN_WORKFLOW, MOST_PARALLEL, MaintainReport, MaintainRequest
from starter.asking import CODES, connect, explain, left_alone, of_environment, stamped
from starter.common import (
    FAILED,
    EnvironmentOption,
    JsonOption,
    load_environment,
    run,
    say,
    say_json,
    show_table,
)
from starter.options import DryRunOption, WaitOption
from starter.unserved import say_unserved
from worker.config import Environment


def maintain(
    tables: Annotated[
        list[str] | None, typer.Argument(help="Iceberg identifiers, names, or patterns of either; without: all.")
    ] = None,
    environment: EnvironmentOption = "local",
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="export, changelog or mirror; may be repeated.")
    ] = None,
    max_parallel: Annotated[int, typer.Option(min=1, max=MOST_PARALLEL, help="Tables worked on at once.")] = 4,
    dry_run: DryRunOption = False,
    wait: WaitOption = False,
    json: JsonOption = False,
) -> None:
    """Let old snapshots of tables expire, delete what nothing names, merge manifests, compact changelogs.

    \b
    icefleet maintain --dry-run
    icefleet maintain 'mainnet.canonical_*' --wait
    icefleet maintain --kind changelog --kind mirror --wait --json

    Each table's own loop does it, between its other work; workers must run. Ctrl-C ends the waiting, not the work. Exit
    codes: 0 done, 1 failed, 2 cannot be, 3 some tables failed, 130 cancelled, or no longer waited for.
    """
    request = MaintainRequest(tables or [], environment, kind or [], dry_run, max_parallel)
    resolved = load_environment(environment, "temporal")
    raise typer.Exit(run(_maintain(resolved, request, wait=wait or dry_run, json=json)))


async def _maintain(environment: Environment, request: MaintainRequest, *, wait: bool, json: bool) -> int:
    client, queue = await connect(environment), environment.temporal.task_queue
    await say_unserved(client, "the request", queue)
    handle = await client.start_workflow(
        MAINTAIN_WORKFLOW,
        write_input(request),
        id=stamped(f"maintain/{request.environment}"),
        task_queue=queue,
        result_type=MaintainReport,
        static_summary=f"upkeep of {', '.join(request.tables) or 'all tables'}"[:150],
        search_attributes=of_environment(request.environment),
    )
    if not wait:
        if json:
            say_json({"workflow_id": handle.id})
        else:
            say(f"started as {handle.id}; the Temporal UI shows how far it is")
        return 0
    try:
        with left_alone(f"{handle.id} goes on"):
            report = await handle.result()
    except WorkflowFailureError as failed:
        return explain(failed)
    if json:
        say_json(asdict(report))
    else:
        _show(report)
    return CODES.get(report.status, FAILED)


def _show(report: MaintainReport) -> None:
    if report.each:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("table", "kind", "status", "what was done"):
            table.add_column(name, no_wrap=name != "what was done", overflow="fold")
        for one in report.each:
            table.add_row(one.table, one.kind, one.status, f"{one.cause}: {one.message}" if one.cause else one.message)
        show_table(table)
    say(report.message)
