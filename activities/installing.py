"""Setting up what a capture needs. Every step may be done again where it was done.

The order is what leaves no gap: trigger, publication, slot; then each table is published, while nobody writes to it,
and only then waits for its copy, which begins at a later position of the log.
"""

from dataclasses import dataclass, replace

from activities import failpoints
from activities.cdc_context import CaptureFrom, CdcContext, PipelineConfig
from activities.clients.buffer import Buffer
from activities.clients.capture_sink import FollowedTable, Sink, open_sink
from activities.clients.catalogue import (
    TableFacts,
    described,
    is_buffer,
    no_table,
    relation_id,
    split_name,
    table_facts,
    table_names,
    told_table,
)
from activities.clients.new_slots import Name, begin_slot, slot_begun
from activities.clients.postgres import faults_of
from activities.clients.publications import STORED_COLUMNS, Source
from activities.clients.slots import INSTALL, Slots, leaves_out, open_slots
from activities.clients.waits import waiting_for
from activities.contracts.cdc import (
    InstalledTable,
    InstallReport,
    InstallRequest,
)
from activities.core.capture import read_described
from activities.core.changelogs import changelog_name
from activities.core.drift import first_columns
from activities.core.faults import BadConfig, BadRequest, PostgresRefused, SlotLost
from activities.uninstalling import take_away


@dataclass(frozen=True)
class _Wanted:
    """A table that is to be followed."""

    schema: str
    name: str
    changelog: str
    facts: TableFacts
    identity: str
    note: str

    @property
    def identifier(self) -> str:
        return f"{self.schema}.{self.name}"


async def install_capture(context: CdcContext, request: InstallRequest) -> InstallReport:
    """Make the buffer and, for tables of the source, all that is needed to copy and follow them.

    Raises:
        BadRequest: a table that is not there, or cannot be followed.
        BadConfig: two tables would have one changelog, or a column the name of one of ours.
        PostgresRefused: a database says no: `wal_level`, rights, a slot that is somebody else's.
        PostgresUnavailable: a database is away, or a table was locked for long.
        LockTaken: the slot that is to be made anew is being read.
        SlotLost: the slot is gone, and the request does not say `again`.
    """
    pipeline = context.pipeline(request.environment, request.pipeline)
    buffer = Buffer(pipeline.buffer, pipeline.buffer_schema)
    source = pipeline.source
    if source is None or not (request.tables or request.again):
        if source is None and request.tables:
            raise BadRequest(
                f"pipeline {pipeline.name} has no `source` in environments.yaml, so its tables are whatever others "
                "write into the buffer; leave out the tables, or give it a source"
            )
        await buffer.install()
        return InstallReport(message="the buffer is ready for producers of your own")
    async with open_slots(source.database) as slots:
        await slots.check_server()
        with faults_of(source.database.name):
            names = dict.fromkeys([await split_name(slots.connection, text) for text in request.tables])
            found = [await _wanted(slots, pipeline, request, *name) for name in names]
        await buffer.install()
        await failpoints.reach("install-after-buffer")
        async with open_sink(pipeline.buffer, pipeline.buffer_schema) as sink:
            # Or two that make a slot would each take away that of the other, and what tables need that were installed.
            with waiting_for(f"other installations of pipeline {pipeline.name}"):
                await sink.install_alone()
            return await _Installation(pipeline, source, request, slots, sink).run(found)


