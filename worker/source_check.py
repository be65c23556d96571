"""Asking the live sources of an environment whether they are what config takes them for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from activities.clients.clickhouse import ClickHouse
from activities.core.columns import SourceColumn
from activities.core.direct import GUIDE, is_answer, probe_query, probed
from activities.core.faults import BadConfig, Fault, SourceRefused, SourceUnavailable
from activities.core.query import PINNED_SETTINGS, Query
from activities.core.source_check import Finding, SourceTable, behind, check_source
from activities.core.source_load import SERVER_FENCES, USER_FENCES, Allowed, Load, check_load
from activities.core.tables import TableConfig
from worker.clickhouse import named_collection, open_clickhouse, query_limits
from worker.config import Environment, Settings

_TABLES = "SELECT database, name, engine, engine_full, sorting_key FROM system.tables WHERE database IN ({})"
_COLUMNS = (
    "SELECT database, table, name, type FROM system.columns WHERE database IN ({}) "
    "AND default_kind NOT IN ('ALIAS', 'MATERIALIZED', 'EPHEMERAL') ORDER BY database, table, position"
)
_SETTINGS = "SELECT name, value, min, max, readonly FROM system.settings WHERE name IN ({})"
_SERVER = "SELECT name, value FROM system.server_settings WHERE name IN ({})"
COMMENT = "icefleet config check"

Tables = dict[tuple[str, str], SourceTable]


@dataclass(frozen=True)
class SourceReport:
    """What is wrong with one source, `<environment>.<cluster>`."""

    source: str
    tables: int
    """How many tables config takes from it."""
    findings: list[Finding] = field(default_factory=list)
    unreachable: str = ""
    """Why nothing could be asked; empty when everything was."""

    @property
    def ok(self) -> bool:
        """Whether it was reached, and nothing is wrong."""
        return not (self.findings or self.unreachable)


async def check_sources(settings: Settings, environment: str) -> list[SourceReport]:
    """Hold every source of an environment against config: four or five queries each, whatever the number of tables.

    A source that cannot be asked is reported, and the others are checked all the same.

    Raises:
        BadRequest: there is no such environment.
    """
    by_source: dict[str, dict[str, TableConfig]] = {}
    for config, _ in settings.exports(environment):
        by_source.setdefault(config.source, {})[config.name] = config
    written = settings.environments[environment]
    return [await _check(settings, source, list(configs.values()), written) for source, configs in by_source.items()]


async def _check(
    settings: Settings, source: str, configs: Sequence[TableConfig], environment: Environment
) -> SourceReport:
    findings: list[Finding] = []
    try:
        load = _load(settings, source)
        clickhouse = open_clickhouse(settings, source)
        try:
            # First, since all else is asked with our settings, which the source may not allow.
            findings += check_load(load, await _allowed(clickhouse, load), await _server(clickhouse))
            if collection := named_collection(environment):
                findings += await _collection(clickhouse, source, collection, environment.storage.bucket)
            tables = await _read(clickhouse, configs)
        finally:
            await clickhouse.close()
    except Fault as fault:
        return SourceReport(source, len(configs), findings, unreachable=str(fault))
    return SourceReport(source, len(configs), [*findings, *check_source(configs, tables)])


async def _collection(clickhouse: ClickHouse, source: str, name: str, bucket: str) -> list[Finding]:
    """What is wrong with the named collection by which the source is to write files itself."""
    wrong = ""
    try:
        await clickhouse.rows_as_is(probe_query(name), comment=COMMENT)
    except SourceRefused as refused:
        wrong = f"is not there, or this user may not use it: {refused}"
    except SourceUnavailable as failed:
        if not is_answer(failed):
            raise
        wrong = probed(str(failed), bucket)
    problem = f"the named collection {name!r} at the source {source} {wrong}"
    return [Finding("", "", problem, f"mend it there, or storage.named_collection; {GUIDE}")] if wrong else []


def _load(settings: Settings, source: str) -> Load:
    cluster = settings.cluster(source)
    workers, limits = settings.workers(source), query_limits(cluster)
    return Load(source, workers, cluster.export_slots, cluster.lookup_slots, limits)


async def _allowed(clickhouse: ClickHouse, load: Load) -> dict[str, Allowed]:
    """The user's own settings: those that bound its queries, and those that ours send."""
    query = _named(_SETTINGS, ["readonly", *USER_FENCES, *load.limits, *PINNED_SETTINGS])
    rows = await clickhouse.rows_as_is(query, comment=COMMENT)
    return {row["name"]: Allowed(row["value"], row["min"], row["max"], bool(row["readonly"])) for row in rows}


async def _server(clickhouse: ClickHouse) -> dict[str, str]:
    """The server's own bounds; nothing when this user may not see them, or the server has no such table yet."""
    try:
        rows = await clickhouse.rows_as_is(_named(_SERVER, SERVER_FENCES), comment=COMMENT)
    except SourceRefused:
        return {}
    return {row["name"]: row["value"] for row in rows}


def _named(text: str, values: Sequence[str]) -> Query:
    """A query over `values`, which travel as parameters."""
    names = {f"name{number}": value for number, value in enumerate(values)}
    return Query(text.format(", ".join(f"{{{name}:String}}" for name in names)), dict(names))


async def _read(clickhouse: ClickHouse, configs: Sequence[TableConfig]) -> Tables:
    """Every table of the databases that config names, and of those in which their Distributed tables look."""
    databases = {config.database for config in configs}
    tables = await _read_databases(clickhouse, sorted(databases))
    elsewhere: set[str] = set()
    for config in configs:
        table = tables.get((config.database, config.name))
        elsewhere |= _looks_into(table) if table is not None else set()
    if further := sorted(elsewhere - databases):
        tables |= await _read_databases(clickhouse, further)
    return tables


def _looks_into(table: SourceTable) -> set[str]:
    try:
        distributed = behind(table)
    except BadConfig:
        return set()  # the check says so
    return {distributed.database} if distributed is not None else set()


async def _read_databases(clickhouse: ClickHouse, databases: Sequence[str]) -> Tables:
    columns: dict[tuple[str, str], list[SourceColumn]] = {}
    for row in await clickhouse.rows(_named(_COLUMNS, databases), comment=COMMENT):
        columns.setdefault((row["database"], row["table"]), []).append(SourceColumn(row["name"], row["type"]))
    return {
        (row["database"], row["name"]): SourceTable(
            database=row["database"],
            name=row["name"],
            engine=row["engine"],
            engine_full=row["engine_full"],
            sorting_key=row["sorting_key"],
            columns=tuple(columns.get((row["database"], row["name"]), ())),
        )
        for row in await clickhouse.rows(_named(_TABLES, databases), comment=COMMENT)
    }
