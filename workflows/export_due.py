"""What a Schedule starts: a request for whatever is due, to the loop of each network of a table."""

import asyncio
from dataclasses import replace
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ChildWorkflowError, is_cancelled_exception

from activities.contracts.due import DUE_WORKFLOW, DueReport, DueRequest, NetworkReport
from activities.contracts.export import (
    ENVIRONMENT_ATTRIBUTE,
    REQUEST_WORKFLOW,
    TABLE_ATTRIBUTE,
    ExportActivities,
    ExportReport,
    ExportRequest,
    NetworksInput,
)
from activities.contracts.inputs import read_only_input, write_input
from workflows.door import failed, told
from workflows.failures import cause_of
from workflows.policies import DELIVER

LISTED = 20
"""Failures, suspended partitions and snapshots of each network that the report repeats; its loop's names more."""
STATUSES = ("nothing_to_do", "complete", "cancelled", "partial", "failed")
"""From best to worst."""
FAILED = frozenset({"cancelled", "partial", "failed"})


@workflow.defn(name=DUE_WORKFLOW)
class ExportDue:
    """One `RequestExport` for each network, at the same time; what fails keeps no other network from going on."""

    def __init__(self) -> None:
        self._ended: dict[str, str] = {}

    @workflow.run
    async def run(self, *payloads: Any) -> DueReport:
        """Run to the last network's report; fail when any of them failed, or some of its partitions."""
        asked = read_only_input(DueRequest, payloads)
        workflow.upsert_search_attributes(
            [ENVIRONMENT_ATTRIBUTE.value_set(asked.environment), TABLE_ATTRIBUTE.value_set(asked.table)]
        )
        networks = await self._networks(asked)
        self._ended = dict.fromkeys(networks, "under way")
        reports = await asyncio.gather(*(self._ask(asked, network) for network in networks))
        worst = max((report.status for report in reports), key=STATUSES.index, default="nothing_to_do")
        message = "; ".join(f"{report.network}: {report.message}" for report in reports)
        causes = [report for report in reports if report.status in FAILED]
        report = DueReport(worst, message, networks=list(reports))
        if causes:
            report.cause, report.who = causes[0].cause or "Partial", causes[0].who
            raise failed(report)
        return report

    async def _networks(self, asked: DueRequest) -> list[str]:
        try:
            wanted = NetworksInput(asked.environment, asked.table, asked.networks)
            networks: list[str] = await workflow.execute_activity_method(
                ExportActivities.list_networks, wanted, **DELIVER
            )
        except ActivityError as failure:
            raise told(failure) from failure
        return networks

    async def _ask(self, asked: DueRequest, network: str) -> NetworkReport:
        request = ExportRequest(asked.table, network, asked.environment, max_partitions=asked.max_partitions)
        try:
            report: ExportReport = await workflow.execute_child_workflow(
                REQUEST_WORKFLOW,
                write_input(request),
                id=f"{workflow.info().workflow_id}/{network}",
                result_type=ExportReport,
                static_summary=f"whatever is due of {network}.{asked.table}",
            )
        except ChildWorkflowError as failure:
            if workflow.cancellation_reason() is not None:
                raise asyncio.CancelledError from failure
            found = _without_report(network, failure)
        else:
            found = _with_report(network, report)
        self._ended[network] = f"{found.status}: {found.message}"
        workflow.set_current_details("\n".join(f"- **{name}**: {said}" for name, said in self._ended.items()))
        return found


def _with_report(network: str, report: ExportReport) -> NetworkReport:
    cause, who, message = report.cause, report.who, report.message
    if report.failures:
        first = report.failures[0]
        cause, who = first.cause, first.who
        message += f" ({first.partition}: {first.cause}: {first.message})"
    short = replace(
        report,
        failures=report.failures[:LISTED],
        suspensions=report.suspensions[:LISTED],
        snapshots=report.snapshots[-LISTED:],
    )
    return NetworkReport(network, report.status, message, cause, who, short)


def _without_report(network: str, failure: ChildWorkflowError) -> NetworkReport:
    if is_cancelled_exception(failure):
        return NetworkReport(network, "cancelled", "the request was cancelled", "Cancelled", "user")
    cause, message, who = cause_of(failure)
    return NetworkReport(network, "failed", message, cause, who)
