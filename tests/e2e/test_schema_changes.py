"""The source's schema changes between two exports: the table follows, or stops and says why; old rows stay right."""

import asyncio
import re

import pytest
from temporalio.exceptions import ApplicationError

from support.direct import Hands
from support.evidence import objects
from support.fleet import Fleet, replace_ports
from support.gate import gate_at
from support.lakereaders import by_clickhouse, by_duckdb, by_pyiceberg
from support.refusals import asking, refusal

OLD, NEW = "2024-03-19", "2024-03-20"
BIG = 5_000_000_000
ROWS = 10
# Column → type at the source and SQL of its values, before and after.
BEFORE = {
    "i": ("Int32", "toInt32(number) - 5"),
    "f": ("Float32", "toFloat32(number) / 4"),
    "d": ("Decimal(9, 2)", "toDecimal32(number, 2)"),
    "items": ("Array(Int32)", "[toInt32(number)]"),
    "pair": ("Tuple(a Int32)", "tuple(toInt32(number))"),
    "names": ("Map(String, Int32)", "map('k', toInt32(number))"),
    "list": ("Array(Tuple(a Int32))", "[tuple(toInt32(number))]"),
    "n": ("Nullable(Int32)", "if(number % 2 = 0, NULL, toInt32(number))"),
    "gone": ("String", "'g'"),
}
AFTER = {
    "i": ("Int64", f"{BIG} + number"),
    "f": ("Float64", "0.1 + number"),
    "d": ("Decimal(18, 2)", "toDecimal64(123456789012.25, 2)"),
    "items": ("Array(Int64)", f"[{BIG} + toInt64(number)]"),
    "pair": ("Tuple(a Int64, b String)", f"tuple(toInt64({BIG}), 'x')"),
    "names": ("Map(String, Int64)", f"map('k', toInt64({BIG}))"),
    "list": ("Array(Tuple(a Int64, b String))", f"[tuple(toInt64({BIG}), 'y')]"),
    "n": ("Nullable(Int64)", f"toInt64({BIG})"),
    "fresh": ("Nullable(UInt32)", "toUInt32(number)"),
}
TYPES = {
    "i": "long",
    "f": "double",
    "d": "decimal(18, 2)",
    "items": "list<long>",
    "pair": "struct<a: long, b: string>",
    "names": "map<string, long>",
    "list": "list<struct<a: long, b: string>>",
    "n": "long",
    "gone": "string",
    "fresh": "long",
}


# Column names of the table's own, and what each engine must read of them: once without a filter, then by filters
# that bounds written before the change and after it must not lead astray.
def struct(a, b):
    """A struct as the readers of tests/support/lakereaders.py show it."""
    return ("struct", (("a", a), ("b", b)))


OLD_ROWS = [
    (
        n - 5,
        ("float", repr(n / 4)),
        n,
        (n,),
        struct(n, None),
        ("map", (("k", n),)),
        (struct(n, None),),
        None if n % 2 == 0 else n,
        "g",
        None,
    )
    for n in range(ROWS)
]
NEW_ROWS = [
    (
        BIG + n,
        ("float", repr(n + 0.1)),
        ("decimal", "123456789012.25"),
        (BIG + n,),
        struct(BIG, "x"),
        ("map", (("k", BIG),)),
        (struct(BIG, "y"),),
        BIG,
        None,
        n,
    )
    for n in range(ROWS)
]
FILTERS = {
    "": OLD_ROWS + NEW_ROWS,
    "i = -3": [OLD_ROWS[2]],
    f"i > {BIG + 7}": NEW_ROWS[8:],
    "f = 0.5": [OLD_ROWS[2]],
    "f > 8.5": [NEW_ROWS[9]],
    "d = 3.00": [OLD_ROWS[3]],
    "d > 100000": NEW_ROWS,
    "n < 4": [OLD_ROWS[1], OLD_ROWS[3]],
    "fresh is null": OLD_ROWS,
    "fresh = 4": [NEW_ROWS[4]],
    "gone is null": NEW_ROWS,
}


async def make_source(fleet: Fleet, columns: dict[str, tuple[str, str]], name: str = "events") -> None:
    """(Re)make the source's table, empty."""
    listed = ", ".join(f"{column} {kind}" for column, (kind, _) in columns.items())
    await fleet.run_sql(
        f"CREATE OR REPLACE TABLE {fleet.database}.{name} (updated DateTime, at DateTime, "
        f"network LowCardinality(String), {listed}) ENGINE = ReplacingMergeTree(updated) ORDER BY (network, at)"
    )