class _Installation:
    """One installation, once the buffer is there and every name was found."""

    def __init__(
        self, pipeline: PipelineConfig, source: CaptureFrom, request: InstallRequest, slots: Slots, sink: Sink
    ) -> None:
        self._pipeline = pipeline
        self._config = source
        self._request = request
        self._slots = slots
        self._sink = sink
        self._source = Source(slots.connection, source.slot, source.publication)
        self._removed: list[str] = []
        """What the pipeline had under the name of another slot."""

    async def run(self, wanted: list[_Wanted]) -> InstallReport:
        known = await self._sink.tables()
        with faults_of(self._slots.name):
            # Only `again` has all tables copied: else one that cannot go on would keep others from being installed.
            followed = [
                await _wanted(self._slots, self._pipeline, self._request, *name)
                for name in (await self._still_there(known) if self._request.again else [])
            ]
            _check_clashes(self._pipeline, wanted, known)
            trigger = await self._source.install_trigger()
            await failpoints.reach("install-after-trigger")
            publication_id = await self._source.make_publication()
            await failpoints.reach("install-after-publication")
        names = {(one.schema, one.name) for one in [*wanted, *followed]}
        installed = any(table.captured for table in known.values())
        fresh = await self._ready_slot(publication_id, sorted(names), installed=installed)
        # After a slot that was lost every table lacks changes; and `again` without names means all.
        asked = {one.identifier for one in wanted}
        more = followed if fresh or not wanted else []
        wanted += [one for one in more if one.identifier not in asked]
        tables = [await self._follow(one, known.get((one.schema, one.name)), fresh=fresh) for one in wanted]
        return InstallReport(
            message=_told(self._pipeline, tables, self._removed),
            slot=self._config.slot,
            publication=self._config.publication,
            schema_events="trigger" if trigger else "relations",
            tables=tables,
        )

    async def _still_there(self, known: dict[tuple[str, str], FollowedTable]) -> list[tuple[str, str]]:
        return [
            name
            for name, table in known.items()
            if table.captured is not None and await relation_id(self._slots.connection, *name) is not None
        ]

    async def _ready_slot(self, publication_id: int, names: list[Name], *, installed: bool) -> bool:
        """Whether the slot was made now: then nothing is known of what was changed before, in tables of these names."""
        before = (await self._sink.progress()).captured_lsn
        slot = self._config.slot
        lost = ""
        try:
            state = await self._slots.state(slot)
            there = state is not None
        except SlotLost as gone:
            state, there, lost = None, True, str(gone)
        # A capture may be moving both on: the slot was between where the buffer was before that look and after it.
        progress = await self._sink.progress()
        if there and progress.slot != slot:
            raise PostgresRefused(
                f"{self._slots.name}: there is a slot {slot} already, and this buffer was not filled from it; give the "
                "pipeline another `slot`, or drop that one with pg_drop_replication_slot"
            )
        captured = progress.captured_lsn
        if state is not None and before is not None and captured is not None and not progress.ended:
            is_there = state.confirmed_lsn <= captured and before <= state.log_lsn
            if is_there and progress.publication_id == publication_id:
                return False
            lost = "it is not where the buffer is, or the publication was made anew"
        if installed and not self._request.again:
            raise SlotLost(
                f"{self._slots.name}: slot {slot} is lost ({progress.ended or lost or 'there is none'}), and with it "
                f"changes; {INSTALL}"
            )
        # The buffer names a slot until it is gone: whoever comes after a crash would not know of it otherwise.
        for known in dict.fromkeys(name for name in (progress.slot, slot) if name):
            await begin_slot(self._sink, known, publication_id, names)
            await failpoints.reach("install-before-drop")
            if known == slot:
                await self._slots.drop(slot)
            else:
                publication = "" if known == self._config.publication else known
                self._removed += await take_away(self._slots, known, publication)
        await failpoints.reach("install-before-slot")
        position = await self._slots.create(slot)
        await failpoints.reach("install-after-slot")
        await slot_begun(self._sink, position, names)
        await failpoints.reach("install-after-begin")
        return True

    async def _follow(self, table: _Wanted, known: FollowedTable | None, *, fresh: bool) -> InstalledTable:
        with faults_of(self._slots.name):
            published = await self._source.published()
            if published.get(table.facts.relid):
                raise leaves_out(table.identifier, self._config.publication)
            new = table.facts.relid not in published
            told = await self._source.publish(table.schema, table.name, table.facts, table.identity, new=new)
        await failpoints.reach("install-after-publish")
        captured = known.captured if known is not None else None
        other = captured is None or captured.relid != table.facts.relid
        copying = fresh or new or other or self._request.again
        state, cause = await self._sink.register(read_described(told), copying=copying)
        await failpoints.reach("install-after-table")
        return InstalledTable(
            table=table.identifier,
            changelog=table.changelog,
            key_columns=list(told["key"]),
            identity=table.identity,
            state=state,
            note="; ".join(text for text in (table.note, cause) if text),
        )


