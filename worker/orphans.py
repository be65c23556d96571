"""Looking for the orphans of an environment's tables, without touching anything."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from activities.contracts.export import table_identifier
from activities.core.tables import TableConfig
from activities.orphans import TableOrphans
from worker.config import Settings
from worker.lake import open_lake
from worker.parts import open_store


@dataclass(frozen=True)
class FoundOrphan:
    """Something that no snapshot of its table names."""

    table: str
    """`<network>.<table>`."""
    key: str
    bytes: int
    """Of an unfinished upload: what it holds so far."""
    last_modified: str
    """ISO 8601, in UTC, by the store's clock; of an unfinished upload: when it was begun."""
    kind: str
    """`data object`, `unfinished upload` or `metadata`."""


async def find_orphans(
    settings: Settings,
    name: str,
    tables: Iterable[tuple[TableConfig, str]],
    *,
    older_than: int = 0,
    metadata: bool = False,
) -> AsyncGenerator[FoundOrphan | None, None]:
    """The orphans of tables and their networks that are older than so many seconds; None for each that is not ours."""
    environment = settings.environment(name)
    ours = {table_identifier(network, config.name) for config, network in settings.exports(name)}
    lake = open_lake(environment)
    async with open_store(environment) as store:
        line = await store.now() - older_than if older_than else 0
        for config, network in tables:

            def is_ours(table: str, network: str = network) -> bool:
                return table_identifier(network, table) in ours

            orphans = TableOrphans(store, lake, config, network, environment.storage.prefix, is_ours)
            async with aclosing(orphans.all(metadata=metadata)) as every:
                async for orphan in every:
                    found = orphan.found
                    if orphan.foreign:
                        yield None
                    elif not older_than or found.made < line:
                        made = datetime.fromtimestamp(found.made, UTC).isoformat()
                        yield FoundOrphan(orphan.table, found.key, found.size, made, orphan.kind)