async def fill(fleet: Fleet, day: str, columns: dict[str, tuple[str, str]], name: str = "events") -> None:
    values = ", ".join(value for _, value in columns.values())
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.{name} (updated, at, network, {', '.join(columns)}) SELECT "
        f"toDateTime('2024-04-01', 'UTC'), toDateTime('{day}', 'UTC') + number, '{fleet.network}', {values} "
        f"FROM numbers({ROWS})"
    )


async def make_events(fleet: Fleet, **columns: str) -> None:
    """A table of one day with the columns given as `name="Type"`, all of them 7 or '7'."""
    await make_source(fleet, {name: (kind, f"CAST('7' AS {kind})") for name, kind in columns.items()})
    await fill(fleet, OLD, {name: (kind, f"CAST('7' AS {kind})") for name, kind in columns.items()})
    fleet.add_table("daily", "events", "at", network={"end_date": NEW})


def column_types(fleet: Fleet, table: str = "events") -> dict[str, str]:
    kinds = {
        field.name: re.sub(r"\d+: (\w+): optional ", r"\1: ", str(field.field_type))
        for field in fleet.table(table).schema().fields
    }
    return {name: kind for name, kind in kinds.items() if name not in {"updated", "at", "network"}}


def values(fleet: Fleet, column: str, table: str = "events") -> list:
    """The column's values, a set for each file, by the day."""
    read = fleet.table(table).scan(selected_fields=("at", column)).to_arrow()
    days = {}
    for at, value in zip(read["at"].to_pylist(), read[column].to_pylist(), strict=True):
        days.setdefault(at.date().isoformat(), set()).add(value)
    return [days.get(OLD), days.get(NEW)]


async def make_chunks(fleet: Fleet, kind: str, first: int) -> None:
    """An integer table whose partition and version columns are `kind`: a closed chunk from `first`, nine rows in it."""
    await fleet.run_sql(
        f"CREATE OR REPLACE TABLE {fleet.database}.blocks (version {kind}, block {kind}, network String) "
        "ENGINE = ReplacingMergeTree(version) ORDER BY (network, block)"
    )
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.blocks SELECT number, if(number < 9, {first} + number, {first} + 1000), "
        f"'{fleet.network}' FROM numbers({ROWS})"
    )


@pytest.mark.parametrize("profile", ["portable", "as_published"])
async def test_what_is_added_and_widened_is_read_right_beside_old_rows_by_three_engines(fleet, profile):
    await make_source(fleet, BEFORE)
    await fill(fleet, OLD, BEFORE)
    fleet.add_table("daily", "events", "at", network={"end_date": NEW}, profile=profile)
    await make_chunks(fleet, "Int32", 0)
    fleet.add_table("chunked", "blocks", "block", partition={"coarse_chunks": 2}, profile=profile)
    async with fleet.context() as context:
        events, blocks = Hands(fleet, context), Hands(fleet, context, table="blocks")
        await events.run()
        await blocks.run(from_=0, to=0)
        await make_source(fleet, AFTER)
        await fill(fleet, NEW, AFTER)
        await make_chunks(fleet, "Int64", 2000)
        plan = await events.plan(from_=NEW, to=NEW)
        await events.commit(await events.export_all(plan))
        await blocks.run(from_=2000, to=2000)
        # Bounds of the version that were written as int are compared with what the source says as long.
        await make_chunks(fleet, "Int64", 0)
        again = await blocks.plan(from_=0, to=0)
    assert column_types(fleet) == TYPES
    assert (again.present, again.stale, again.todo) == (1, 0, [])
    tables = [f"{fleet.network}.events"] * len(FILTERS) + [f"{fleet.network}.blocks"] * 2
    conditions = [*FILTERS, "block < 5", "block > 2006"]
    environment = replace_ports(fleet.settings().environment(fleet.name), fleet.stack)
    for reader in (by_pyiceberg, by_duckdb, by_clickhouse):
        *found, low, high = await asyncio.to_thread(reader, environment, tables, where=conditions)
        for (condition, wanted), rows in zip(FILTERS.items(), found, strict=True):
            # By the time within the day, which is the row's number.
            read = [row[3:] for row in sorted(rows, key=lambda row: row[1])]
            assert read == wanted, f"{reader.__name__} where {condition}"
        assert sorted(row[1] for row in low) == [0, 1, 2, 3, 4], reader.__name__
        assert sorted(row[1] for row in high) == [2007, 2008], reader.__name__


