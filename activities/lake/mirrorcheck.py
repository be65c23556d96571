"""A mirror held against the fold of its changelog, in ranges of keys, with no more in memory than one of them."""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import structlog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from activities.core import fold
from activities.core.keyranges import KeyRanges
from activities.core.mirrors import MirrorConfig, Watermark
from activities.core.sequences import greatest
from activities.lake.changecolumns import operations_of, sequences_of
from activities.lake.changepieces import COMPRESSION
from activities.lake.changereading import Projection, as_type
from activities.lake.changestate import Merged, changes_of, merged
from activities.lake.content import Files
from activities.lake.indexstore import MirrorIndex
from activities.lake.live import live_files
from activities.lake.mirror import Mirror
from activities.lake.mirrorcompare import FILE, ROW, RangeFound, Terms, compare, reduced
from activities.lake.mirrorrows import live_rows
from activities.lake.schema import to_pure
from activities.lake.spilling import Spill, check_room

RANGE_BYTES = 128 * 2**20
"""Changes of a range, as Arrow holds them, more or less; a range with more is cut into several, and folded as it is
read where that does not help, since one key has so many."""
SPILLED = 3
"""So many times as large as objects are their rows on this machine's disk, if all ranges are compared."""

log = structlog.get_logger("icefleet.verify")


@dataclass(frozen=True)
class Asked:
    """Which ranges of keys are compared, and where rows may lie meanwhile."""

    ranges: int
    samples: int
    seed: int
    directory: Path
    stopped: threading.Event
    """Set when nobody waits any more."""


class Stopped(Exception):  # noqa: N818 - nothing is wrong
    """Nobody waits for an answer any more."""


def check(
    config: MirrorConfig, mirror: Mirror, changelog: Table, files: Files, index: MirrorIndex | None, asked: Asked
) -> RangeFound:
    """Compare a mirror with the fold of what it has merged, and with its index if there is one.

    Raises:
        BadRequest: this machine's disk has no room for what is compared.
        WatermarkLost: what it has merged cannot be told any more.
        ChangeInvalid, ObjectRefused, StoreUnavailable: something cannot be read.
    """
    return _Check(config, mirror, changelog, files, index, asked).run()


