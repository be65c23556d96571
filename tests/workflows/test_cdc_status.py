"""What `icefleet cdc status` knows of loops: also why a table does not go on that is not stopped."""

from activities.clients.buffer import Buffer
from activities.core.faults import CatalogRefused
from support.buffers import SCHEMA
from support.cdcloops import NOWHERE, PIPELINE, batch, ingested, loops, progress_of
from support.fleet import eventually
from worker.cdc_status import look_at


async def test_status_says_why_a_table_waits_and_what_a_loop_waits_for(fleet, postgres):
    await Buffer(postgres.settings, SCHEMA).install()
    await postgres.run(
        f"INSERT INTO {SCHEMA}.tables (source_schema, source_table, state) "
        "VALUES ('public', 'a', 'copying'), ('public', 'b', 'active'), ('public', 'c', 'active')"
    )
    failed = batch("public.b", events=0, snapshot_id="", failed="CatalogUnavailable: 503")
    async with loops(fleet) as own:
        own.rooms.waits = "room in the buffer"
        own.rooms.ingests = [ingested(batch("public.c"), failed, to_copy=["public.a"])]
        own.rooms.copied["public.a"] = CatalogRefused("no table may be called A")
        await own.capture()
        loop = await own.ingest()
        why = "CatalogRefused: no table may be called A (who must act: operator)"
        await progress_of(loop, copies={"waiting": ["public.a"], "under_way": [], "failed": {"public.a": why}})
        fleet.set_cdc(**{PIPELINE: {"buffer": postgres.config(schema=SCHEMA), "source": NOWHERE}})

        async def waiting():
            report = await look_at(fleet.settings().environment(fleet.name), PIPELINE)
            return report if report.loops["capture"].cause else None

        report = await eventually(waiting)
    assert {line.table: line.cause for line in report.tables} == {
        "public.a": f"its copy failed: {why}",
        "public.b": "CatalogUnavailable: 503",
        "public.c": "",
    }
    assert (report.loops["capture"].state, report.loops["capture"].cause) == ("running", "waits for room in the buffer")
