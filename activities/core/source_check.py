"""A source held against config: everything that would keep its tables from being exported, all of it at once."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from activities.core.columns import SourceColumn, check_chunks, export_column, missing_columns, undecided
from activities.core.engines import (
    Distributed,
    holder_problem,
    read_distributed,
    read_engine,
    sharding_problem,
    sorting_expressions,
)
from activities.core.faults import BadConfig, UnsupportedType
from activities.core.query import SourceFacts, check_partition_column, check_version_column
from activities.core.tables import TableConfig
from activities.core.types import parse_type

_OTHER_TYPE = "convert the column at the source, or choose another type for it under types"


@dataclass(frozen=True)
class SourceTable:
    """A table as `system.tables` and `system.columns` describe it; its columns are those that can be selected."""

    database: str
    name: str
    engine: str
    engine_full: str
    sorting_key: str
    columns: tuple[SourceColumn, ...]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a table, or (`column`) with one of its columns, and the way out.

    What concerns the source as a whole has neither.
    """

    table: str
    column: str
    problem: str
    way_out: str

    def __str__(self) -> str:
        where = f"{self.table} {self.column}" if self.column else self.table
        return f"{where + ': ' if where else ''}{self.problem}; {self.way_out}"


Tables = Mapping[tuple[str, str], SourceTable]
"""(database, name) → table."""


def behind(table: SourceTable) -> Distributed | None:
    """Where a Distributed table looks; None for one that holds its rows itself.

    Raises:
        BadConfig: The engine's text cannot be read.
    """
    if table.engine != "Distributed":
        return None
    found = read_distributed(table.engine_full)
    return replace(found, database=found.database or table.database)


def check_source(configs: Sequence[TableConfig], tables: Tables) -> list[Finding]:
    """Everything in which the source and config disagree, in the order of `configs`.

    Args:
        configs: The tables that are to be exported from this source.
        tables: What the source has: those tables, and those behind them that are Distributed.
    """
    wanted = {(config.database, config.name) for config in configs}
    spare = [key for key in tables if key not in wanted]
    findings: list[Finding] = []
    for config in configs:
        table = tables.get((config.database, config.name))
        findings += _missing_table(config, spare) if table is None else _check_table(config, table, tables)
    return findings


def _missing_table(config: TableConfig, spare: Sequence[tuple[str, str]]) -> list[Finding]:
    names = [name for database, name in spare if database == config.database]
    close = difflib.get_close_matches(config.name, names, n=1, cutoff=0.8)
    elsewhere = [database for database, name in spare if name == config.name]
    hint = f"is it `{close[0]}`? " if close else f"is it in `{elsewhere[0]}`? " if elsewhere else ""
    return [
        Finding(
            config.name,
            "",
            f"the source {config.source} has no table {config.database}.{config.name} that this user may see",
            f"{hint}mend name or database in tables.yaml, grant the user its rights, or say `enabled: false`",
        )
    ]


def _check_table(config: TableConfig, table: SourceTable, tables: Tables) -> Iterator[Finding]:
    names = [column.name for column in table.columns]
    for what, name in missing_columns(config, table.columns):
        close = difflib.get_close_matches(name, names, n=1)
        way_out = f"is it `{close[0]}`? correct the name in config" if close else "correct the name in config"
        yield Finding(config.name, name, f"the {what} does not exist at the source", way_out)
    for name in dict.fromkeys(name for pair in config.sharding_follows.items() for name in pair):
        if name not in names:
            problem = "sharding_follows names it, and it does not exist at the source"
            yield Finding(config.name, name, problem, "correct the name in config")
    yield from _check_columns(config, table.columns)
    yield from _check_engine(config, table, tables)


def _check_columns(config: TableConfig, columns: Sequence[SourceColumn]) -> Iterator[Finding]:
    for column in columns:
        try:
            parse_type(column.type)
            for name in undecided(config, [column]):
                yield Finding(
                    config.name,
                    name,
                    f"it may say who or where somebody is ({column.type}), and nobody decided",
                    "name it under redacted_columns (or in a set that the table redacts), or under allowed_columns",
                )
            exported = export_column(config, column)
        except (UnsupportedType, BadConfig) as wrong:
            # The cause has not been told yet which table and column it is about.
            yield _finding(config, column.name, wrong.__cause__ or wrong, _OTHER_TYPE)
            continue
        try:
            check_chunks(config, exported)
        except BadConfig as wrong:
            yield _finding(config, column.name, wrong, _OTHER_TYPE)


def _check_engine(config: TableConfig, table: SourceTable, tables: Tables) -> Iterator[Finding]:
    """Where the rows are, and whether FINAL and the plan's queries can be right there."""
    try:
        distributed = behind(table)
    except BadConfig as wrong:
        yield _finding(config, "", wrong, "name the local table in config instead")
        return
    holder, names = table, [column.name for column in table.columns]
    if distributed is not None:
        local = tables.get((distributed.database, distributed.table))
        if local is None:
            place = f"{distributed.database}.{distributed.table}"
            way_out = "make that table, or grant the user its rights"
            yield Finding(config.name, "", f"it looks into {place}, which this user cannot see", way_out)
            return
        holder = local
        for name in names:
            if name not in {column.name for column in local.columns}:
                problem = f"{local.database}.{local.name}, where the rows are, has no such column: no query can read it"
                yield Finding(config.name, name, problem, "add it there, or drop it from the Distributed table")
    problem, way_out = holder_problem(holder.engine)
    if problem:
        yield Finding(config.name, "", problem, way_out)
    final, version = read_engine(holder.engine, holder.engine_full)
    sorting_key = sorting_expressions(holder.sorting_key)
    if final and distributed is not None:
        problem, way_out = sharding_problem(distributed.sharding_key, sorting_key, names, config.sharding_follows)
        if problem:
            yield Finding(config.name, "", problem, way_out)
    yield from _check_roles(config, SourceFacts(table.columns, final, sorting_key, version))


def _check_roles(config: TableConfig, facts: SourceFacts) -> Iterator[Finding]:
    """Whether queries can cut by the partition column, and tell new rows from old by the version column."""
    there = {column.name for column in facts.columns}
    roles = (
        (config.partition.column, check_partition_column, config.partition.column in there),
        (facts.version_column, check_version_column, True),
    )
    for name, check, worth_it in roles:
        try:
            if worth_it:
                check(config, facts)
        except UnsupportedType:
            continue  # said of the column already
        except BadConfig as wrong:
            yield _finding(config, name, wrong, "correct it in config or at the source")


def _finding(config: TableConfig, column: str, wrong: BaseException, way_out: str) -> Finding:
    """What a fault says, without the table that it names first; its own way out, if it has one."""
    text = str(wrong).removeprefix(f"{config.name}: ")
    problem, _, own = text.partition("; ")
    if not own:
        problem, _, own = text.partition(": ")
    return Finding(config.name, column, problem, own or way_out)
