"""The export activities called directly, as a worker would, without a loop that keeps their order."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.context import ExportContext
from activities.contracts.export import (
    AnnounceReport,
    CommitInput,
    CommitReport,
    ExportedPartition,
    PartitionsInput,
    Plan,
    PlanInput,
    PlannedPartition,
    PublishReport,
    TableInput,
)
from activities.export import Export
from support.evidence import _bucket
from support.fleet import Fleet

COMMIT = {"method": "POST", "path": r"/tables/events$"}
"""The catalog's requests that commit to the table called `events`."""


class Hands:
    """One worker's hands on one table, for a test that plays the loop itself."""

    def __init__(self, fleet: Fleet, context: ExportContext, *, table: str = "events", request_id: str = "r") -> None:
        self.fleet = fleet
        self.context = context
        self.table = table
        self.request_id = request_id
        self._export = Export(context)

    @property
    def _where(self) -> dict[str, str]:
        return {"environment": self.fleet.name, "table": self.table, "network": self.fleet.network}

    async def plan(self, **request: Any) -> Plan:
        """Plan a request; without fields it is for whatever is due."""
        asked = {name.rstrip("_"): value for name, value in request.items()} | self._where
        plan: Plan = await ActivityEnvironment().run(
            self._export.plan_partitions, PlanInput(**self._where, request_id=self.request_id, request=asked)
        )
        return plan

    async def export(self, planned: PlannedPartition, *, attempt: int = 1) -> ExportedPartition:
        """Make one partition's object."""
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, attempt=attempt)
        exported: list[ExportedPartition] = await environment.run(
            self._export.export_partitions,
            PartitionsInput(**self._where, request_id=self.request_id, planned=[planned]),
        )
        return exported[0]

    async def export_all(self, plan: Plan, *, attempt: int = 1) -> list[ExportedPartition]:
        """Make the object of every partition of a plan, one after the other."""
        return [await self.export(planned, attempt=attempt) for planned in plan.todo]

    async def commit(self, files: Sequence[ExportedPartition], empty_ranges: Sequence[list[str]] = ()) -> CommitReport:
        """Commit a page."""
        report: CommitReport = await ActivityEnvironment().run(
            self._export.commit_partitions,
            CommitInput(**self._where, files=list(files), empty_ranges=list(empty_ranges)),
        )
        return report

    async def announce(self) -> AnnounceReport:
        """Announce what is to be announced."""
        report: AnnounceReport = await ActivityEnvironment().run(
            self._export.announce_snapshots, TableInput(**self._where)
        )
        return report

    async def publish(self) -> PublishReport:
        """Publish the head, if it is not."""
        report: PublishReport = await ActivityEnvironment().run(
            self._export.publish_metadata, TableInput(**self._where)
        )
        return report

    async def run(self, **request: Any) -> CommitReport:
        """A page from plan to commit."""
        plan = await self.plan(**request)
        return await self.commit(await self.export_all(plan), plan.empty_ranges)


def metadata_files(fleet: Fleet, table: str = "events") -> tuple[set[str], set[str]]:
    """Manifests and manifest lists of a table: those that its snapshots name, and those that lie there unnamed."""
    loaded = fleet.table(table)
    named = set()
    for snapshot in loaded.snapshots():
        named.add(snapshot.manifest_list)
        named |= {manifest.manifest_path for manifest in snapshot.manifests(loaded.io)}
    bucket, _, prefix = loaded.location().removeprefix("s3://").partition("/")
    with _bucket(fleet) as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/metadata/")
        there = {f"s3://{bucket}/{entry['Key']}" for page in pages for entry in page.get("Contents", [])}
    return named, {path for path in there - named if path.endswith(".avro")}