class _Check:
    def __init__(
        self,
        config: MirrorConfig,
        mirror: Mirror,
        changelog: Table,
        files: Files,
        index: MirrorIndex | None,
        asked: Asked,
    ) -> None:
        self._config, self._mirror, self._changelog = config, mirror, changelog
        self._files, self._index, self._asked = files, index, asked
        self._watermark = mirror.watermark or Watermark(str(changelog.metadata.table_uuid), None, 0, 0)
        self._columns = self._shared()

    def run(self) -> RangeFound:
        before = merged(self._changelog, self._watermark, self._config)
        asked = self._asked
        parts = max(1, before.bytes * COMPRESSION // RANGE_BYTES // max(1, asked.ranges))
        ranges = KeyRanges.pick(asked.ranges, asked.samples, asked.seed, parts)
        self._check_room(before, ranges)
        changes, truncated = self._spill_changes(before, ranges)
        rows = self._spill_rows(ranges)
        terms = self._terms(truncated)
        found = RangeFound()
        for number in ranges.chosen:
            self._go_on()
            entries = None if self._index is None else self._index.entries(*ranges.bounds(number))
            found += compare(self._changes(changes, number, terms), rows.read(number), terms, entries)
        return found

    def _check_room(self, before: Merged, ranges: KeyRanges) -> None:
        """Before anything is read: whether what the chosen ranges take is there."""
        held = before.bytes + sum(one.data.file_size_in_bytes for one in live_files(self._mirror.table).values())
        wanted = held * SPILLED * len(ranges.chosen) // ranges.count
        directory, where = self._asked.directory, f"mirror {self._config.mirror}"
        log.info("rows are put on this machine's disk", mirror=self._config.mirror, bytes=wanted, at=str(directory))
        check_room(directory, wanted, where)

    def _changes(self, spilled: Spill, number: int, terms: Terms) -> pa.Table:
        """The changes of a range; of more than fit, such as all those of one key, only what later ones cannot say."""
        held, most = pa.table({}), RANGE_BYTES
        for run in spilled.runs(number):
            self._go_on()
            held = pa.concat_tables([held, run]) if held.num_columns else run
            if held.nbytes > most:
                held = reduced(held, terms)
                most = max(RANGE_BYTES, 2 * held.nbytes)
        return held

    def _shared(self) -> dict[str, str]:
        """What the changelog calls a column today → the mirror's column; those that one of them lacks do not count."""
        today = {str(field.field_id): field.name for field in self._changelog.schema().fields}
        held = {field.name for field in self._mirror.table.schema().fields}
        named = self._mirror.columns.items()
        return {today[number]: name for name, number in named if number in today and name in held}

    def _terms(self, truncated: str) -> Terms:
        schema = self._changelog.schema()
        every = [field.name for field in schema.fields]
        return Terms(
            config=self._config,
            types={name: to_pure(schema.find_field(name).field_type) for name in self._columns},
            every=every,
            unchanged=self._config.unchanged_column if self._config.unchanged_column in every else "",
            truncated=truncated,
            horizon=self._watermark.horizon,
        )

    def _spill_changes(self, before: Merged, ranges: KeyRanges) -> tuple[Spill, str]:
        """All merged changes, and the greatest sequence number of a truncate, 32 hex digits; empty: there was none."""
        config, where = self._config, f"changelog {self._config.changelog}"
        names = {field.name for field in self._changelog.schema().fields}
        ours = [config.operation_column, *({config.unchanged_column} & names)]
        wanted = Projection(
            self._changelog, (*ours, *(name for name in self._columns if name not in ours)), config.unchanged_column
        )
        spill = Spill(self._asked.directory / "changes", wanted.arrow, ranges, config.primary_keys, where)
        truncated = ""
        for table in changes_of(before, wanted, config, self._files):
            self._go_on()
            operations = operations_of(
                table.column(config.operation_column), f"{where}, column {config.operation_column}"
            )
            truncates = operations == fold.TRUNCATE
            if truncates.any():
                numbers = table.column(config.sequence_column).filter(pa.array(truncates))
                column = f"{where}, column {config.sequence_column}"
                truncated = max(truncated, greatest(sequences_of(numbers, config.sequence_format, column)))
            spill.add(table.filter(pa.array(~truncates)))
        return spill, truncated

    def _spill_rows(self, ranges: KeyRanges) -> Spill:
        """All rows of the mirror, with the changelog's names of columns, and where they are."""
        table, where = self._mirror.table, f"mirror {self._config.mirror}"
        numbers = {path: number for number, path in self._index.files.items()} if self._index is not None else {}
        kinds = schema_to_pyarrow(table.schema(), include_field_ids=False)
        fields = [pa.field(name, kinds.field(held).type) for name, held in self._columns.items()]
        shape = pa.schema([*fields, pa.field(FILE, pa.uint32()), pa.field(ROW, pa.uint32())])
        spill = Spill(self._asked.directory / "rows", shape, ranges, self._config.primary_keys, where)
        for path, live in live_files(table).items():
            number = numbers.get(path, 0)
            for part in live_rows(self._files, table.schema(), live, [*self._columns.values()]):
                self._go_on()
                rows = [as_type(part.rows.column(held), shape.field(name).type) for name, held in self._columns.items()]
                places = [np.full(part.rows.num_rows, number, np.uint32), part.positions]
                spill.add(pa.Table.from_arrays([*rows, *map(pa.array, places)], schema=shape))
        return spill

    def _go_on(self) -> None:
        if self._asked.stopped.is_set():
            raise Stopped
