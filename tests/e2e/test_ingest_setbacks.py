"""Databases that come back as they were earlier: nothing may be lost by that without a word."""

from support.buffers import SCHEMA, insert, schema_event
from support.ingests import opened, shared_place

shared, fleet, postgres = shared_place()


async def test_a_buffer_that_was_set_back_gives_out_ids_again_and_no_event_passes_for_one_that_is_there(
    fleet, postgres
):
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1))
        await ingest.batch()
        await postgres.run("DROP TABLE IF EXISTS saved", f"CREATE TABLE saved AS SELECT * FROM {SCHEMA}.tables")
        await ingest.producer.transaction(insert(2), insert(3))
        await ingest.batch()
        # As after a restore, or a failover to a standby that was behind.
        columns = [
            name
            for (name,) in await postgres.rows(
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'saved'"
            )
        ]
        await postgres.run(
            f"DELETE FROM {SCHEMA}.tables",
            f"INSERT INTO {SCHEMA}.tables ({', '.join(columns)}) SELECT {', '.join(columns)} FROM saved",
            f"SELECT setval('{SCHEMA}.events_id_seq', 2)",
        )
        await ingest.producer.transaction(insert(4))
        [failed] = (await ingest.batch()).tables
        assert failed.stopped
        assert "the buffer was set back to an earlier state" in failed.failed
        assert (await ingest.settle("resume-table", table="orders")).status == "done"
        await ingest.drain()
        assert ingest.said() == [("insert", number) for number in (1, 2, 3, 4)]
        assert await ingest.tables() == {"orders": ("active", 0)}
        # And it goes on.
        await ingest.producer.transaction(insert(5))
        assert (await ingest.batch()).events == 1


async def test_a_changelog_that_its_catalog_has_as_it_was_earlier_stops_its_table(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1))
        await ingest.batch()
        before = ingest.table()
        await ingest.producer.transaction(insert(2))
        await ingest.batch()
        with ingest.table().transaction() as change:
            ours = {name: text for name, text in before.properties.items() if name.startswith("icefleet.cdc.")}
            change.set_properties(ours)
        ingest.table().manage_snapshots().set_current_snapshot(before.current_snapshot().snapshot_id).commit()
        await ingest.producer.transaction(insert(3))
        [failed] = (await ingest.batch()).tables
        assert failed.stopped
        assert "holds events up to 2, and had them up to 3" in failed.failed
        assert (await ingest.settle("resume-table", table="orders")).status == "done"
        await ingest.batch()
        assert ingest.said() == [("insert", 1), ("insert", 3)]


async def test_a_changelog_that_is_gone_after_its_copy_is_missed_though_no_event_came_since(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await ingest.buffer.set_copying("public", "orders")
        await ingest.buffer.set_copy_sent("public", "orders", 0x100)
        await ingest.buffer.set_copied("public", "orders", 0x100)
        await ingest.producer.transaction(schema_event(), insert(1))
        [failed] = (await ingest.batch()).tables
        assert failed.stopped
        assert "is not in the catalog any more" in failed.failed
        assert (await ingest.settle("resume-table", table="orders")).status == "done"
        await ingest.batch()
        assert ingest.said() == [("insert", 1)]
