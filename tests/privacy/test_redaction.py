"""A redacted column keeps its place and its type and holds one value, and nobody ever read what it held before."""

import asyncio
import io
import re
from dataclasses import replace
from typing import Any
from uuid import UUID

import duckdb
import pyarrow.parquet as pq
import pytest

from activities.core.columns import SourceColumn, export_columns
from activities.core.partitions import index_of
from activities.core.query import SourceFacts, export_query
from activities.core.sqltext import identifiers_in
from support.lakereaders import by_clickhouse, by_duckdb, by_pyiceberg, open_pyiceberg
from support.planted import LATITUDE
from support.traces import stored
from support.xatulake import PROFILES, SENSITIVE_COLUMNS, people
from support.xatuschemas import read_schemas

pytestmark = pytest.mark.timeout(300)
SCHEMAS = {**read_schemas(), "people": people()}
ZERO = ("bytes", "00" * 16)
# What every row of every redacted column of `people` holds, by profile: NULL is a value like any other.
BLANKS: dict[str, dict[str, Any]] = {
    "portable": {
        **dict.fromkeys(("ip", "contact_ip", "padded_ip", "where_from"), "::"),
        "client_ip": "0.0.0.0",
        "client_id_number": "0",
    },
    "as_published": {
        **dict.fromkeys(("ip", "where_from", "client_id_number"), ZERO),
        "contact_ip": "::",
        "padded_ip": ("bytes", "3a3a" + "00" * 38),
        "client_ip": 0,
        "geo_city": ("bytes", "00" * 40),
    },
}
BOTH = {
    **dict.fromkeys(("numeric_ip", "longitude", "peer_id_number"), 0),
    **dict.fromkeys(("geo_city", "geo_country", "geo_country_code", "geo_continent_code"), ""),
    "latitude": ("float", "0.0"),
    "node_longitude": "0",
    "peer_id": "REDACTED",
    "client_id": str(UUID(int=0)),
}


@pytest.mark.parametrize("reader", [by_pyiceberg, by_duckdb, by_clickhouse])
async def test_every_row_holds_the_blank_of_its_columns_own_type_and_everything_else_is_there(xatu, reader):
    identifiers = [xatu[profile].identifier("people") for profile in PROFILES]
    read = await asyncio.to_thread(reader, xatu["portable"].environment, identifiers)
    for profile, rows in zip(PROFILES, read, strict=True):
        found = dict(zip(SCHEMAS["people"].columns, map(set, zip(*rows, strict=True)), strict=True))
        blanks = {**BOTH, **BLANKS[profile]}
        assert set(blanks) == set(SENSITIVE_COLUMNS)
        shown = {name: {_plain(value) for value in values} for name, values in found.items() if name in blanks}
        assert shown == {name: {blank} for name, blank in blanks.items()}, profile
        assert len(rows) > 200
        assert len(found["note"]) > 100


def _plain(value: Any) -> Any:
    """DuckDB answers a UUID as text."""
    return str(value) if isinstance(value, UUID) else value


@pytest.mark.parametrize("profile", PROFILES)
def test_the_written_files_and_tables_have_the_same_schema_with_and_without_redaction(xatu, allowed, profile):
    pairs = 0
    for name in allowed[profile].lake.schemas:
        ours = name.partition("_")[0] if name.startswith("people") else name
        shown = [_schemas(xatu[profile], ours), _schemas(allowed[profile].lake, name)]
        assert shown[0] == shown[1]
        pairs += 1
    assert pairs >= 1


def _schemas(lake, table: str) -> tuple[str, str]:
    """Of the table, and of one of its files: physical and logical types, and what may be NULL."""
    loaded = open_pyiceberg(lake.environment).load_table(lake.identifier(table))
    file = next(iter(loaded.scan().plan_files())).file
    with loaded.io.new_input(file.file_path).open() as opened:
        parquet = pq.ParquetFile(io.BytesIO(opened.read())).schema
    return str(loaded.schema()), str(parquet).partition("\n")[2]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", SCHEMAS)
