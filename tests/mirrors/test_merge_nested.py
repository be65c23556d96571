"""Lists, maps and structs of others' changelogs: what is null in them, and what is empty, stays so."""

import uuid

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import schema_to_pyarrow
from temporalio.testing import ActivityEnvironment

from activities.contracts.mirrors import VerifyMirrorInput
from activities.verifymirror import verify_mirror
from support.fleet import replace_ports
from support.lakereaders import ask_duckdb
from support.mirrors import opened, put, update

FIELDS = {
    "id": "long",
    "name": "string",
    "rows": "list<struct<x: int, y: list<struct<z: string>>>>",
    "by_name": "map<string, struct<x: int>>",
    "inside": "struct<rows: list<struct<x: int>>>",
}
NOTHING = {"rows": None, "by_name": None, "inside": {"rows": None}}
EMPTY = {"rows": [], "by_name": [], "inside": {"rows": []}}
FULL = {
    "rows": [{"x": 1, "y": None}, {"x": 2, "y": []}, None],
    "by_name": [("a", {"x": 1}), ("b", None)],
    "inside": None,
}


def append(mirror, *rows):
    """Append rows as other engines do: PyIceberg's own writer makes empty ones of what is null."""
    numbered, table = mirror.numbered(rows), mirror.changelog()
    plain = schema_to_pyarrow(table.schema(), include_field_ids=False)
    lines = [mirror._line(row) for row in numbered]
    columns = [pa.array([line.get(one.name) for line in lines], one.type) for one in plain]
    path = f"{table.location()}/data/{uuid.uuid4()}.parquet"
    with table.io.new_output(path).create() as out:
        pq.write_table(pa.Table.from_arrays(columns, schema=plain), out)
    table.add_files([path])


def read(mirror):
    """What DuckDB finds; PyIceberg's own reader makes empty ones, too."""
    environment = replace_ports(mirror.fleet.settings().environment(mirror.fleet.name), mirror.fleet.stack)
    [rows] = ask_duckdb(
        environment, [f"SELECT name, rows, by_name, inside FROM lake.{mirror.config.mirror} ORDER BY id"]
    )
    return rows


async def test_what_is_null_stays_null_through_merges_and_compactions_and_is_told_from_what_is_empty(fleet):
    async with opened(fleet, FIELDS) as mirror:
        append(mirror, put(1, name="a", **NOTHING), put(2, name="b", **EMPTY), put(3, name="c", **FULL))
        await mirror.merge()
        full = (
            (("struct", (("x", 1), ("y", None))), ("struct", (("x", 2), ("y", ()))), None),
            ("map", (("a", ("struct", (("x", 1),))), ("b", None))),
            None,
        )
        nothing = (None, None, ("struct", (("rows", None),)))
        empty = ((), ("map", ()), ("struct", (("rows", ()),)))
        assert read(mirror) == [("a", *nothing), ("b", *empty), ("c", *full)]
        # Values that come from the mirror, since a change does not carry them, and rows that are put together.
        append(mirror, *(put(key, unchanged=["rows", "by_name", "inside"], name="d") for key in (1, 2, 3)))
        await mirror.merge()
        append(mirror, update(4, name="e", **NOTHING), update(5, name="f", **EMPTY))
        await mirror.merge()
        assert (await mirror.compact(thorough=True)).rows == 5
        assert read(mirror) == [("d", *nothing), ("d", *empty), ("d", *full), ("e", *nothing), ("f", *empty)]
        asked = VerifyMirrorInput(fleet.name, mirror.config.mirror)
        report = await ActivityEnvironment().run(verify_mirror, mirror.context, asked)
        assert (report.status, report.index) == ("equal", "whole")