async def test_an_old_partition_stays_as_it_is_and_reads_null_until_it_is_forced(fleet):
    await make_events(fleet, x="Int32")
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await hands.run()
        [before] = fleet.table().snapshots()
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events ADD COLUMN extra UInt32 DEFAULT 9")
        plan = await hands.plan()
        assert (plan.present, plan.stale, plan.todo) == (1, 0, [])
        # Nothing was written, so there is nothing to announce; and planning again changes nothing.
        evolved = fleet.table()
        assert [one.snapshot_id for one in evolved.snapshots()] == [before.snapshot_id]
        await hands.plan()
        assert fleet.table().metadata_location == evolved.metadata_location
        assert (column_types(fleet), values(fleet, "extra")) == ({"x": "int", "extra": "long"}, [{None}, None])
        await hands.run(force=True)
    assert values(fleet, "extra") == [{9}, None]


async def test_a_dry_run_changes_nothing_and_says_what_would_stop_it(fleet):
    await make_events(fleet, x="Int32")
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await hands.run()
        before = fleet.table().metadata_location
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events ADD COLUMN extra UInt32")
        plan = await hands.plan(dry_run=True)
        assert (plan.present, fleet.table().metadata_location) == (1, before)
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events MODIFY COLUMN x String")
        # The table's int is no place for text, whatever the text.
        with pytest.raises(ApplicationError, match="column x is int in the Iceberg table, and String at the source"):
            await hands.plan(dry_run=True)


async def test_a_dropped_column_stays_and_reads_null_and_may_come_back(fleet):
    await make_events(fleet, x="Int32", y="String")
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await hands.run()
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events DROP COLUMN x")
        await fill(fleet, NEW, {"y": ("String", "'z'")})
        await hands.run(from_=NEW, to=NEW)
        assert (column_types(fleet), values(fleet, "x")) == ({"x": "int", "y": "string"}, [{7}, {None}])
        # It comes back wider: it is the same column, and what it held is there.
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events ADD COLUMN x Int64 DEFAULT {BIG}")
        await hands.run(force=True, from_=NEW, to=NEW)
        assert (column_types(fleet)["x"], values(fleet, "x")) == ("long", [{7}, {BIG}])
        # It comes back as something else: it stops.
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events DROP COLUMN x")
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events ADD COLUMN x Array(String)")
        with pytest.raises(ApplicationError, match=r"x is long in the Iceberg table, and Array\(String\) at the sour"):
            await hands.plan()


async def test_a_renamed_column_is_a_dropped_and_an_added_one_and_one_in_other_letters_is_refused(fleet):
    await make_events(fleet, x="Int32")
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await hands.run()
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events RENAME COLUMN x TO z")
        await fill(fleet, NEW, {"z": ("Int32", "8")})
        await hands.run(from_=NEW, to=NEW)
        assert (values(fleet, "x"), values(fleet, "z")) == ([{7}, {None}], [{None}, {8}])
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events RENAME COLUMN z TO X")
        with pytest.raises(ApplicationError, match="X and x could not be told apart in Iceberg") as refused:
            await hands.plan()
    assert (refused.value.type, refused.value.non_retryable) == ("SchemaConflict", True)
    assert column_types(fleet) == {"x": "int", "z": "int"}


async def test_a_source_that_became_narrower_is_cast_to_what_the_table_has(fleet):
    await make_events(fleet, i="Int64", f="Float64", d="Decimal(18, 2)", s="String")
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await hands.run()
        before = column_types(fleet)
        narrow = {"i": "Int32", "f": "Float32", "d": "Decimal(9, 2)", "s": "UInt64"}
        now = {name: (kind, f"CAST('7' AS {kind})") for name, kind in narrow.items()}
        await make_source(fleet, now)
        await fill(fleet, NEW, now)
        plan = await hands.plan(from_=NEW, to=NEW)
        await hands.commit(await hands.export_all(plan))
    assert column_types(fleet) == before
    assert [values(fleet, name)[0] == values(fleet, name)[1] for name in before] == [True] * 4


async def test_columns_that_config_names_and_the_source_drops_stop_the_table_with_a_way_out(fleet):
    await make_events(fleet, city="String", x="Int64")
    fleet.add_table(
        "daily", "events", "at", network={"end_date": NEW}, redacted_columns=["city"], types={"x": "string"}
    )
    await fleet.run_sql(f"ALTER TABLE {fleet.database}.events DROP COLUMN city")
    await fleet.run_sql(f"ALTER TABLE {fleet.database}.events DROP COLUMN x")
    async with fleet.context() as context:
        with pytest.raises(ApplicationError, match=r"no redacted column city, no column .* x; .*take out what") as gone:
            await Hands(fleet, context).plan()
    assert gone.value.type == "BadConfig"
    assert fleet.table() is None


