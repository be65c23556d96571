"""What ails a pipeline's slot becomes a finding, said beside the capture: NATS being away delays nothing else."""

import asyncio

import structlog

from activities.cdc_context import CaptureFrom, CdcContext, PipelineConfig
from activities.contracts.findings import RETAINED
from activities.core.faults import Fault
from activities.findings import finding, finding_subject, publish_changed
from icefleet.v1.events_pb2 import Finding, FoundPartition

LAST_WORD_SECONDS = 15.0
"""How long NATS is waited for with what no later look says again."""
TRY_AGAIN_SECONDS = 1.0

log = structlog.get_logger("icefleet.capture")


class SlotFinding:
    """One pipeline's finding, for as long as somebody looks at its slot; `close` it at the end."""

    def __init__(self, context: CdcContext, pipeline: PipelineConfig, source: CaptureFrom) -> None:
        self._context = context
        self._pipeline = pipeline
        self._source = source
        self._wanted = ""
        self._said: str | None = None
        """What the stream holds for certain; None: nobody has looked."""
        self._away = False
        self._task: asyncio.Task[None] | None = None

    def tell(self, detail: str) -> None:
        """Say what is wrong now, empty when all is well; what NATS does not take is said with the next call."""
        self._wanted = detail
        if detail != self._said and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._say())

    async def end(self, detail: str) -> None:
        """Say what nobody will look at again, and wait for that a little."""
        await self.close()
        self._wanted = detail
        try:
            async with asyncio.timeout(LAST_WORD_SECONDS):
                while self._said != detail:
                    await self._say()
                    if self._said != detail:
                        await asyncio.sleep(TRY_AGAIN_SECONDS)
        except TimeoutError:
            self._warn("nobody answers")

    async def close(self) -> None:
        """Let go of what is under way: the next look says it again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _say(self) -> None:
        while self._said != self._wanted:
            detail = self._wanted
            try:
                await self._publish(detail)
            except Fault as away:
                self._warn(str(away))
                return
            self._said, self._away = detail, False

    async def _publish(self, detail: str) -> None:
        environment, namespace = self._context.environment, self._pipeline.rules.namespace
        found = [FoundPartition(partition=self._source.slot, detail=detail)] if detail else []

        def event(_: Finding) -> Finding:
            return finding(environment, namespace, self._pipeline.name, RETAINED, found)

        subject = finding_subject(environment, namespace, self._pipeline.name, RETAINED)
        await publish_changed(self._context.bus, subject, event)

    def _warn(self, cause: str) -> None:
        if not self._away:
            log.warning("what ails a slot could not be published yet", pipeline=self._pipeline.name, cause=cause)
        self._away = True
