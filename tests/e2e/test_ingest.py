"""From the buffer to changelogs: every event once, in order, and a table that cannot go on holds up no other."""

import os
import random

import pytest

from activities import ingesting
from activities.clients import pieces
from activities.core.faults import PostgresRefused
from activities.lake.rows import ChangelogFiles
from support.buffers import (
    NARROW,
    Event,
    Producer,
    delete,
    insert,
    many_rows,
    schema_event,
    truncate,
    update,
)
from support.fleet import replace_ports
from support.ingests import opened, shared_place
from support.lakereaders import by_clickhouse, by_duckdb, by_pyiceberg

shared, fleet, postgres = shared_place()
TABLES = int(os.environ.get("INGEST_TABLES") or 60)
"""`make test-large` has as many as case 61 says."""


async def test_events_become_rows_with_their_place_in_the_log_for_every_reader_cases_10_and_11(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        wide = 0x1_0000_0000
        await ingest.producer.transaction(schema_event(), *(insert(n) for n in range(11)), lsn=0x9)
        await ingest.producer.transaction(update(1, "b", "-2.25"), delete(2), lsn=0x10)
        await ingest.producer.transaction(update(1, "", None), lsn=wide)
        report = await ingest.batch()
        assert (report.events, report.more, report.last_lsn) == (14, False, "1/0")
        environment = replace_ports(fleet.settings().environment(fleet.name), fleet.stack)
        read = [engine(environment, [ingest.identifier()])[0] for engine in (by_pyiceberg, by_duckdb, by_clickhouse)]
        # ClickHouse knows no list that is NULL.
        plain = [sorted(repr((*row[:4], row[4] or None, *row[5:])) for row in rows) for rows in read]
        assert plain[0] == plain[1] == plain[2]
        # As text they sort as the numbers do: the ordinal 10 behind 9, the LSN 10 behind 9.
        places = [(9, ordinal) for ordinal in range(1, 12)] + [(0x10, 0), (0x10, 1), (wide, 0)]
        rows = ingest.rows()
        assert [row["cdc_sequence_number"] for row in rows] == [f"{lsn:016x}{ordinal:016x}" for lsn, ordinal in places]
        assert [row["cdc_lsn"] for row in rows][-4:] == ["0/9", "0/10", "0/10", "1/0"]
        assert [(row["cdc_operation"], row["id"], row["name"], str(row["amount"])) for row in rows][-3:] == [
            ("update", 1, "b", "-2.25"),
            ("delete", 2, None, "None"),
            ("update", 1, "", "None"),
        ]
        [said] = ingest.snapshots()
        assert said["icefleet.cdc.first-sequence"] == rows[0]["cdc_sequence_number"]
        assert said["icefleet.cdc.last-sequence"] == rows[-1]["cdc_sequence_number"]
        assert (said["icefleet.cdc.events"], said["icefleet.cdc.position"]) == ("14", "15")
        assert ingest.table().properties["icefleet.cdc.last-sequence"] == rows[-1]["cdc_sequence_number"]
        [file] = ingest.table().inspect.files().to_pylist()
        name = f"cdc/{ingest.namespace}/public_orders_changelog/data/date=2026-03-20/{1:020d}-{15:020d}-1.parquet"
        assert file["file_path"].endswith(name)
        assert await ingest.tables() == {"orders": ("active", 0)}


async def test_events_out_of_order_and_values_that_are_written_otherwise_arrive_as_well(fleet, postgres):
    """As those that were requeued, and those of producers that write what PostgreSQL alone understands."""
    async with opened(fleet, postgres) as ingest:
        columns = [{"name": "id", "type": "bigint"}, {"name": "day", "type": "date"}]
        await ingest.producer.transaction(schema_event(columns), lsn=0x10)
        for lsn, day in ((0x40, "2026-02-03"), (0x20, "2026-02-04"), (0x30, "2026-02-05")):
            await ingest.producer.transaction(Event("insert", {"id": str(lsn), "day": day}), lsn=lsn)
        await ingest.batch()
        await ingest.producer.transaction(Event("insert", {"id": "80", "day": "Feb 6 2026"}), lsn=0x50)
        await ingest.batch()
        assert [said["icefleet.cdc.events"] for said in ingest.snapshots()] == ["3", "1"]
        files = [file["file_path"] for file in ingest.table().inspect.files().to_pylist()]
        by_row = ingest.table().scan().to_arrow().to_pylist()
        assert [row["id"] for row in by_row if row["id"] < 80] == [0x20, 0x30, 0x40]
        assert {row["id"]: row["day"].isoformat() for row in by_row} == {
            0x20: "2026-02-04",
            0x30: "2026-02-05",
            0x40: "2026-02-03",
            80: "2026-02-06",
        }
        assert len(files) == 2


async def test_nothing_to_carry_over_makes_no_snapshot_case_56(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        empty = await ingest.batch()
        assert (empty.tables, empty.epoch, empty.more) == ([], 0, False)
        await ingest.producer.transaction(schema_event())
        await ingest.batch()
        assert ingest.snapshots() == []
        await ingest.producer.transaction(insert(1))
        await ingest.batch()
        # The same columns again, as producers tell them after a restart.
        await ingest.producer.transaction(schema_event())
        report = await ingest.batch()
        assert (report.events, report.tables[0].snapshot_id) == (0, "")
        assert len(ingest.snapshots()) == 1
        assert await ingest.tables() == {"orders": ("active", 0)}
        # Columns that change are a commit by themselves, of no rows.
        await ingest.producer.transaction(schema_event([*NARROW, {"name": "more", "type": "text", "id": 4}]))
        await ingest.batch()
        assert [said["total-records"] for said in ingest.snapshots()] == ["1", "1"]
        assert "more" in ingest.table().schema().column_names


async def test_batches_of_deletes_alone_of_one_hot_key_and_with_truncates_keep_every_event_cases_53_57_60(
    fleet, postgres
):
    """Case 20 as well: a delete of a key that the changelog never had is a row as any other."""
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), *(insert(number) for number in range(5)))
        await ingest.producer.transactions([update(1, f"v{number}")] for number in range(200))
        await ingest.batch()
        await ingest.producer.transaction(*(delete(number) for number in range(5)), delete(99))
        await ingest.batch()
        await ingest.producer.transaction(insert(7), truncate(), insert(8))
        await ingest.batch()
        rows = ingest.rows()
        assert [row["name"] for row in rows[5:205]] == [f"v{number}" for number in range(200)]
        assert ingest.said()[205:] == [
            *(("delete", number) for number in [*range(5), 99]),
            *[("insert", 7), ("truncate", None), ("insert", 8)],
        ]
        assert len(ingest.snapshots()) == 3


