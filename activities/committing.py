"""Objects become part of the table: footers read here, one snapshot, nothing twice."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from opentelemetry import propagate
from temporalio import activity

from activities import failpoints
from activities.abreast import each
from activities.context import ExportContext
from activities.contracts.export import CommitInput, CommitReport, ExportedPartition, table_identifier
from activities.core import empties, failing
from activities.core.commits import NewFile, Removal
from activities.core.freshness import committed_freshness
from activities.core.orphans import check_line
from activities.core.partitions import Ranges, index_of
from activities.core.query import SourceFacts, counts_query
from activities.core.tables import PartitionRule, TableConfig
from activities.export_metrics import commit_told, newest_known
from activities.footers import stored_footer
from activities.lake.commit import Commit, commit_files
from activities.lake.files import data_file
from activities.lake.footers import Footer
from activities.source import read_facts

C = TypeVar("C")
FOOTERS_AT_ONCE = 16


async def commit_page(context: ExportContext, commit: CommitInput) -> CommitReport:
    """Commit a page of objects, in one snapshot, leaving out what the head holds already."""
    config = context.table(commit)
    rule = config.partition
    facts = await read_facts(context.find_source(config.source), config)
    files = [_new_file(context, rule, file) for file in commit.files]
    removals = await _removals(context, config, facts, commit)
    footers = await _footers(context, commit.files)
    by_path = dict(zip((file.path for file in files), footers, strict=True))

    def describe(table: Any, file: NewFile) -> Any:
        footer = by_path[file.path]
        check_line(table.properties, footer.key, footer.made)
        return data_file(table, rule, file.index, file.path, footer, facts.version_column)

    await failpoints.reach("before-commit")
    done = await to_its_end(
        commit_files,
        context.lake,
        table_identifier(commit.network, commit.table),
        rule,
        files,
        describe,
        summary=snapshot_summary(len(commit.files)),
        properties=lambda properties: _properties(rule, commit, files, removals, properties),
        removals=removals,
    )
    await failpoints.reach("after-commit")
    report = _report(done, by_path, len(removals))
    there = {file.index for file in files}
    known = newest_known(commit.network, commit.table)
    commit_told(commit, report, committed_freshness(config, commit.network, there, known=known, now=time.time()))
    return report


async def _removals(
    context: ExportContext, config: TableConfig, facts: SourceFacts, commit: CommitInput
) -> list[Removal]:
    """The files that are to go: of partitions of which the source holds nothing now, as when they were planned."""
    removals = [Removal(index_of(config.partition, one.partition), one.replaces) for one in commit.vanished]
    if not removals:
        return []
    wanted = Ranges.from_indices(removal.index for removal in removals)
    comment = f"icefleet verify {table_identifier(commit.network, commit.table)}"
    query = counts_query(config, facts, commit.network, wanted)
    answer = await context.find_source(config.source).rows(query, comment=comment)
    back = {int(row["partition"]) for row in answer if int(row["rows"])}
    return [removal for removal in removals if removal.index not in back]


async def to_its_end(commit: Callable[..., C], *args: Any, **options: Any) -> C:
    """Run a commit in a thread, which cannot be interrupted: one that is cancelled meanwhile says what it did."""
    running = asyncio.create_task(asyncio.to_thread(commit, *args, **options))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        return await running


def _new_file(context: ExportContext, rule: PartitionRule, file: ExportedPartition) -> NewFile:
    return NewFile(index_of(rule, file.partition), context.store.path(file.key), file.reason, file.replaces)


async def _footers(context: ExportContext, files: list[ExportedPartition]) -> list[Footer]:
    return await each(lambda file: stored_footer(context, file.key, file.bytes), files, FOOTERS_AT_ONCE)


def snapshot_summary(partitions: int) -> dict[str, str]:
    """What the snapshot says of itself, so that an announcement can be made from it alone."""
    return {"icefleet.partitions": str(partitions), **origin()}


def origin() -> dict[str, str]:
    """Which run made a snapshot, for its summary."""
    info, carrier = activity.info(), dict[str, str]()
    propagate.inject(carrier)
    said = {"icefleet.workflow-id": info.workflow_id or "", "icefleet.run-id": info.workflow_run_id or ""}
    return said | ({"icefleet.traceparent": carrier["traceparent"]} if "traceparent" in carrier else {})


def _properties(
    rule: PartitionRule,
    commit: CommitInput,
    files: list[NewFile],
    removals: list[Removal],
    properties: Mapping[str, str],
) -> dict[str, str]:
    """What is remembered of empty and failing partitions, as far as there is something to remember."""
    found = Ranges.from_pairs((index_of(rule, first), index_of(rule, last) + 1) for first, last in commit.empty_ranges)
    found = found.union(Ranges.from_indices(removal.index for removal in removals))
    held = Ranges.from_indices(file.index for file in files)
    changed: dict[str, str] = {}
    text = properties.get(empties.PROPERTY, "")
    if found or text:
        changed[empties.PROPERTY] = empties.remember_empty(text, found, held, datetime.now(UTC).date())
    text = properties.get(failing.PROPERTY, "")
    if commit.failed or text:
        failed = {index_of(rule, label): cause for label, cause in commit.failed.items()}
        changed[failing.PROPERTY] = failing.remember_failing(text, rule, failed, held.union(found), commit.failed_at)
    return changed


def _report(done: Commit, footers: Mapping[str, Footer], removals: int) -> CommitReport:
    committed = [footers[file.path] for file in done.plan.files]
    return CommitReport(
        snapshot_id="" if done.snapshot_id is None else str(done.snapshot_id),
        committed=len(committed),
        already_there=len(done.plan.there),
        rows=sum(footer.rows for footer in committed),
        bytes=sum(footer.size for footer in committed),
        removed=removals - len(done.plan.kept),
    )
