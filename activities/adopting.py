"""Adopting: published files become part of their table, page by page, without a byte of theirs being moved."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from activities import failpoints
from activities.abreast import each
from activities.clients.objectstore import ListedObject
from activities.committing import snapshot_summary, to_its_end
from activities.context import ExportContext
from activities.contracts.adopt import LISTED_REFUSALS, AdoptInput, AdoptPage, RefusedFile
from activities.contracts.export import table_identifier
from activities.core import empties, failing
from activities.core.adopting import DUPLICATE, ORPHAN, REPLACEMENT, UNREADABLE, VALUE, Places, Refusal
from activities.core.columns import ExportColumn, export_columns
from activities.core.commits import NewFile
from activities.core.direct import is_attempt
from activities.core.evolution import TableShape, Types, check_clashes
from activities.core.faults import ObjectRefused
from activities.core.objectkeys import table_prefix
from activities.core.orphans import line_of
from activities.core.partitions import Ranges, Span, label_of
from activities.core.publication import METADATA
from activities.core.query import SourceFacts, check_columns
from activities.core.tables import TableConfig
from activities.core.types import IcebergType
from activities.footers import stored_footer
from activities.lake.adopted import Judge, adopted_file
from activities.lake.commit import Commit, commit_files
from activities.lake.evolution import ensure_table, look_ahead
from activities.lake.files import existing_files
from activities.lake.footers import Ends, Footer, read_ends
from activities.lake.readable import type_of
from activities.lake.schema import shape_of
from activities.source import read_facts
from activities.surveys import Source

FOOTERS_AT_ONCE = 64
FILES_AT_ONCE = 2
LARGEST_READ = 64 * 2**20
"""Bytes of a file that is read whole, because its footer does not say what its partition spans."""


@dataclass(frozen=True)
class _Placed:
    """A file, and the partition that its key names."""

    index: int
    found: ListedObject
    refusal: Refusal | None
    """Why it is refused unless the table holds it already: a replacement."""


@dataclass(frozen=True)
class _Opened(_Placed):
    """The same with its footer, and what the columns span by which its table is planned."""

    footer: Footer
    known: Mapping[str, Ends] = field(default_factory=dict)


async def adopt_page(context: ExportContext, task: AdoptInput) -> AdoptPage:
    """Look at the next objects, as many as a plan may name partitions, and commit those that are right in one snapshot.

    Raises:
        BadRequest, BadConfig, PrivacyUndecided, SourceUnavailable …: the table cannot be made ready, as in an export.
        StoreUnavailable, CatalogUnavailable: nobody knows; the page can be done again.
    """
    config = context.table(task)
    clickhouse = context.find_source(config.source)
    facts = await read_facts(clickhouse, config)
    head = await Source(clickhouse, config, task.network, facts).head()
    places = Places.of(config, task.network, str(task.from_), str(task.to), int(time.time()), head)
    prefix = context.key(table_prefix(config, task.network))
    listed, more = await context.store.some_objects(prefix, after=task.cursor, limit=context.partitions_per_plan)
    page = _Page(context, task, config, facts)
    accepted = await page.judged(page.placed(listed, places))
    done = await page.commit(accepted) if accepted and not task.dry_run else None
    return page.report(accepted, done, listed[-1].key if more else "")


@dataclass(frozen=True)
class _Seen:
    """The table before anything is adopted."""

    shape: TableShape
    """As it is, or will be when it was made ready."""
    held: Mapping[int, str]
    """Partition → path of its file, of the partitions at hand."""
    line: int
    """Of its orphans; 0 when none was drawn."""


class _Page:
    """One page: what it is held against, and what was found."""

    def __init__(self, context: ExportContext, task: AdoptInput, config: TableConfig, facts: SourceFacts) -> None:
        self._context = context
        self._task = task
        self._config = config
        self._facts = facts
        self._identifier = table_identifier(task.network, task.table)
        self._extra: dict[str, IcebergType] = {}
        self._refused: list[RefusedFile] = []
        self._reasons: Counter[str] = Counter()
        self._lacking: Counter[str] = Counter()
        self._there = self._not_asked = 0

    def _passes(self, found: ListedObject, refusal: Refusal | None) -> bool:
        if refusal is None:
            return True
        self._reasons[refusal.reason] += 1
        if len(self._refused) < LISTED_REFUSALS:
            self._refused.append(RefusedFile(found.key, refusal.reason, refusal.why))
        return False

    def placed(self, listed: Iterable[ListedObject], places: Places) -> list[_Placed]:
        """The files whose keys name a partition that was asked for and may be there."""
        outer, found = self._context.key(""), []
        copies = self._context.key(table_prefix(self._config, self._task.network)) + METADATA
        for one in listed:
            if one.key.startswith(copies) or is_attempt(one.key):
                continue  # the public copy of the table's own metadata; what an export is about to move or has left
            index, refusal = places.find(one.key.removeprefix(outer))
            if refusal is None and index not in places.asked:
                self._not_asked += 1
            elif refusal is None or refusal.reason == REPLACEMENT or self._passes(one, refusal):
                found.append(_Placed(index, one, refusal))
        return found

    async def judged(self, files: list[_Placed]) -> list[_Opened]:
        """Those that are to become part of the table."""
        if not files:
            return []
        seen = await asyncio.to_thread(self._look_at_table, files)
        are_new = await each(lambda one: self._is_new(one, seen.held), files, FOOTERS_AT_ONCE)
        new = [one for one, is_new in zip(files, are_new, strict=True) if is_new]
        opened = [one for one in await each(self._open, new, FOOTERS_AT_ONCE) if one is not None]
        types = await asyncio.to_thread(self._with_extra, seen.shape.types, opened)
        judge = Judge(
            self._config,
            self._task.network,
            replace(seen.shape, types=types),
            self._facts.version_column,
            frozenset(self._task.unredacted),
        )
        sound = await asyncio.to_thread(self._sound, judge, opened, seen.line)
        known = [one for one in await each(lambda one: self._know(judge, one), sound, FILES_AT_ONCE) if one is not None]
        accepted = [one for one in known if self._passes(one.found, judge.second_look(one.index, one.known))]
        for one in accepted:
            self._lacking.update(types.keys() - set(one.footer.columns))
        return accepted

    def _sound(self, judge: Judge, opened: Sequence[_Opened], line: int) -> list[_Opened]:
        return [
            one for one in opened if self._passes(one.found, _orphan(one.footer, line) or judge.first_look(one.footer))
        ]

    def _look_at_table(self, files: list[_Placed]) -> _Seen:
        wanted: list[ExportColumn] = []

        def decide(shape: TableShape | None) -> tuple[ExportColumn, ...]:
            wanted[:] = self._columns(shape)
            return tuple(wanted)

        rule = self._config.partition
        table = look_ahead(self._context.lake, self._identifier, rule, decide)
        shape = shape_of(table)
        shape = replace(shape, types={**shape.types, **{column.name: column.iceberg for column in wanted}})
        if table is None:
            return _Seen(shape, {}, 0)
        indices = [one.index for one in files]
        there = existing_files(table, rule, "", Span(min(indices), max(indices) + 1))
        return _Seen(shape, {index: file.key for index, file in there.items()}, line_of(table.properties))

    def _columns(self, shape: TableShape | None) -> tuple[ExportColumn, ...]:
        columns = export_columns(self._config, self._facts.columns, shape)
        check_columns(self._config, self._facts)
        there = {column.name for column in columns} | set(shape.types if shape else ())
        return (*columns, *(ExportColumn(name, "", kind) for name, kind in self._extra.items() if name not in there))

    def _with_extra(self, types: Types, opened: Sequence[_Opened]) -> Types:
        """The table's types with the extra columns that were asked for, each as the first file has it.

        Raises:
            SchemaConflict: the name of one is another column's in all but letter case, or that of one that is gone.
        """
        for name in self._task.extra_columns:
            kinds = (type_of(one.footer, name) for one in opened)
            kind = next((kind for kind in kinds if kind is not None), None)
            if name not in types and kind is not None:
                self._extra[name] = kind
        if self._extra:
            check_clashes(self._config.name, types, self._extra)
            look_ahead(self._context.lake, self._identifier, self._config.partition, self._columns)
        return {**types, **self._extra}

    async def _is_new(self, one: _Placed, held: Mapping[int, str]) -> bool:
        path, own = held.get(one.index, ""), self._context.store.path(one.found.key)
        if path == own or (path and await self._is_ours(one)):
            self._there += 1  # itself, or what it replaced, or the copy of it that upkeep made
            return False
        if one.refusal is not None:
            return self._passes(one.found, one.refusal)
        label = label_of(self._config.partition, one.index)
        return not path or self._passes(one.found, Refusal(DUPLICATE, f"the table holds {label} with {path}"))

    async def _is_ours(self, one: _Placed) -> bool:
        stored = await self._context.store.head(one.found.key)
        return stored is not None and bool(stored.recipe)

    async def _open(self, one: _Placed) -> _Opened | None:
        try:
            return _Opened(
                one.index, one.found, None, await stored_footer(self._context, one.found.key, one.found.size)
            )
        except ObjectRefused as broken:
            self._passes(one.found, Refusal(UNREADABLE, str(broken)))
            return None

    async def _know(self, judge: Judge, one: _Opened) -> _Opened | None:
        """The same with what its columns span: by its footer, or, when that does not say it, by its rows."""
        known, untold = judge.told(one.footer)
        if untold and one.footer.size > LARGEST_READ:
            why = (
                f"its footer does not say what {', '.join(untold)} span, and it is read only up to {LARGEST_READ} bytes"
            )
            self._passes(one.found, Refusal(VALUE, why))
            return None
        if untold:
            body = await self._context.store.tail(one.found.key, one.footer.size)
            try:
                known |= await asyncio.to_thread(read_ends, one.found.key, body, untold)
            except ObjectRefused as broken:
                self._passes(one.found, Refusal(UNREADABLE, str(broken)))
                return None
        return replace(one, known=known)

    async def commit(self, accepted: list[_Opened]) -> Commit:
        """Make the table ready for what was accepted, and the files part of it."""
        context, rule = self._context, self._config.partition
        await asyncio.to_thread(ensure_table, context.lake, self._identifier, rule, self._columns)
        by_path = {context.store.path(one.found.key): one for one in accepted}
        files = [NewFile(one.index, path, "missing") for path, one in by_path.items()]
        held = Ranges.from_indices(one.index for one in accepted)

        def describe(table: Any, file: NewFile) -> Any:
            one = by_path[file.path]
            return adopted_file(table, rule, one.index, file.path, one.footer, one.known)

        def properties(before: Mapping[str, str]) -> dict[str, str]:
            changed: dict[str, str] = {}
            if text := before.get(empties.PROPERTY, ""):
                today = datetime.now(UTC).date()
                changed[empties.PROPERTY] = empties.remember_empty(text, Ranges.from_pairs(()), held, today)
            if text := before.get(failing.PROPERTY, ""):
                changed[failing.PROPERTY] = failing.remember_failing(text, rule, {}, held, time.time())
            return changed

        await failpoints.reach("before-commit")
        done = await to_its_end(
            commit_files,
            context.lake,
            self._identifier,
            rule,
            files,
            describe,
            summary=snapshot_summary(len(files)),
            properties=properties,
        )
        await failpoints.reach("after-commit")
        return done

    def report(self, accepted: list[_Opened], done: Commit | None, cursor: str) -> AdoptPage:
        """What was done, or, without a commit, what would be."""
        taken = {file.path for file in done.plan.files} if done else None
        adopted = [one for one in accepted if taken is None or self._context.store.path(one.found.key) in taken]
        return AdoptPage(
            cursor=cursor,
            snapshot_id=str(done.snapshot_id) if done and done.snapshot_id is not None else "",
            adopted=len(adopted),
            already_there=self._there + len(accepted) - len(adopted),
            rows=sum(one.footer.rows for one in adopted),
            bytes=sum(one.footer.size for one in adopted),
            not_asked=self._not_asked,
            refused=self._reasons.total(),
            reasons=dict(self._reasons),
            refusals=self._refused,
            lacking=dict(self._lacking),
        )


def _orphan(footer: Footer, line: int) -> Refusal | None:
    if footer.ours and footer.made < line:
        return Refusal(
            ORPHAN, f"icefleet made it at {footer.made}, and what no snapshot named at {line} is being deleted"
        )
    return None
