"""`icefleet adopt`: what is published already becomes part of its table, where it lies."""

from dataclasses import asdict
from typing import Annotated

import typer

from activities.contracts.adopt import AdoptReport, AdoptRequest
from activities.contracts.export import ADOPT_WORKFLOW
from activities.core.adopting import REASONS
from starter.asking import connect, report_of, say_requested, start_door
from starter.common import (
    FAILED,
    INTERRUPTED,
    PARTIAL,
    EnvironmentOption,
    JsonOption,
    load,
    one_line,
    run,
    say,
    say_json,
)
from starter.meant import check_meant
from starter.options import FromOption, NetworkOption, TableArgument, ToOption, WaitOption
from starter.unserved import say_unserved, upkeep_queue
from worker.config import Environment

LISTED = 20
"""Refused files that people are shown; JSON has a hundred."""


def adopt(
    table: TableArgument,
    network: NetworkOption,
    environment: EnvironmentOption = "local",
    first: FromOption = "",
    last: ToOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be adopted; writes nothing.")] = False,
    extra_column: Annotated[
        list[str] | None, typer.Option(help="A column of old files that becomes one of the table; can be repeated.")
    ] = None,
    unredacted: Annotated[
        list[str] | None, typer.Option(help="A redacted column that may show values in old files; can be repeated.")
    ] = None,
    wait: WaitOption = True,
    json: JsonOption = False,
) -> None:
    """Register the Parquet files under a table's public keys in its Iceberg table, without moving them.

    \b
    icefleet adopt beacon_api_eth_v1_events_block -n mainnet --dry-run
    icefleet adopt beacon_api_eth_v1_events_block -n mainnet
    icefleet adopt canonical_execution_block -n mainnet --from 0 --to 999999

    The work of the table's own loop; workers must run. Asked again it goes on where it was. Exit codes: 0 all of them
    are in the table, 1 failed, 2 cannot be, 3 some were refused, 130 withdrawn.
    """
    request = AdoptRequest(
        table=table,
        network=network,
        environment=environment,
        from_=first,
        to=last,
        dry_run=dry_run,
        extra_columns=extra_column or [],
        unredacted=unredacted or [],
    )
    with one_line():
        settings = load()
        resolved = settings.environment(environment, "temporal")
        check_meant(settings, environment, table, network, first, last)
    raise typer.Exit(run(_adopt(resolved, request, wait=wait or dry_run, json=json)))


async def _adopt(environment: Environment, request: AdoptRequest, *, wait: bool, json: bool) -> int:
    client = await connect(environment)
    queue = environment.temporal.task_queue
    handle = await start_door(client, queue, request, ADOPT_WORKFLOW, "adopt", AdoptReport)
    await say_unserved(client, "the request", queue, upkeep_queue(environment))
    if not wait:
        say_requested(handle, request, environment, json=json)
        return 0
    report = await report_of(client, handle)
    if json:
        say_json(asdict(report))
    else:
        _show(report)
    return _code(report)


def _code(report: AdoptReport) -> int:
    if report.status == "cancelled":
        return INTERRUPTED
    if report.status not in {"complete", "partial", "dry_run", "nothing_to_do"}:
        return FAILED
    return PARTIAL if report.refused else 0


def _show(report: AdoptReport) -> None:
    say(report.message)
    if report.not_asked:
        say(f"  {report.not_asked} files lie outside of the range")
    for name, files in sorted(report.lacking.items()):
        say(f"  {files} files have no column {name}, which reads null in them")
    for snapshot in report.snapshots[-3:]:
        say(f"  snapshot {snapshot}")
    for reason, count in sorted(report.reasons.items(), key=lambda pair: -pair[1]):
        say(f"  {count} refused as {reason}: {REASONS[reason]}")
    for refusal in report.refusals[:LISTED]:
        say(f"    {refusal.key}: {refusal.reason}: {refusal.why}")
    if report.refused > LISTED:
        say(f"    and {report.refused - LISTED} more (--json lists the first hundred)")
