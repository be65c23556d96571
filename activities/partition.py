"""One partition, from the source to one verified object."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from temporalio import activity

from activities import failpoints
from activities.clients.clickhouse import ClickHouse, failure_in
from activities.clients.objectstore import StoredObject
from activities.context import ExportContext
from activities.contracts.export import ExportedPartition, PartitionInput, table_identifier
from activities.core.columns import export_columns
from activities.core.faults import Fault, ObjectRefused, ResultIncomplete, SourceMoved, SourceUnavailable
from activities.core.objectkeys import public_key, replacement_key
from activities.core.orphans import line_of
from activities.core.partitions import index_of
from activities.core.query import PINNED_SETTINGS, Query, SourceFacts, count_query, export_query, version_query
from activities.core.recipes import forced_ids, recipe_of, short_ids
from activities.core.tables import TableConfig
from activities.heartbeats import heartbeats
from activities.lake.footers import Footer, footer_bytes, read_footer
from activities.lake.schema import column_types
from activities.source import read_facts
from activities.transfer import PendingObject

HEARTBEATS_PER_TIMEOUT = 12
SMALL_TAIL = 64 * 1024


@dataclass(frozen=True)
class _Job:
    """One partition and everything that is known of it before a row is read."""

    task: PartitionInput
    config: TableConfig
    facts: SourceFacts
    clickhouse: ClickHouse
    index: int
    query: Query
    version: int | None
    recipe: str
    line: int
    """Objects made before this second may be about to be deleted: they are not adopted."""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{table_identifier(self.task.network, self.task.table)} partition {self.task.planned.partition}"


async def export_one(context: ExportContext, task: PartitionInput) -> ExportedPartition:
    """Carry one partition into one object, or adopt the object that an earlier attempt left."""
    async with heartbeats({"partition": task.planned.partition}):
        job = await _prepare(context, task)
    await failpoints.reach("before-upload")
    for key in _keys(context, job):
        stored = await context.store.head(key)
        if stored is None and (footer := await _upload(context, job, key)):
            return _exported(job, footer, adopted=False)
        # Somebody was faster, or an earlier attempt was: its object will do if it was made by the same recipe.
        stored = stored or await context.store.head(key)
        if stored is not None and stored.recipe == job.recipe and stored.made >= job.line:
            # Rows of a version that was there before may have come since: then it is nothing but another object.
            with contextlib.suppress(ResultIncomplete):
                return await _adopt(context, job, key, stored)
    raise ObjectRefused(f"{job.name}: every object key for it is taken by an object of another origin")


async def _prepare(context: ExportContext, task: PartitionInput) -> _Job:
    config = context.table(task)
    clickhouse = context.find_source(config.source)
    facts = await read_facts(clickhouse, config)
    table = await asyncio.to_thread(context.lake.load, table_identifier(task.network, task.table))
    columns = export_columns(config, facts.columns, column_types(table) if table is not None else None)
    index = index_of(config.partition, task.planned.partition)
    query = export_query(config, facts, columns, task.network, index)
    version = await _version(clickhouse, config, facts, task.network, index)
    nonce = task.request_id if task.planned.reason == "forced" else ""
    return _Job(
        task=task,
        config=config,
        facts=facts,
        clickhouse=clickhouse,
        index=index,
        query=query,
        version=version,
        recipe=recipe_of(query, PINNED_SETTINGS, version, nonce),
        line=line_of(table.properties) if table is not None else 0,
    )


async def _version(
    clickhouse: ClickHouse, config: TableConfig, facts: SourceFacts, network: str, index: int
) -> int | None:
    answer = await clickhouse.rows(version_query(config, facts, network, index))
    return _integer(answer[0]["version"])


def _integer(value: Any) -> int | None:
    return None if value is None else int(value)


def _keys(context: ExportContext, job: _Job) -> list[str]:
    """Where the object may go: the public key for a partition that has no file yet, else one beside it."""
    planned, network = job.task.planned, job.task.network
    forced = planned.reason == "forced"
    ids = forced_ids(job.task.request_id, planned.partition) if forced else short_ids(job.recipe)
    beside = [context.key(replacement_key(job.config, network, job.index, one)) for one in ids]
    if planned.replaces:
        return beside
    return [context.key(public_key(job.config, network, job.index)), *beside]


async def _upload(context: ExportContext, job: _Job, key: str) -> Footer | None:
    """Stream the partition into `key`, and answer its footer; None when an object appeared there meanwhile."""
    query_id = f"icefleet-{uuid.uuid4()}"
    async with (
        PendingObject(context.store, key, job.recipe, context.part_size_bytes) as pending,
        _progress(job, query_id, pending),
    ):
        try:
            await pending.take(_chunks(job, query_id))
        except BaseException:
            # Dropping the connection ends a SELECT too, but not at once, and not behind every proxy.
            await asyncio.shield(_kill(job, query_id))
            raise
        footer = _whole(job, key, pending)
        await _check_source(job, footer)
        created = await pending.create()
    await failpoints.reach("after-upload")
    return footer if created else None


def _chunks(job: _Job, query_id: str) -> AsyncIterator[bytes]:
    info = activity.info()
    comment = f"icefleet {job.name} workflow {info.workflow_id} attempt {info.attempt}"
    return job.clickhouse.parquet(job.query, query_id=query_id, comment=comment)


def _whole(job: _Job, key: str, pending: PendingObject) -> Footer:
    """The footer of what was sent; a stream that broke after its first byte has none."""
    try:
        return read_footer(key, pending.tail, pending.size)
    except ObjectRefused as broken:
        said = failure_in(pending.tail) or str(broken)
        raise ResultIncomplete(f"{job.name}: the result ended after {pending.size} bytes: {said}") from broken


async def _check_source(job: _Job, footer: Footer) -> None:
    """Hold the file against the source, which must not have moved since."""
    if footer.rows == 0:
        raise SourceMoved(f"{job.name}: it had rows when it was planned and has none now")
    answer = await job.clickhouse.rows(count_query(job.config, job.facts, job.task.network, job.index))
    rows = int(answer[0]["rows"])
    version = _integer(answer[0]["version"]) if job.facts.version_column else rows
    if version != job.version:
        raise SourceMoved(f"{job.name}: newer rows arrived while it was exported ({job.version} became {version})")
    if rows != footer.rows:
        raise ResultIncomplete(f"{job.name}: the file holds {footer.rows} rows, the source counts {rows}")


async def _adopt(context: ExportContext, job: _Job, key: str, stored: StoredObject) -> ExportedPartition:
    """The object that an earlier attempt left, by its own footer."""
    async with heartbeats({"partition": job.task.planned.partition, "adopting": key}):
        footer = await stored_footer(context, key, stored.size)
        await _check_source(job, footer)
    return _exported(job, footer, adopted=True)


def _exported(job: _Job, footer: Footer, *, adopted: bool) -> ExportedPartition:
    planned = job.task.planned
    return ExportedPartition(
        partition=planned.partition,
        reason=planned.reason,
        replaces=planned.replaces,
        key=footer.key,
        rows=footer.rows,
        bytes=footer.size,
        adopted=adopted,
    )


async def stored_footer(context: ExportContext, key: str, size: int) -> Footer:
    """The footer of an object that is there, in one request when it is small."""
    tail, made = await context.store.dated_tail(key, min(SMALL_TAIL, size))
    needed = footer_bytes(key, tail)
    if needed > len(tail):
        tail, made = await context.store.dated_tail(key, min(needed, size))
    return replace(await asyncio.to_thread(read_footer, key, tail, size), made=made)


async def _kill(job: _Job, query_id: str) -> None:
    try:
        await job.clickhouse.kill(query_id)
    except (SourceUnavailable, TimeoutError) as away:
        # The server ends the query itself when it notices that nobody reads, or when its time is up.
        activity.logger.warning("%s: query %s could not be killed: %s", job.name, query_id, away)


@contextlib.asynccontextmanager
async def _progress(job: _Job, query_id: str, pending: PendingObject) -> AsyncIterator[None]:
    """Heartbeats that say how far it is, beside the work."""
    beating = asyncio.create_task(_beat(job, query_id, pending))
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


async def _beat(job: _Job, query_id: str, pending: PendingObject) -> None:
    timeout = activity.info().heartbeat_timeout
    pause = timeout.total_seconds() / HEARTBEATS_PER_TIMEOUT if timeout else 5
    while True:
        activity.heartbeat({"partition": job.task.planned.partition, "bytes": pending.size})
        await asyncio.sleep(pause)
        # How far the server is, is worth knowing and not worth a partition: a user may not see system.processes.
        with contextlib.suppress(Fault, TimeoutError):
            # Not `wait_for`: in Python 3.11 it can swallow the cancellation that ends this task.
            async with asyncio.timeout(pause):
                rows = await job.clickhouse.rows_read(query_id)
            activity.heartbeat({"partition": job.task.planned.partition, "bytes": pending.size, "rows_read": rows})