def test_no_redaction_changes_the_type_of_any_real_column(xatu, name, profile):
    schema = SCHEMAS[name]
    config = xatu[profile].fleet.settings().table(xatu[profile].fleet.name, name, xatu[profile].fleet.network)
    columns = [SourceColumn(column, kind) for column, kind in schema.columns.items()]
    as_it_is = replace(config, redacted_columns=(), allowed_columns=(*config.allowed_columns, *config.redacted_columns))
    redacted, allowed = export_columns(config, columns), export_columns(as_it_is, columns)
    assert [(column.name, column.iceberg) for column in redacted] == [(one.name, one.iceberg) for one in allowed]
    changed = {one.name for one, other in zip(redacted, allowed, strict=True) if one.expression != other.expression}
    assert changed == set(config.redacted_columns)
    for column in redacted:
        if column.name in config.redacted_columns:
            assert column.name not in identifiers_in(column.expression)[0]


async def test_no_query_selects_a_redacted_column_or_reads_one_that_rows_are_not_sorted_by(xatu):
    for lake in xatu.values():
        await lake.fleet.run_sql("SYSTEM FLUSH LOGS")
        asked = await lake.fleet.sql(
            "SELECT query, tables, columns FROM system.query_log WHERE type = 'QueryFinish' AND query_kind = 'Select' "
            # By which the fleet's own queries are told from this test's.
            f"AND mapContains(Settings, 'read_overflow_mode') AND has(databases, '{lake.fleet.database}')"
        )
        seen = dict.fromkeys(lake.schemas, 0)
        for query in asked:
            [name] = {table.rpartition(".")[2].removesuffix("_local") for table in query["tables"]}
            schema = lake.schemas[name]
            sorted_by = {column for key in schema.order_by for column in re.findall(r"\w+", key)}
            read = {column.rpartition(".")[2] for column in query["columns"]}
            assert read & set(schema.redacted) <= sorted_by, name
            selected = query["query"].partition(" FROM ")[0]
            for column in schema.redacted:
                mentions = re.findall(rf"(\w+ )?\b{column}\b", selected)
                assert mentions in ([], ["AS "]), f"{name} {column}: {selected}"
            seen[name] += 1
        assert min(seen.values()) >= 6, "a plan; two exports, each with a version before and a count after"


def test_the_sorting_key_alone_names_redacted_columns_in_the_query_of_an_export(xatu):
    lake = xatu["as_published"]
    config = lake.fleet.settings().table(lake.fleet.name, "people", lake.fleet.network)
    columns = tuple(SourceColumn(column, kind) for column, kind in SCHEMAS["people"].columns.items())
    facts = SourceFacts(columns, final=True, sorting_key=("ip", "lower(peer_id)"), version_column="updated_date_time")
    query = export_query(
        config, facts, export_columns(config, columns), lake.fleet.network, index_of(config.partition, "2024-03-20T04")
    )
    assert query.text.endswith("ORDER BY `slot_start_date_time`, ip, lower(peer_id)")


@pytest.mark.parametrize(
    ("column", "planted", "blank"),
    [
        ("geo_continent_code", "'PLANTED: geo_continent_code 1 ñ'", "''"),
        ("peer_id", "'PLANTED: peer_id 1 ñ'", "'REDACTED'"),
        ("latitude", f"{LATITUDE}::FLOAT", "0::FLOAT"),
    ],
)
def test_the_bloom_filters_know_nothing_but_blanks(xatu, allowed, tmp_path, column, planted, blank):
    found = []
    for lake in (xatu["as_published"], allowed["as_published"].lake):
        pieces = stored(lake.environment, lake.fleet.network)
        body = next(piece.data for piece in pieces if piece.kind == "parquet file" and "/people" in piece.where)
        file = tmp_path / f"{lake.fleet.name}.parquet"
        file.write_bytes(body)
        for value in (planted, blank):
            probe = duckdb.sql(f"FROM parquet_bloom_probe('{file}', '{column}', {value})")
            found.append(not probe.fetchall()[0][-1])
    assert found == [False, True, True, False]
