import asyncio, sys, time
import pytest
from support.evidence import make_bulky
from support.faultproxy import Answer, HttpFaults
from test_store_faults_copy import refusal, part_of, PART_BYTES, ROWS
@pytest.mark.parametrize("n", range(25))
async def test_hang(fleet, n):
    fleet.set_export(part_size_bytes=PART_BYTES)
    table = await make_bulky(fleet, days=2, rows=ROWS)
    async with HttpFaults(fleet.stack.ports["s3"]) as store:
        fleet.point(s3=store.port)
        store.on(Answer(403, refusal("AccessDenied"), "application/xml"), method="PUT", path=part_of(20, 2), times=None)
        async with fleet.worker():
            r = await fleet.start(table)
            try:
                which = "first"
                await asyncio.wait_for(r.result(), 25)
                store.mend(); which = "second"
                r = await fleet.start(table)
                await asyncio.wait_for(r.result(), 25)
            except TimeoutError:
                d = await fleet.loop(table).describe()
                print("HUNG", which, d.status, d.raw_description.pending_activities, d.raw_description.pending_workflow_task)
                print(await fleet.sql("select query_id, elapsed, query from system.processes"))
                for t in asyncio.all_tasks():
                    t.print_stack(file=sys.stdout)
                print([(s.method, s.path[-80:]) for s in list(store.seen)[-25:]])
                raise
