"""A file that is cut from a query of several partitions is the one that a query of its own would have made."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from activities.core.columns import export_columns
from activities.core.faults import UnsupportedType
from activities.core.partitions import Ranges, index_of
from activities.core.query import export_query, together_query
from activities.lake.cutting import cut
from activities.source import read_facts
from support.fleet import Fleet
from support.typetables import DAYS

PARTITIONS = [f"2024-03-{18 + day}" for day in range(DAYS)]


async def both_ways(fleet: Fleet, table: str) -> tuple[list[Any], list[Any]]:
    """The files of a table's partitions, as ClickHouse makes them and as they are cut."""
    async with fleet.worker() as context:
        config = context.find_table(table, fleet.network)
        clickhouse = context.find_source(config.source)
        facts = await read_facts(clickhouse, config)
        columns = export_columns(config, facts.columns)
        indices = [index_of(config.partition, partition) for partition in PARTITIONS]
        types = {column.name: column.iceberg for column in columns}

        async def whole(stream: Any) -> bytes:
            return b"".join([chunk async for chunk in stream])

        theirs = [
            await whole(
                clickhouse.parquet(export_query(config, facts, columns, fleet.network, one), query_id="", comment="")
            )
            for one in indices
        ]
        query = together_query(config, facts, columns, fleet.network, Ranges.from_indices(indices))
        ours = cut(await whole(clickhouse.arrow(query, query_id="", comment="")), types)
    assert list(ours) == indices
    return [pq.ParquetFile(io.BytesIO(file)) for file in theirs], [
        pq.ParquetFile(io.BytesIO(ours[one])) for one in indices
    ]


def forms_of(file: Any) -> list[tuple[Any, ...]]:
    """How values of each column are written; decimals have as many bytes as they need, ClickHouse's own often more."""
    columns = [file.schema.column(position) for position in range(len(file.schema))]
    return [
        (
            one.path,
            one.physical_type,
            str(one.logical_type),
            one.length if one.logical_type.type != "DECIMAL" else 0,
            one.max_definition_level,
        )
        for one in columns
    ]


def text_of(values: Any) -> str:
    """Values by their text, since no NaN equals another one; columns of bytes pretend to be strings, too."""
    return str((values.cast(pa.binary()) if pa.types.is_string(values.type) else values).to_pylist())


@pytest.mark.parametrize("table", ["portable", "overridden"])
async def test_a_cut_file_has_the_columns_forms_and_values_of_clickhouses_own(lake, table):
    for theirs, ours in zip(*await both_ways(lake, table), strict=True):
        assert forms_of(ours) == forms_of(theirs)
        found, expected = ours.read(), theirs.read()
        for name in expected.column_names:
            assert text_of(found.column(name)) == text_of(expected.column(name)), name


async def test_moments_inside_lists_are_left_to_clickhouse(lake):
    with pytest.raises(UnsupportedType, match="would be another one than ClickHouse's"):
        await both_ways(lake, "as_published")


async def test_a_cut_file_says_the_bounds_and_nulls_that_clickhouses_own_says(lake):
    for theirs, ours in zip(*await both_ways(lake, "portable"), strict=True):
        found = said_of(ours)
        expected = {path: said for path, said in said_of(theirs).items() if said[1:]}
        assert {path: found[path] for path in expected} == expected


def said_of(file: Any) -> dict[str, tuple[Any, ...]]:
    """Path of a column that holds values → nulls, and the smallest and the largest value if the footer has them.

    Nulls inside lists, maps and tuples are counted in more than one way. Of zeros a footer names whichever it likes.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for position in range(file.metadata.num_columns):
        column, statistics = file.schema.column(position), file.metadata.row_group(0).column(position).statistics
        ends = [statistics.min, statistics.max] if statistics.has_min_max else []
        nulls = None if "." in column.path else statistics.null_count or 0
        found[column.path] = (nulls, *(str(0.0 if end == 0 else end) for end in ends))
    return found