async def test_a_sensitive_column_that_appears_stops_its_table_alone_until_somebody_decides(fleet):
    await make_events(fleet, x="Int32")
    await fleet.make_days("other", days=1, rows=1)
    async with fleet.worker():
        assert (await fleet.request()).status == (await fleet.request("other")).status == "complete"
        before = fleet.table().metadata_location
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events ADD COLUMN peer_ip String DEFAULT '192.0.2.1'")
        await fill(fleet, NEW, {"x": ("Int32", "8")})
        kind, message = await refusal(fleet, asking(fleet))
        assert (kind, fleet.table().metadata_location) == ("PrivacyUndecided", before)
        assert "events: peer_ip may say who or where somebody is, and nobody decided" in message
        assert (await fleet.request("other", force=True)).status == "complete"
    fleet.add_table("daily", "events", "at", network={"end_date": NEW}, redacted_columns=["peer_ip"])
    async with fleet.worker():
        assert (await fleet.request(from_=NEW, to=NEW)).exported == 1
    assert values(fleet, "peer_ip") == [{None}, {"::"}]


async def test_a_change_that_iceberg_cannot_follow_stops_its_table_alone_and_says_what_changed(fleet):
    await make_events(fleet, x="UInt64")
    await fleet.make_days("other", days=1, rows=1)
    async with fleet.worker():
        assert (await fleet.request()).status == "complete"
        before = fleet.table().metadata_location
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events MODIFY COLUMN x Float64")
        kind, message = await refusal(fleet, asking(fleet))
        assert (kind, fleet.table().metadata_location) == ("SchemaConflict", before)
        assert "column x is decimal(20, 0) in the Iceberg table, and Float64 at the source" in message
        assert (await fleet.request("other")).status == "complete"


async def test_columns_that_change_between_plan_and_export_wait_for_the_next_plan(fleet):
    await make_events(fleet, x="Int32", y="Int32")
    await fill(fleet, NEW, {"x": ("Int32", "8")})
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        plan = await hands.plan()
        [new, old] = plan.todo
        exported = [await hands.export(old)]
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events ADD COLUMN peer_ip String DEFAULT '192.0.2.1'")
        with pytest.raises(ApplicationError, match="peer_ip may say who"):
            await hands.export(new)
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events DROP COLUMN peer_ip")
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events ADD COLUMN extra UInt8 DEFAULT 1")
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events MODIFY COLUMN x Int64")
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events DROP COLUMN y")
        with pytest.raises(ApplicationError, match=r"x is int, and needs long; extra is new: int\); ask for") as moved:
            await hands.export(new)
        assert (moved.value.type, moved.value.non_retryable) == ("SchemaMoved", True)
        plan = await hands.plan()
        exported.append(await hands.export(plan.todo[0]))
        # What was exported before knew an int and no `extra`: it fits the table that has moved on.
        assert (await hands.commit(exported)).committed == 2
    assert column_types(fleet) == {"x": "long", "y": "int", "extra": "int"}
    assert [values(fleet, name) for name in ("x", "y", "extra")] == [[{7}, {8}], [{7}, {None}], [{None}, {1}]]


async def test_a_column_that_is_dropped_while_a_partition_is_read_leaves_no_object(fleet):
    await make_events(fleet, x="Int32", y="Int32")
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        [planned] = (await hands.plan()).todo
        async with gate_at("before-upload") as gate:
            exporting = asyncio.create_task(hands.export(planned))
            await gate.reached()
            await fleet.run_sql(f"ALTER TABLE {fleet.database}.events DROP COLUMN x")
            gate.open()
            with pytest.raises(ApplicationError, match="`x`") as gone:
                await exporting
        assert (gone.value.type, objects(fleet)) == ("SourceRefused", {})
        assert (await hands.run()).committed == 1
    assert (values(fleet, "x"), values(fleet, "y")) == ([{None}, None], [{7}, None])


async def test_a_type_that_changes_while_a_partition_is_read_leaves_no_object(fleet):
    await make_events(fleet, x="Int32")
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        [planned] = (await hands.plan()).todo
        async with gate_at("before-upload") as gate:
            exporting = asyncio.create_task(hands.export(planned))
            await gate.reached()
            await fleet.run_sql(f"ALTER TABLE {fleet.database}.events MODIFY COLUMN x Int64")
            gate.open()
            with pytest.raises(ApplicationError, match="x is INT64 in the file and int in the table") as moved:
                await exporting
        assert (moved.value.type, moved.value.non_retryable, objects(fleet)) == ("SchemaMoved", True, {})
        report = await hands.run()
    assert (report.committed, column_types(fleet), values(fleet, "x")) == (1, {"x": "long"}, [{7}, None])
    assert [name for name, _ in fleet.files()] == ["2024/3/19.parquet"]
