"""What ails a pipeline's slot or tables becomes findings, said beside the capture: NATS being away delays nothing."""

import asyncio
from collections.abc import Mapping

import structlog

from activities.cdc_context import CdcContext, PipelineConfig
from activities.core.faults import Fault
from activities.findings import LISTED_PARTITIONS, finding, finding_subject, publish_changed
from icefleet.v1.events_pb2 import Finding, FoundPartition

LAST_WORD_SECONDS = 15.0
"""How long NATS is waited for with what no later look says again."""
TRY_AGAIN_SECONDS = 1.0
DETAIL_LENGTH = 1000

log = structlog.get_logger("icefleet.capture")


class PipelineFindings:
    """One pipeline's findings of all kinds, for as long as somebody looks; `close` it at the end.

    Of each kind they are a mapping: slot or table → what is wrong with it; empty when all is well.
    """

    def __init__(self, context: CdcContext, pipeline: PipelineConfig) -> None:
        self._context = context
        self._pipeline = pipeline
        self._wanted: dict[str, Mapping[str, str]] = {}
        self._said: dict[str, Mapping[str, str]] = {}
        """What the stream holds for certain; a kind is missing while nobody has looked."""
        self._away = False
        self._task: asyncio.Task[None] | None = None

    def tell(self, kind: str, found: Mapping[str, str]) -> None:
        """Say what is wrong now; what NATS does not take is said with the next call."""
        self._wanted[kind] = found
        if self._said.get(kind) != found and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._say())

    async def end(self, kind: str, found: Mapping[str, str]) -> None:
        """Say what nobody will look at again, and wait for that a little."""
        await self.close()
        self._wanted = {kind: found}
        try:
            async with asyncio.timeout(LAST_WORD_SECONDS):
                while self._said.get(kind) != found:
                    await self._say()
                    if self._said.get(kind) != found:
                        await asyncio.sleep(TRY_AGAIN_SECONDS)
        except TimeoutError:
            self._warn("nobody answers")

    async def close(self) -> None:
        """Let go of what is under way: the next look says it again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _say(self) -> None:
        while unsaid := [kind for kind, found in self._wanted.items() if self._said.get(kind) != found]:
            kind, found = unsaid[0], self._wanted[unsaid[0]]
            try:
                await self._publish(kind, found)
            except Fault as away:
                self._warn(str(away))
                return
            self._said[kind], self._away = found, False

    async def _publish(self, kind: str, found: Mapping[str, str]) -> None:
        environment, namespace = self._context.environment, self._pipeline.rules.namespace
        every = [FoundPartition(partition=what, detail=why[:DETAIL_LENGTH]) for what, why in sorted(found.items())]
        listed, omitted = every[:LISTED_PARTITIONS], len(every[LISTED_PARTITIONS:])

        def event(_: Finding) -> Finding:
            return finding(environment, namespace, self._pipeline.name, kind, listed, omitted=omitted)

        subject = finding_subject(environment, namespace, self._pipeline.name, kind)
        await publish_changed(self._context.bus, subject, event)

    def _warn(self, cause: str) -> None:
        if not self._away:
            log.warning("a pipeline's findings could not be published yet", pipeline=self._pipeline.name, cause=cause)
        self._away = True
