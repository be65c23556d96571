"""What a table's engine means for an export: whether rows collapse, by which version, and across which shards."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from activities.core.faults import BadConfig
from activities.core.sqltext import identifiers_in, split_call, split_list, unquote

_REPLICATION = ("Replicated", "Shared")
_VERSION_AT = {"ReplacingMergeTree": 0, "VersionedCollapsingMergeTree": 1}
"""Position of the version among an engine's own arguments; CollapsingMergeTree's sign is no version."""
_MARK_AT = {"ReplacingMergeTree": 1, "VersionedCollapsingMergeTree": 0}
"""Position of what has FINAL take a row away together with its newest version: a mark of deletion, or a sign."""
_COLLAPSING = frozenset(
    {
        "ReplacingMergeTree",
        "CollapsingMergeTree",
        "VersionedCollapsingMergeTree",
        "SummingMergeTree",
        "AggregatingMergeTree",
        "CoalescingMergeTree",
        "GraphiteMergeTree",
    }
)
_PASSING_ON = frozenset({"Buffer", "Distributed", "MaterializedView", "Merge"})
"""Engines that hold no rows of their own, or not all: what is behind them may collapse, and they do not say so."""
_DISTRIBUTED_ARGUMENTS = 3
_UNREPEATABLE = frozenset(
    {
        "rand",
        "rand32",
        "rand64",
        "randconstant",
        "randcanonical",
        "generateuuidv4",
        "generateuuidv7",
        "generateulid",
        "generatesnowflakeid",
        "now",
        "now64",
        "today",
        "rownumberinblock",
        "rownumberinallblocks",
    }
)


@dataclass(frozen=True)
class Distributed:
    """Where a Distributed table looks; `sharding_key` is empty when writers choose the shard themselves."""

    cluster: str
    database: str
    table: str
    sharding_key: str


def read_engine(engine: str, engine_full: str) -> tuple[bool, str]:
    """Whether a table needs FINAL, and the column whose newest value wins ("" when there is none).

    Args:
        engine: `system.tables.engine`.
        engine_full: `system.tables.engine_full`, such as `ReplicatedReplacingMergeTree('…', '…', updated) ORDER BY …`.
    """
    own, arguments = _own(engine, engine_full)
    if own not in _COLLAPSING:
        return False, ""
    position = _VERSION_AT.get(own)
    if position is None or position >= len(arguments):
        return True, ""
    return True, unquote(arguments[position])


def newest_may_go(engine: str, engine_full: str, sorting_key: Sequence[str], partition_column: str) -> bool:
    """Whether FINAL may take away the row that holds the newest version of a partition, with that version.

    So it is where rows are taken away altogether (marked as deleted, or cancelled), and where the next version of a
    row may lie in another partition, since its sorting key does not say in which.
    """
    own, arguments = _own(engine, engine_full)
    if _MARK_AT.get(own, len(arguments)) < len(arguments):
        return True
    return partition_column not in map(unquote, sorting_key)


def _own(engine: str, engine_full: str) -> tuple[str, list[str]]:
    """An engine without what replicates it, and its own arguments."""
    own = engine
    for prefix in _REPLICATION:
        own = own.removeprefix(prefix)
    call = split_call(engine_full)
    arguments = list(call.arguments or ()) if call else []
    if own != engine:
        # Path and replica name come first, when they are not left to the server's defaults.
        while arguments and arguments[0].startswith("'"):
            arguments.pop(0)
    return own, arguments


def read_distributed(engine_full: str) -> Distributed:
    """The parts of `Distributed('cluster', 'database', 'table'[, sharding key[, 'policy']])`.

    Raises:
        BadConfig: The text is no such engine.
    """
    call = split_call(engine_full)
    arguments = call.arguments if call and call.name == "Distributed" else None
    if arguments is None or len(arguments) < _DISTRIBUTED_ARGUMENTS:
        raise BadConfig(f"{engine_full!r} is not a Distributed engine: name the local table in config instead")
    cluster, database, table = (unquote(argument) for argument in arguments[:_DISTRIBUTED_ARGUMENTS])
    sharding_key = arguments[_DISTRIBUTED_ARGUMENTS] if len(arguments) > _DISTRIBUTED_ARGUMENTS else ""
    return Distributed(cluster, database, table, sharding_key)


def check_holder(table: str, engine: str) -> None:
    """Refuse an engine behind which nobody sees whether rows collapse; a Distributed table is looked through before.

    Raises:
        BadConfig: It is one, and FINAL might be needed.
    """
    wrong, way_out = holder_problem(engine)
    if wrong:
        raise BadConfig(f"{table}: {wrong}; {way_out}")


def holder_problem(engine: str) -> tuple[str, str]:
    """What `check_holder` refuses, and the way out; both empty when there is nothing to refuse."""
    if engine not in _PASSING_ON:
        return "", ""
    wrong = (
        f"its rows lie behind an engine {engine}, which does not say whether they collapse, so duplicates might stay"
    )
    return wrong, "name the table that holds them, or a view that reads it, with FINAL if it needs that"


def sorting_expressions(sorting_key: str) -> tuple[str, ...]:
    """The expressions of `system.tables.sorting_key`."""
    return split_list(sorting_key)


def check_sharding(
    table: str,
    sharding_key: str,
    sorting_key: Sequence[str],
    column_names: Collection[str],
    follows: Mapping[str, str] | None = None,
) -> None:
    """Refuse a cluster on which FINAL would keep duplicates: versions of one row must live on one shard.

    They do when everything that the sharding expression looks at is a bare column of the sorting key, or follows one:
    `follows` names the column that decides another's value, which no schema says. An empty sharding key says nothing
    (writers place the rows), and passes.

    Raises:
        BadConfig: The expression uses another column, or is not repeatable (`rand()`).
    """
    wrong, way_out = sharding_problem(sharding_key, sorting_key, column_names, follows or {})
    if wrong:
        raise BadConfig(f"{table}: {wrong}; {way_out}")


def sharding_problem(
    sharding_key: str, sorting_key: Sequence[str], column_names: Collection[str], follows: Mapping[str, str]
) -> tuple[str, str]:
    """What `check_sharding` refuses, and the way out; both empty when there is nothing to refuse."""
    if sharding_key.strip() in sorting_key:
        return "", ""
    names, functions = identifiers_in(sharding_key)
    repeating = [name for name in functions if name.lower() in _UNREPEATABLE]
    if repeating:
        return (
            f"rows are sharded by {sharding_key}, and {repeating[0]}() puts versions of one row on different "
            "shards, where FINAL cannot collapse them"
        ), "shard by columns of the sorting key"
    keys = {unquote(expression) for expression in sorting_key}
    outside = [
        name for name in names if name in column_names and name not in keys and follows.get(name, name) not in keys
    ]
    if outside:
        return (
            f"rows are sharded by {sharding_key}, but {', '.join(outside)} is not in the sorting key "
            f"({', '.join(sorting_key)}), so versions of one row may lie on different shards, where FINAL cannot "
            "collapse them"
        ), (
            "shard by columns of the sorting key, or name the column of it that decides the other one under "
            "sharding_follows"
        )
    return "", ""
