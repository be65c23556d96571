"""Small partitions that are read with one query: the source takes longer to understand it than to answer it."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import accumulate, takewhile

from temporalio import activity

from activities.beats import Beats
from activities.clients.clickhouse import ARROW_END
from activities.clients.clickhouse_faults import FAILURE_BYTES
from activities.contracts.export import table_identifier
from activities.core.faults import ResultIncomplete, SourceRefused, UnsupportedType
from activities.core.partitions import Ranges
from activities.core.query import together_query
from activities.lake.cutting import cut
from activities.partition import PartitionExport

OWN_QUERY_HELPS = (ResultIncomplete, SourceRefused, UnsupportedType)
"""What one partition may bring upon all that are read with it, or too many of them upon themselves."""


@dataclass
class _Arriving:
    """An answer as it comes."""

    size: int = 0
    """Bytes so far."""


class Together:
    """The files of partitions that are read with one query, each until it is asked for."""

    def __init__(self, beats: Beats) -> None:
        self._beats = beats
        self._files: dict[int, bytes] = {}
        self._asked: set[int] = set()

    async def file_of(self, export: PartitionExport, behind: Sequence[PartitionExport]) -> bytes | None:
        """The file of a partition; None when a query of its own is to make it. It is made once.

        Raises:
            Fault: a query of its own would meet the same.
        """
        if export.index not in self._asked:
            group = self._group([export, *behind])
            self._asked |= {one.index for one in group}
            if len(group) > 1:
                self._files = await self._read(group)
        return self._files.pop(export.index, None)

    def _group(self, exports: Sequence[PartitionExport]) -> list[PartitionExport]:
        """Those at the beginning that may share a query."""
        most = exports[0].subject.context.rows_per_query
        fit = list(takewhile(lambda one: one.is_likely_free and one.index not in self._asked, exports))
        rows = accumulate(one.planned.rows for one in fit)
        return [one for one, together in zip(fit, rows, strict=True) if together <= most]

    async def _read(self, group: Sequence[PartitionExport]) -> dict[int, bytes]:
        subject = group[0].subject
        types = {column.name: column.iceberg for column in subject.columns}
        try:
            stream = await self._fetch(group)
            return await asyncio.to_thread(cut, stream, types)
        except OWN_QUERY_HELPS as fault:
            table = table_identifier(subject.task.network, subject.task.table)
            activity.logger.info("%s: %s partitions are read one by one: %s", table, len(group), fault)
            return {}

    async def _fetch(self, group: Sequence[PartitionExport]) -> bytes:
        """The rows of a group as an Arrow stream that is whole, and no larger than a part of an upload."""
        subject, info = group[0].subject, activity.info()
        task, most = subject.task, subject.context.part_size_bytes
        name = f"{table_identifier(task.network, task.table)} {len(group)} partitions from {group[0].planned.partition}"
        indices = Ranges.from_indices(one.index for one in group)
        query = together_query(subject.config, subject.facts, subject.columns, task.network, indices)
        comment = f"icefleet {name} workflow {info.workflow_id} attempt {info.attempt}"
        arriving, stream = _Arriving(), bytearray()
        async with (
            self._beats.query(subject.clickhouse, group[0].planned.partition, arriving) as query_id,
            aclosing(subject.clickhouse.arrow(query, query_id=query_id, comment=comment)) as chunks,
        ):
            async for chunk in chunks:
                stream += chunk
                arriving.size = len(stream)
                if len(stream) > most:
                    raise ResultIncomplete(f"{name}: more than {most} bytes, which are not held in memory")
        if not stream.endswith(ARROW_END):
            tail = bytes(stream[-FAILURE_BYTES:])
            raise subject.clickhouse.broken(f"{name}: the result ended after {len(stream)} bytes", tail)
        return bytes(stream)
