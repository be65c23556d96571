"""Holding a table against its source, page by page. It writes nothing, so it needs no loop and disturbs none."""

import asyncio
import contextlib
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.contracts.export import (
    ENVIRONMENT_ATTRIBUTE,
    NETWORK_ATTRIBUTE,
    PROGRESS_QUERY,
    TABLE_ATTRIBUTE,
    table_identifier,
)
from activities.contracts.findings import LISTED_FOUND, VALUES, VERIFIED, FoundPartition, Look
from activities.contracts.inputs import bad_request, read_only_input, write_input
from activities.contracts.verify import (
    LISTED_FINDINGS,
    SOUND,
    UNEXPECTED,
    VERIFY_WORKFLOW,
    Finding,
    Looked,
    LookInput,
    PartitionToRead,
    ReadInput,
    ReadReport,
    VerifyActivities,
    VerifyReport,
    VerifyRequest,
)
from workflows.door import told
from workflows.findings import Findings
from workflows.policies import COMPARE, LOOK
from workflows.queues import queues_of

PARTITIONS_PER_READ = 32
PUBLISHING = timedelta(minutes=1)
ROWS_PER_READ = 1_000_000
"""Small partitions are read by one activity, up to so many of them or so many rows."""


@dataclass
class _Progress:
    """Where a verification is, and what it has found so far."""

    first: str = ""
    last: str = ""
    left: int = 0
    report: VerifyReport = field(default_factory=VerifyReport)

    def looked(self, page: Looked) -> None:
        """Count a page."""
        report = self.report
        self.first, self.last, self.left = page.first, page.last, page.left
        report.expected += page.expected
        report.rows += page.rows
        report.bytes += page.bytes
        self._count(page.counts, 1)
        self._list(page.findings)

    def compared(self, partitions: int, read: ReadReport) -> None:
        """Count partitions whose values were compared; their place among the proved ones they had already."""
        self.report.read += partitions
        self._count({"proved": partitions}, -1)
        self._count(read.counts, 1)
        self._list(read.findings)
        for column, count in read.not_compared.items():
            self.report.not_compared[column] = self.report.not_compared.get(column, 0) + count

    def _count(self, counts: dict[str, int], sign: int) -> None:
        for kind, count in counts.items():
            self.report.counts[kind] = self.report.counts.get(kind, 0) + sign * count
            if kind not in SOUND:
                self.report.found += count

    def _list(self, findings: list[Finding]) -> None:
        self.report.findings.extend(findings[: LISTED_FINDINGS - len(self.report.findings)])

    def end(self, identifier: str, *, deep: bool) -> VerifyReport:
        """The report, closed."""
        report = self.report
        report.status = "findings" if report.found else "proved"
        report.message = f"{identifier}: {self.words(deep=deep)}"
        return report

    def words(self, *, deep: bool) -> str:
        """What was seen so far, in one sentence."""
        report = self.report
        counts = {kind: count for kind, count in report.counts.items() if count}
        proved = counts.pop("proved", 0)
        parts = [f"{proved} of {report.expected} partitions proved{' by their values' if deep else ''}"]
        parts += [f"{count} {kind}" for kind, count in counts.items()]
        return f"{', '.join(parts)}; {report.rows:,} rows"

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> "_Progress":
        """What `asdict` gave, read back."""
        report = dict(dumped["report"])
        findings = [Finding(**finding) for finding in report.pop("findings")]
        rest = {name: value for name, value in dumped.items() if name != "report"}
        return cls(**rest, report=VerifyReport(**report, findings=findings))


