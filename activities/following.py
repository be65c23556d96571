"""Which tables' rows a capture passes on, and as what: as the log has them at the position where the capture is.

A table is passed on under the name by which it was installed. One that is renamed, or dropped and made anew, is
stopped: its changelog ends there, and what comes under the new name is passed on once that is installed.
"""

from collections.abc import Awaitable, Callable

import structlog
from opentelemetry import metrics

from activities.clients.capture_sink import FollowedTable, Stop
from activities.clients.catalogue import described, type_texts
from activities.clients.postgres import faults_of
from activities.clients.slots import Slots
from activities.core.capture import (
    Described,
    Shape,
    Transaction,
    agrees,
    from_relation,
    read_described,
    read_message,
    schema_line,
    shape_of,
    truncate_line,
)
from activities.core.faults import BadRequest
from activities.core.pgoutput import Message, Relation

log = structlog.get_logger("icefleet.capture")
_PASSED_OVER = metrics.get_meter("icefleet").create_counter(
    "icefleet.cdc.passed_over",
    unit="{transaction}",
    description="Transactions with rows of a published table that is not installed",
)
Name = tuple[str, str]


class Follower:
    """The tables of one capture; what changes here is kept with the events that changed it (`take_changes`)."""

    def __init__(
        self, pipeline: str, slot: str, source: Slots, load: Callable[[], Awaitable[dict[Name, FollowedTable]]]
    ) -> None:
        self._pipeline = pipeline
        self._slot = slot
        self._source = source
        self._load = load
        self._tables: dict[Name, FollowedTable] = {}
        self._known: dict[Name, Described] = {}
        self._relations: dict[int, Relation] = {}
        self._looked: dict[int, int] = {}
        self._passed_over: set[Name] = set()
        self._changed: dict[Name, Described] = {}
        self._stops: list[Stop] = []
        self.shapes: dict[int, Shape] = {}
        """How rows of a relation are written, by its oid; without those that are not passed on."""

    async def start(self) -> None:
        """Know the tables as the buffer does."""
        await self._load_tables()
        self._known = {name: table.captured for name, table in self._tables.items() if table.captured and table.told}

    async def _load_tables(self) -> None:
        """Of those that were uninstalled the buffer knows as well: they are carried to their ends, and not followed."""
        self._tables = {name: table for name, table in (await self._load()).items() if table.captured is not None}

    def take_changes(self) -> tuple[list[Described], list[Stop]]:
        """What is to be kept with the events that were given out since the last time."""
        changed, stops = list(self._changed.values()), self._stops
        self._changed, self._stops = {}, []
        return changed, stops

    async def relation(self, relation: Relation, transaction: Transaction) -> list[str]:
        """A table as it is from here on: its schema event, as a line, if it differs from what was known."""
        self._relations[relation.relid] = relation
        self.shapes.pop(relation.relid, None)
        name = (relation.schema, relation.name)
        self._renamed(relation.relid, name, transaction)
        if name not in self._tables:
            return []
        lines = self._made_anew(name, relation.relid, transaction)
        known = self._known.get(name)
        if known is None or not agrees(known, relation):
            # No message told of this: the source may not make event triggers, or had them switched off.
            known = await self._found(relation, known)
            lines += self._schema(known, transaction)
        self.shapes[relation.relid] = shape_of(known, relation)
        return lines

    async def message(self, message: Message, transaction: Transaction) -> list[str]:
        """What a source says of a table that was changed or installed: its schema event, as a line, if that is new."""
        try:
            told = read_message(message.content, self._slot)
        except BadRequest as unreadable:
            self._disbelieve(str(unreadable))
            return []
        if told is None:
            return []
        name = (told.table.schema, told.table.name)
        if (old := await self._contradicted(told.relid, name)) is not None:
            self._disbelieve(f"{'.'.join(old)} is said to be renamed or made anew, and the source has it as before")
            return []
        self._renamed(told.relid, name, transaction)
        if name not in self._tables:
            await self._load_tables()
        if name not in self._tables or self._known.get(name) == told:
            return []
        self.shapes.pop(told.relid, None)
        lines = [*self._made_anew(name, told.relid, transaction), *self._schema(told, transaction)]
        if (relation := self._relations.get(told.relid)) is not None and agrees(told, relation):
            self.shapes[told.relid] = shape_of(told, relation)
        return lines

    async def _contradicted(self, relid: int, name: Name) -> Name | None:
        """The table that a message says was renamed, or dropped and made anew, though the source has it as before.

        Should it have been so for a while, rows that came meanwhile tell.
        """
        for old, known in list(self._known.items()):
            differs = (old == name) != (known.relid == relid)
            if differs and await self._source.name_of(known.relid) == old:
                return old
        return None

    def _disbelieve(self, why: str) -> None:
        log.warning(
            "a message in the source's log is passed over",
            pipeline=self._pipeline,
            cause=why,
            way_out="see who writes under icefleet's prefix; take the right to pg_logical_emit_message from PUBLIC",
        )

    async def unknown(self, relid: int, transaction: Transaction) -> list[str]:
        """Look again, once in a transaction, whether a table was installed: `shapes` has it then."""
        if self._looked.get(relid) == transaction.lsn or relid not in self._relations:
            return []
        self._looked[relid] = transaction.lsn
        relation = self._relations[relid]
        name = (relation.schema, relation.name)
        if name not in self._tables:
            await self._load_tables()
            table = self._tables.get(name)
            if table is None:
                self._pass_over(name)
                return []
            if table.captured is not None and table.told:
                self._known[name] = table.captured
        return await self.relation(relation, transaction)

    def _pass_over(self, name: Name) -> None:
        _PASSED_OVER.add(1, {"pipeline": self._pipeline, "table": ".".join(name)})
        if name in self._passed_over:
            return  # said once in a turn: of a publication of all tables there may be thousands a second
        self._passed_over.add(name)
        log.warning(
            "changes of a table that is published and not installed are passed over",
            pipeline=self._pipeline,
            table=".".join(name),
            way_out=f"icefleet cdc install --tables {'.'.join(name)}",
        )

    def _made_anew(self, name: Name, relid: int, transaction: Transaction) -> list[str]:
        """Stop a table that was dropped and made anew: its rows have gone, which the line says that comes back."""
        known = self._known.get(name)
        if known is None or known.relid == relid:
            return []
        del self._known[name]
        self._stop(name, transaction, f"{'.'.join(name)} was dropped and made anew")
        return [truncate_line(known.table, transaction.place())]

    def _schema(self, table: Described, transaction: Transaction) -> list[str]:
        name = (table.table.schema, table.table.name)
        self._known[name] = self._changed[name] = table
        return [schema_line(table.table, transaction.place())]

    async def _found(self, relation: Relation, known: Described | None) -> Described:
        """A table of which only its rows tell: as the catalogue has it now if that agrees, else by names alone."""
        with faults_of(self._source.name):
            now = await described(self._source.connection, relation.relid)
            current = read_described(now) if now is not None else None
            same_name = current is not None and (current.table.schema, current.table.name) == (
                relation.schema,
                relation.name,
            )
            if current is not None and same_name and agrees(current, relation):
                return current
            types = [(column.type_id, column.modifier) for column in relation.columns]
            texts = await type_texts(self._source.connection, types)
        key = known or current
        return from_relation(relation, texts, key.table.key if key else ())

    def _renamed(self, relid: int, name: Name, transaction: Transaction) -> None:
        for old, known in list(self._known.items()):
            if known.relid == relid and old != name:
                del self._known[old]
                self._stop(old, transaction, f"{'.'.join(old)} was renamed to {'.'.join(name)}")

    def _stop(self, name: Name, transaction: Transaction, what: str) -> None:
        cause = (
            f"{what}; its changelog ends there. `icefleet cdc install --tables` with the name that it has now copies "
            "it and goes on; what had been captured before is still in the buffer"
        )
        self._stops.append(Stop(*name, transaction.lsn, cause))
        log.warning("a table is no longer followed", pipeline=self._pipeline, table=".".join(name), cause=cause)