async def test_a_transaction_larger_than_a_batch_arrives_in_order_and_no_smaller_one_is_cut_case_59(fleet, postgres):
    async with opened(fleet, postgres, batch_events=10) as ingest:
        sizes = [3, 4, 25, 2, 9, 1]
        number = iter(range(100))
        await ingest.producer.transaction(schema_event())
        for size in sizes:
            await ingest.producer.transaction(*(insert(next(number)) for _ in range(size)))
        await ingest.drain()
        assert [found["id"] for found in ingest.rows()] == list(range(44))
        table = ingest.table()
        seen, cut = [], []
        for snapshot in table.snapshots():
            found = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow().to_pylist()
            new = {(one["cdc_lsn"], one["id"]) for one in found} - set(seen)
            cut += sorted({lsn for lsn, _ in new} & {lsn for lsn, _ in seen})
            seen += sorted(new)
        # Only the one of 25 events is seen by halves.
        large = {one["cdc_lsn"] for one in ingest.rows() if one["id"] == 10}
        assert set(cut) == large
        assert len(cut) == 2


async def test_a_batch_passes_through_memory_in_pieces_case_58(fleet, postgres, monkeypatch):
    sizes = []
    add = ChangelogFiles.add

    def noted(files, piece, found):
        sizes.append(len(piece))
        return add(files, piece, found)

    monkeypatch.setattr(ChangelogFiles, "add", noted)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 50_000)
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event())
        values = [random.randbytes(20_000).hex() for _ in range(40)]
        await ingest.producer.transaction(*(insert(number, value) for number, value in enumerate(values)))
        await ingest.batch()
        assert [found["name"] for found in ingest.rows()] == values
    assert len(sizes) == 20
    assert max(sizes) < 50_000 + 2 * 20_000 + 200


@pytest.mark.timeout(300 + TABLES)
async def test_of_many_tables_one_that_fails_holds_up_no_other_case_61(fleet, postgres):
    async with opened(fleet, postgres, parallel_tables=8) as ingest:
        names = [f"t{number}" for number in range(TABLES)]
        telling = [schema_event(table=name) for name in names if name != "t7"]
        await ingest.producer.transaction(
            *telling, schema_event([*NARROW, {"name": "cdc_lsn", "type": "text"}], table="t7")
        )
        await many_rows(postgres, 10 * TABLES, tables=TABLES)
        reports = await ingest.drain()
        told = [table for report in reports for table in report.tables]
        assert {table.table for table in told if table.stopped} == {"public.t7"}
        # A catalog may stumble over many that come at once: then a table goes on with the next batch.
        done = {table.changelog for table in told if not table.failed}
        done |= {name for report in reports for name in report.unlisted}
        assert done == {ingest.identifier(name) for name in names if name != "t7"}
        assert sum(report.events for report in reports) == 10 * (TABLES - 1)
        last = TABLES - 1
        assert [found["id"] for found in ingest.rows(names[last])] == list(range(last, 10 * TABLES, TABLES))


async def test_of_tables_beyond_those_that_a_report_lists_it_says_what_is_to_be_announced(fleet, postgres, monkeypatch):
    monkeypatch.setattr(ingesting, "LISTED_TABLES", 1)
    async with opened(fleet, postgres) as ingest:
        names = ["a", "b", "c"]
        await ingest.producer.transaction(
            *(event for name in names for event in (schema_event(table=name), insert(1, table=name)))
        )
        reports = await ingest.drain()  # a table that the catalog refuses in a passing way comes with a later batch
        told = {name for one in reports for name in [table.changelog for table in one.tables] + one.unlisted}
        assert sorted(told) == [ingest.identifier(name) for name in names]
        assert {len(one.tables) for one in reports if one.events} == {1}
        assert sum(one.events for one in reports) == 3