@workflow.defn(name=VERIFY_WORKFLOW)
class VerifyTable:
    """Look at every partition of a request, read what is to be read, and answer with what was found."""

    def __init__(self) -> None:
        self._request = VerifyRequest("", "")
        self._progress = _Progress()
        self._reading: list[str] = []
        self._findings = Findings()
        self._queue = ""

    @workflow.run
    async def run(self, *payloads: Any) -> VerifyReport:
        """Run to the report, or continue as new when the history has grown."""
        self._open(read_only_input(VerifyRequest, payloads))
        try:
            return await self._verify()
        except ActivityError as failure:
            raise told(failure) from failure

    def _open(self, request: VerifyRequest) -> None:
        if request.newest < 0:
            raise bad_request(f"field 'newest' is a number of partitions, and {request.newest} is none")
        self._request = replace(request, carried=None)
        try:
            self._progress = _Progress.load(request.carried) if request.carried is not None else _Progress()
        except (AttributeError, KeyError, TypeError) as wrong:
            raise bad_request(
                f"field 'carried' is what a run hands to its successor, and this is not: {wrong!r}; leave it out"
            ) from wrong
        workflow.upsert_search_attributes(
            [
                ENVIRONMENT_ATTRIBUTE.value_set(request.environment),
                TABLE_ATTRIBUTE.value_set(request.table),
                NETWORK_ATTRIBUTE.value_set(request.network),
            ]
        )

    async def _verify(self) -> VerifyReport:
        request, progress = self._request, self._progress
        pages = 0
        self._queue = (await queues_of(request.environment, request.table, request.network)).verify
        while True:
            page = await self._look()
            self._show()
            values = await self._read_all(page)
            self._publish(VERIFIED, page.looked, page.findings)
            if self._request.deep:
                self._publish(VALUES, page.looked, values)
            pages += 1
            if not progress.first:
                await self._settle()
                return progress.end(table_identifier(request.network, request.table), deep=request.deep)
            if pages >= page.pages_per_run or workflow.info().is_continue_as_new_suggested():
                await self._settle()
                workflow.continue_as_new(args=[write_input(replace(request, carried=asdict(progress)))])

    def _publish(self, kind: str, looked: list[list[str]], findings: list[Finding]) -> None:
        """Say what was found in the partitions of a page; what was found there before, and is not now, has gone."""
        request = self._request
        # Of what lies outside no look could ever say that it has gone: it is counted, and named by the report alone.
        outside = [found for found in findings if not found.partition or found.kind == UNEXPECTED]
        said: dict[str, list[str]] = {}
        for finding in findings:
            if finding not in outside:
                said.setdefault(finding.partition, []).append(f"{finding.kind}: {finding.message}")
        found = [FoundPartition(partition, detail="; ".join(words)) for partition, words in said.items()]
        listed = found[:LISTED_FOUND]
        omitted = len(found) - len(listed)
        if kind == VERIFIED:
            # Those of earlier pages as well: what a later look does not count has gone.
            omitted += self._progress.report.counts.get(UNEXPECTED, 0)
        self._findings.take(Look(request.environment, request.table, request.network, kind, looked, listed, omitted))

    async def _settle(self) -> None:
        """Give what was found time to be published; with NATS away for longer, the next run finds it again."""
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._findings.idle, timeout=PUBLISHING)
        await self._findings.stop()

    async def _look(self) -> Looked:
        request, progress = self._request, self._progress
        page: Looked = await workflow.execute_activity_method(
            VerifyActivities.look_at_partitions,
            LookInput(
                environment=request.environment,
                table=request.table,
                network=request.network,
                request=write_input(request),
                first=progress.first,
                last=progress.last,
            ),
            task_queue=self._queue,
            summary=f"from {progress.first}" if progress.first else "from the first partition",
            **LOOK,
        )
        progress.looked(page)
        return page

    async def _read_all(self, page: Looked) -> list[Finding]:
        slots = asyncio.Semaphore(page.parallel)
        # Every one of them is waited for, also when this is cancelled.
        ended = await asyncio.gather(
            *(self._read(group, slots) for group in groups(page.to_read)), return_exceptions=True
        )
        findings: list[Finding] = []
        for result in ended:
            if isinstance(result, BaseException):
                raise result
            findings += result
        return findings

    async def _read(self, group: list[str], slots: asyncio.Semaphore) -> list[Finding]:
        request = self._request
        async with slots:
            self._reading += group
            try:
                read = await workflow.execute_activity_method(
                    VerifyActivities.compare_values,
                    ReadInput(request.environment, request.table, request.network, group),
                    task_queue=self._queue,
                    summary=group[0] if len(group) == 1 else f"{len(group)} partitions from {group[0]}",
                    **COMPARE,
                )
            finally:
                self._reading = [partition for partition in self._reading if partition not in group]
            self._progress.compared(len(group), read)
            self._show()
            return list(read.findings)

    @workflow.query(name=PROGRESS_QUERY)
    def progress(self) -> dict[str, Any]:
        """The report so far, how many partitions are left to be looked at, and those that are being read."""
        return {**asdict(self._progress.report), "left": self._progress.left, "reading": len(self._reading)}

    def _show(self) -> None:
        """The same for people: the current details that the Temporal UI renders."""
        if not workflow.in_workflow():
            return  # the coroutines of a run that left the worker's cache are closed outside of it
        request, progress = self._request, self._progress
        lines = [
            f"**{table_identifier(request.network, request.table)}**",
            f"- {progress.words(deep=request.deep)}; {progress.left} left to be looked at",
            *([f"- reading {self._reading[0]} and {len(self._reading) - 1} more"] if self._reading else []),
            *(f"- {found.kind} {found.partition}: {found.message}" for found in progress.report.findings[:10]),
        ]
        workflow.set_current_details("\n".join(lines))


def groups(partitions: list[PartitionToRead]) -> list[list[str]]:
    """Partitions that one activity reads: a few small ones, or one of any size."""
    found: list[list[str]] = []
    rows = 0
    for partition in partitions:
        rows += partition.rows
        if not found or len(found[-1]) >= PARTITIONS_PER_READ or rows > ROWS_PER_READ:
            found.append([])
            rows = partition.rows
        found[-1].append(partition.partition)
    return found
