"""Columns that change at the source, also in the middle of a batch: no value is lost, and none is in a wrong column."""

import json

from support.buffers import NARROW, SCHEMA, Event, insert, schema_event
from support.ingests import opened, shared_place

shared, fleet, postgres = shared_place()


def columns(*names: str, **types: str) -> list[dict[str, object]]:
    """Columns of a source; the id of each is the number in its name, if it has one: `a#7`."""
    found = []
    for number, name in enumerate(names, 1):
        plain, _, own = name.partition("#")
        found.append({"name": plain, "type": types.get(plain, "text"), "id": int(own or number)})
    return found


def row(**values) -> Event:
    return Event("insert", values)


async def test_columns_are_added_dropped_renamed_and_widened_in_the_middle_of_a_batch_case_49(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        ids = {"id": "integer"}
        await ingest.producer.transaction(schema_event(columns("id", "a", "b", **ids)), row(id=1, a="x", b="y"))
        await ingest.producer.transaction(
            schema_event(columns("id", "a", "b", "c", **ids)), row(id=2, a="x", b="y", c="z")
        )
        await ingest.producer.transaction(schema_event(columns("id", "a2#2", "c#4", **ids)), row(id=3, a2="x", c="z"))
        await ingest.producer.transaction(
            schema_event(columns("id", "a2#2", "c#4", id="bigint")), row(id=2**40, a2="x", c="z")
        )
        report = await ingest.batch()
        assert report.tables[0].failed == ""
        assert ingest.rows("orders", "id", "a2", "b", "c") == [
            {"id": 1, "a2": "x", "b": "y", "c": None},
            {"id": 2, "a2": "x", "b": "y", "c": "z"},
            {"id": 3, "a2": "x", "b": None, "c": "z"},
            {"id": 2**40, "a2": "x", "b": None, "c": "z"},
        ]
        assert len(ingest.snapshots()) == 1
        # And once more, with files that were written before.
        await ingest.producer.transaction(
            schema_event(columns("id", "a3#2", "c#4", id="bigint")), row(id=5, a3="x", c="")
        )
        await ingest.batch()
        assert [found["a3"] for found in ingest.rows()] == ["x"] * 5


async def test_a_column_that_is_dropped_and_made_again_is_another_one_and_old_events_change_nothing_cases_50_and_55(
    fleet, postgres
):
    async with opened(fleet, postgres) as ingest:
        first = await ingest.producer.transaction(schema_event(columns("id", "a")), row(id="1", a="old"))
        await ingest.producer.transaction(schema_event(columns("id")), row(id="2"))
        again = await ingest.producer.transaction(schema_event(columns("id", "a#3", a="bigint")), row(id="3", a=7))
        await ingest.batch()
        kept = f"a_until_{again:x}"
        expected = [
            {"id": "1", "a": None, kept: "old"},
            {"id": "2", "a": None, kept: None},
            {"id": "3", "a": 7, kept: None},
        ]
        assert ingest.rows("orders", "id", "a", kept) == expected
        # A producer that begins anew says what the table was like then.
        await ingest.producer.transaction(schema_event(columns("id", "a")), lsn=first)
        await ingest.producer.transaction(row(id="4", a=8))
        report = await ingest.batch()
        assert report.tables[0].failed == ""
        assert ingest.rows("orders", "id", "a", kept) == [*expected, {"id": "4", "a": 8, kept: None}]


async def test_a_change_that_cannot_be_followed_stops_that_table_alone_until_a_person_resumes_it_cases_51_and_54(
    fleet, postgres
):
    async with opened(fleet, postgres) as ingest:
        producer = ingest.producer
        await producer.transaction(schema_event(), insert(1), schema_event(table="other"), insert(1, table="other"))
        await producer.transaction(
            schema_event(columns("id", "cdc_lsn"), table="ours"),
            Event("insert", {"id": "1", "cdc_lsn": "x"}, table="ours"),
        )
        report = await ingest.batch()
        [ours] = [table for table in report.tables if table.failed]
        assert ours.table == "public.ours"
        assert ours.stopped
        assert ours.failed.startswith("BadConfig: source table public.ours: column cdc_lsn has the name of a column")
        await producer.transaction(schema_event([*NARROW[:2], {"name": "amount", "type": "uuid", "id": 3}]))
        await producer.transaction(insert(2, amount="6f0d7c1e-0000-4000-8000-000000000001"), insert(2, table="other"))
        report = await ingest.batch()
        assert [(table.table, table.stopped, table.events) for table in report.tables] == [
            ("public.orders", True, 0),
            ("public.other", False, 1),
        ]
        assert report.tables[0].failed.startswith("SchemaConflict: ")
        assert await ingest.tables() == {"orders": ("stopped", 2), "other": ("active", 0), "ours": ("stopped", 2)}
        assert (await ingest.batch()).tables == []
        # Nothing is lost by it: once the cause is mended, all goes on from where it stopped.
        await postgres.run(
            f"""UPDATE {SCHEMA}.events SET new_row = jsonb_set(new_row, '{{columns,2,type}}', '"numeric(12,2)"')
            WHERE operation = 'schema' AND source_table = 'orders'""",
            f"UPDATE {SCHEMA}.events SET new_row = jsonb_set(new_row, '{{amount}}', '5') WHERE source_table = 'orders' "
            "AND operation = 'insert'",
        )
        assert (await ingest.settle("resume-table", table="orders")).status == "done"
        assert (await ingest.settle("resume-table", table="orders")).status == "failed"
        await ingest.batch()
        assert [str(found["amount"]) for found in ingest.rows()] == ["1.00", "5.00"]


async def test_columns_whose_values_were_not_logged_are_told_case_52(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1, "long " * 1_000))
        without = [Event("update", {"id": 1, "amount": f"{number}.00"}, unchanged=("name",)) for number in range(3)]
        await ingest.producer.transactions([event] for event in without)
        await ingest.batch()
        rows = ingest.rows("orders", "name", "cdc_unchanged")
        assert rows[0]["cdc_unchanged"] is None
        assert rows[1:] == [{"name": None, "cdc_unchanged": ["name"]}] * 3


async def test_a_schema_event_that_is_none_stops_its_table_with_the_way_out(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(Event("schema", {"columns": [{"name": "id"}]}), insert(1))
        [table] = (await ingest.batch()).tables
        assert table.stopped
        assert f"mend new_row of event 1 in {SCHEMA}.events by SQL" in table.failed
        assert "`icefleet cdc resume --table public.orders`" in table.failed
        told = schema_event().new
        await postgres.run(f"UPDATE {SCHEMA}.events SET new_row = '{json.dumps(told)}' WHERE id = 1")
        assert (await ingest.settle("resume-table", table="orders")).status == "done"
        await ingest.batch()
        assert ingest.said() == [("insert", 1)]
