"""What is short does not wait for what is long: every kind of work has slots of its own."""

import asyncio
import uuid

from activities.contracts.verify import VERIFY_WORKFLOW, VerifyReport
from support.evidence import make_slow, running_exports
from support.fleet import eventually
from support.upkeep import start_upkeep


async def test_while_every_slot_of_exports_is_taken_verifications_and_upkeep_of_other_tables_go_on(fleet):
    await fleet.make_days(days=3, rows=2_000)
    table = await make_slow(fleet)
    async with fleet.worker(slots=1):
        assert (await fleet.request()).status == "complete"
        long = await fleet.start(table, from_="2024-03-20", to="2024-03-20")
        await eventually(lambda: running_exports(fleet))
        upkeep = await start_upkeep(fleet)
        verification = await fleet.temporal.start_workflow(
            VERIFY_WORKFLOW,
            {"environment": fleet.name, "network": fleet.network, "table": "events", "deep": True},
            id=f"verify-{uuid.uuid4()}",
            task_queue=fleet.queue,
            result_type=VerifyReport,
        )
        assert (await asyncio.wait_for(upkeep.result(), 30)).status in ("complete", "nothing_to_do")
        proved = await asyncio.wait_for(verification.result(), 30)
        assert (proved.status, proved.read) == ("proved", 3)
        assert await running_exports(fleet), "the export was over before the others"
        await long.cancel()
        await fleet.loop_ended(table)
