"""A changelog without its pipeline: rows as CSV lines, committed by hand."""

from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from activities.cdc_context import CdcContext
from activities.core.changelogkeys import batch_keys
from activities.core.changelogs import SystemColumns, lsn_text, sequence_number
from activities.core.drift import Change, ChangelogColumns
from activities.core.eventquery import CsvColumn
from activities.core.iceberg_types import IcebergType, parse_iceberg
from activities.lake import changelog
from activities.lake.rows import ChangelogFiles
from activities.storing import store_file
from worker.wiring_cdc import open_cdc

SYSTEM = SystemColumns()
BUFFER = "6f0d7c1e-0000-4000-8000-000000000001"
PIPELINE = "shop"
SOURCE = "public.orders"
DAY = "2024-03-20"
FIELDS = {"id": "long", "name": "string"}


def kinds(fields: Mapping[str, str]) -> dict[str, IcebergType]:
    return {name: parse_iceberg(kind) for name, kind in fields.items()}


def csv_columns(fields: Mapping[str, IcebergType]) -> list[CsvColumn]:
    """Ours and those of the source, as a query's result has them."""
    return [CsvColumn(name, kind) for name, kind in {**changelog.system_types(SYSTEM), **fields}.items()]


def line(number: int, *values: str, operation: str = "insert", day: str = DAY) -> str:
    """An event: its number is its LSN."""
    ours = (operation, sequence_number(number, 0), lsn_text(number), f"{day} 12:00:00.000001+00", "")
    return ",".join((*ours, *values)) + "\n"


def lines(numbers: Sequence[int], day: str = DAY) -> bytes:
    """Inserts of the table of `FIELDS`."""
    return "".join(line(number, str(number), f"n{number}", day=day) for number in numbers).encode()


@dataclass
class Changelog:
    """One changelog of a fleet, with the store and the catalog as `context` reaches them."""

    context: CdcContext
    identifier: str
    fields: dict[str, str] = field(default_factory=lambda: dict(FIELDS))

    async def create(self) -> changelog.ChangelogState:
        first = changelog.first_properties(PIPELINE, SOURCE, BUFFER, ChangelogColumns((), (), "").dump())
        changelog.create(self.context.lake, self.identifier, kinds(self.fields), SYSTEM, first)
        return self.state()

    def state(self) -> changelog.ChangelogState:
        state = changelog.read_state(self.context.lake, self.identifier)
        assert state is not None
        return state

    async def write(
        self,
        state: changelog.ChangelogState,
        pieces: Sequence[bytes],
        position: int,
        *,
        changes: Sequence[Change] = (),
        fields: Mapping[str, str] | None = None,
        epoch: int = 1,
    ) -> list[changelog.StoredFile]:
        """Files of the pieces in the store, for a commit that makes `changes`."""
        columns = csv_columns(kinds(self.fields if fields is None else fields))
        with ChangelogFiles(changelog.schema_after(state, changes), SYSTEM) as files:
            for piece in pieces:
                files.add(piece, columns)
            return [
                await store_file(
                    self.context,
                    batch_keys(self.identifier, made.day, state.position + 1, position, epoch),
                    made,
                )
                for made in files.finish()
            ]

    def commit(self, state: changelog.ChangelogState, position: int, **more: Any) -> changelog.Committed:
        asked: dict[str, Any] = {
            "columns_text": state.columns,
            "buffer_id": BUFFER,
            "pipeline": PIPELINE,
            "summary": {"icefleet.cdc.events": "2"},
        }
        return changelog.commit(self.context.lake, self.identifier, state, position=position, **{**asked, **more})

    async def append(self, *numbers: int, day: str = DAY) -> changelog.Committed:
        """Events with these numbers, of which the last is the position afterwards."""
        state = self.state()
        files = await self.write(state, [lines(numbers, day)], numbers[-1])
        return self.commit(state, numbers[-1], files=files)


@asynccontextmanager
async def opened(fleet: Any, **fields: Any):
    """A changelog of the fleet's own, not made yet."""
    async with open_cdc(fleet.settings(), fleet.name, fleet.temporal) as context:
        yield Changelog(context, f"{fleet.network}.orders_changelog", **fields)