async def _wanted(slots: Slots, pipeline: PipelineConfig, request: InstallRequest, schema: str, name: str) -> _Wanted:
    relid = await relation_id(slots.connection, schema, name)
    told = None if relid is None else await described(slots.connection, relid)
    if relid is None or told is None:
        raise no_table(schema, name, await table_names(slots.connection))
    if await is_buffer(slots.connection, schema):
        raise BadRequest(
            f"source table {schema}.{name} is one of a pipeline's buffer: whatever is captured changes it, so that its "
            "capture would never come to an end; leave it out"
        )
    facts = await table_facts(slots.connection, relid)
    _check_kind(f"{schema}.{name}", facts)
    first_columns(told_table(told), pipeline.rules, "")
    identity = _identity(facts, full=request.full_identity)
    version = slots.connection.info.server_version
    if identity == "full" and facts.computed and version >= STORED_COLUMNS:
        raise BadRequest(
            f"source table {schema}.{name}: with whole old rows logged PostgreSQL refuses updates and deletes of "
            "tables with virtual generated columns; give it a primary key and leave out full_identity, or make these "
            "columns STORED"
        )
    wanted = _Wanted(schema, name, changelog_name(pipeline.rules, schema, name), facts, identity, "")
    return replace(wanted, note=_note(wanted, told["key"]))


def _told(pipeline: PipelineConfig, tables: list[InstalledTable], removed: list[str]) -> str:
    message = f"{len(tables)} tables are followed"
    if removed:
        message += f"; of the slot before this one was removed: {', '.join(removed)}"
    copied = sum(table.state == "copying" for table in tables)
    if not copied:
        return message
    return (
        f"{message}; {copied} of them are copied first, and what changes in these meanwhile stays in the buffer: "
        f"beyond max_events, {pipeline.buffer_max_events}, or max_bytes, {pipeline.buffer_max_bytes}, the capture "
        "waits, and the source keeps its log up to max_retained_wal_bytes, where the slot is lost"
    )


def _check_kind(table: str, facts: TableFacts) -> None:
    wrong = ""
    if facts.kind not in "rp":
        wrong = "is no table, and only changes of tables are logged; name the tables behind it"
    elif facts.partition:
        wrong = "is a partition; name the partitioned table, under which its rows are logged"
    elif facts.persistence != "p":
        wrong = "is unlogged or temporary, so its changes are not logged; ALTER TABLE … SET LOGGED"
    if wrong:
        raise BadRequest(f"source table {table} {wrong}")


def _identity(facts: TableFacts, *, full: bool) -> str:
    """What is to be logged of old rows: their keys where there are any, unless somebody wants more."""
    if full or facts.identity == "full" or not (facts.has_key or facts.identity == "index"):
        return "full"
    return "index" if facts.identity == "index" else "default"


def _note(table: _Wanted, key: list[str]) -> str:
    notes = []
    if not key:
        notes.append("it has no key (or only a deferrable one): rows of its changelog cannot be told apart")
    if table.facts.kind == "p":
        notes.append(
            "a partition that is truncated, detached or dropped by itself, or attached with rows, is not logged"
        )
        if table.identity == "full":
            notes.append("set REPLICA IDENTITY FULL on partitions that are made later")
    if table.facts.computed:
        notes.append("virtual generated columns are left out")
    return "; ".join(notes)


def _check_clashes(
    pipeline: PipelineConfig, wanted: list[_Wanted], known: dict[tuple[str, str], FollowedTable]
) -> None:
    owners: dict[str, str] = {}
    for schema, name in [(one.schema, one.name) for one in wanted] + list(known):
        changelog, table = changelog_name(pipeline.rules, schema, name), f"{schema}.{name}"
        if owners.setdefault(changelog, table) != table:
            raise BadConfig(
                f"source tables {owners[changelog]} and {table} would both have the changelog {changelog}; change "
                f"`name` of pipeline {pipeline.name} so that it tells them apart"
            )
