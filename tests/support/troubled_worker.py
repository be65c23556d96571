"""A worker whose activities and workflow fail in every way, and log on the way."""

import asyncio
import logging
import os
import signal
import sys
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    import structlog

    from activities.contracts.export import TableInput
    from activities.core.faults import CommitConflict, ResultIncomplete, StoreRefused
    from activities.errors import faults_named
    from worker.hidden_failures import HIDING
    from worker.interceptors import FleetInterceptor
    from worker.registered import SANDBOX
    from worker.telemetry import flush_telemetry, set_up_telemetry

PASSWORD = "open-sesame-9137"
ONCE = RetryPolicy(maximum_attempts=1)


class Activities:
    @activity.defn
    @faults_named
    async def say(self, _: TableInput) -> None:
        activity.logger.info("from the activity")
        structlog.get_logger("ours").info("from structlog", password=PASSWORD)
        await asyncio.to_thread(lambda: logging.getLogger("a.library").warning("from a thread"))

    @activity.defn
    @faults_named
    async def crash(self, _: TableInput) -> None:
        password = PASSWORD
        raise KeyError(f"{password} opens nothing")

    @activity.defn
    @faults_named
    async def refuse(self, _: TableInput) -> None:
        raise StoreRefused("for an operator")

    @activity.defn
    @faults_named
    async def lose(self, _: TableInput) -> None:
        raise CommitConflict("everyday life")

    @activity.defn
    @faults_named
    async def misjudge(self, _: TableInput) -> None:
        raise ResultIncomplete("ours to mend")

    @activity.defn
    @faults_named
    async def wait(self, _: TableInput) -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(0.05)


@workflow.defn
class Troubled:
    @workflow.run
    async def run(self, asked: dict[str, str]) -> None:
        table = TableInput(asked["environment"], asked["table"], asked["network"])
        workflow.logger.info("from the workflow")
        for method in (Activities.say, Activities.crash, Activities.refuse, Activities.lose, Activities.misjudge):
            try:
                await workflow.execute_activity_method(
                    method, table, start_to_close_timeout=timedelta(seconds=20), retry_policy=ONCE
                )
            except ActivityError:
                continue
        waiting = workflow.start_activity_method(
            Activities.wait,
            table,
            start_to_close_timeout=timedelta(seconds=20),
            heartbeat_timeout=timedelta(seconds=5),
            retry_policy=ONCE,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        await asyncio.sleep(0.2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        if asked["ending"] == "crash":
            raise LookupError(f"a mistake in a workflow: {PASSWORD}")
        raise ApplicationError(
            "a user asked for what cannot be", {"who must act": "user", "asked": PASSWORD}, non_retryable=True
        )


async def main(address: str, queue: str) -> None:
    client = await Client.connect(address, interceptors=[FleetInterceptor()], data_converter=HIDING)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    own = Activities()
    methods = [own.say, own.crash, own.refuse, own.lose, own.misjudge, own.wait]
    interval = timedelta(seconds=0.1)
    async with Worker(
        client,
        task_queue=queue,
        workflows=[Troubled],
        activities=methods,
        workflow_runner=SANDBOX,
        max_heartbeat_throttle_interval=interval,
        default_heartbeat_throttle_interval=interval,
    ):
        await stopped.wait()


def run() -> None:
    set_up_telemetry("testing", service="icefleet-worker", secrets=[f"somebody:{PASSWORD}"])
    asyncio.run(main(sys.argv[1], sys.argv[2]))
    flush_telemetry()
    os._exit(0)
