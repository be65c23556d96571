"""From the buffer to changelogs: every event once, in order, whatever becomes of the tables."""

from support.buffers import delete, insert, schema_event, truncate, update
from support.ingests import opened


async def test_events_become_rows_of_the_changelog_with_their_place_in_the_log(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        first = await ingest.producer.transaction(schema_event(), insert(1, "a", "1.50"), insert(2, None, None))
        second = await ingest.producer.transaction(update(1, "b", "2.25"), delete(2))
        report = await ingest.batch()
        print(report)
        rows = ingest.rows()
        print(rows)
        assert [(row["cdc_operation"], row["id"], row["name"], row["amount"]) for row in rows] == []