async def test_two_source_tables_never_share_a_changelog(fleet, postgres):
    async with opened(fleet, postgres, name="{table}_changelog") as ingest:
        both = [schema_event(), insert(1), schema_event(schema="other"), insert(2, schema="other")]
        await ingest.producer.transaction(*both)
        told = [table for report in await ingest.drain() for table in report.tables]
        assert [table.events for table in told if not table.failed] == [1]
        [failed] = [table for table in told if table.stopped]
        assert "change `name` or `namespace` of pipeline shop so that they differ" in failed.failed
        assert len(fleet.load(f"{ingest.namespace}.orders_changelog").scan().to_arrow()) == 1
        assert (await ingest.settle("resume-table", table=failed.table)).status == "done"
        assert (await ingest.batch()).tables[0].stopped


async def test_rows_before_any_schema_event_wait_for_one(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(insert(1))
        [failed] = (await ingest.batch()).tables
        assert failed.stopped
        assert "write a schema event (docs/formats/cdc-buffer.md)" in failed.failed
        await ingest.producer.transaction(schema_event(), insert(2))
        await ingest.settle("resume-table", table="public.orders")
        await ingest.batch()
        assert ingest.said() == [("insert", 1), ("insert", 2)]


async def test_events_that_a_first_copy_holds_are_left_out(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(0))
        await ingest.batch()
        await ingest.buffer.set_copying("public", "orders")
        copied = [await ingest.producer.transaction(insert(number)) for number in range(1, 4)][-1]
        assert (await ingest.batch()).to_copy == ["public.orders"]
        await ingest.buffer.set_copy_sent("public", "orders", copied)
        await ingest.buffer.set_copied("public", "orders", copied)
        await ingest.batch()
        assert ingest.said() == [("insert", 0), ("insert", 3)]
        assert await ingest.tables() == {"orders": ("active", 0)}


async def test_a_changelog_that_is_not_as_it_was_left_stops_its_table_and_a_person_may_take_it_as_it_is(
    fleet, postgres
):
    async with opened(fleet, postgres) as ingest:
        producer = ingest.producer
        for name in ("dropped", "rolled", "foreign"):
            await producer.transaction(schema_event(table=name), insert(1, table=name))
            await ingest.batch()
            await producer.transaction(insert(2, table=name))
            await ingest.batch()
        await producer.transaction(*(insert(3, table=name) for name in ("dropped", "rolled", "foreign")))
        ingest.context.lake.catalog.drop_table(ingest.identifier("dropped"))
        rolled = ingest.table("rolled")
        rolled.manage_snapshots().set_current_snapshot(rolled.snapshots()[0].snapshot_id).commit()
        with ingest.table("foreign").transaction() as change:
            change.set_properties({"icefleet.cdc.buffer": "another"})
        report = await ingest.batch()
        told = {table.table.removeprefix("public."): table.failed for table in report.tables}
        assert all(table.stopped for table in report.tables)
        assert "is not in the catalog any more, and had events up to" in told["dropped"]
        assert "was rolled back" in told["rolled"]
        assert "was filled from another buffer (another)" in told["foreign"]
        assert all("icefleet cdc install --again" in cause for cause in told.values())
        await producer.transaction(schema_event(table="dropped"))
        for name in told:
            assert (await ingest.settle("resume-table", table=name)).status == "done"
        report = await ingest.batch()
        assert [table.failed for table in report.tables] == ["", "", ""]
        assert {name: [number for _, number in ingest.said(name)] for name in told} == {
            "dropped": [3],
            "rolled": [1, 3],
            "foreign": [1, 2, 3],
        }


async def test_without_a_buffer_a_batch_says_how_to_make_one(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await ingest.buffer.drop()
        with pytest.raises(PostgresRefused, match="icefleet cdc install"):
            await ingest.batch()


async def test_tables_and_columns_of_any_names_are_carried_over(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        # A name that this catalog does not take stops its table alone.
        strange = 'Order_"x";_--'
        told = schema_event([{"name": name, "type": "text"} for name in ("id", "sélect", 'a"b', "c,d")])
        await Producer(postgres).transaction(
            told, Event("insert", {"id": "1", "sélect": 'é\n"q"', 'a"b': ",", "c,d": "\\N"})
        )
        await Producer(postgres, lsn=0x900).transaction(schema_event(table=strange), insert(1, table=strange))
        report = await ingest.batch()
        [failed] = [table for table in report.tables if table.failed]
        assert (failed.table, failed.stopped) == (f"public.{strange}", True)
        assert failed.failed.startswith("CatalogRefused: ")
        [found] = ingest.rows()
        assert (found["sélect"], found['a"b'], found["c,d"]) == ('é\n"q"', ",", "\\N")
