"""Bounds of sequence numbers, as manifests and footers have them: numbers only where they are those of the numbers."""

from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import StringType

from activities.core.mirrors import MirrorConfig
from activities.lake.changelog import PIPELINE

_DIGITS = 32
"""Of the sequence numbers in our own changelogs, all of them."""


class SequenceBounds:
    """What bounds of a changelog's column of sequence numbers say, or of its mirror's, which is in `schema`."""

    def __init__(self, config: MirrorConfig, changelog: Table, schema: Schema) -> None:
        self._column = schema.find_field(config.sequence_column)
        # Of texts the smallest one need not be the smallest number, unless all have the same length and case.
        self._is_trusted = not isinstance(self._column.field_type, StringType) or (
            PIPELINE in changelog.properties and config.sequence_format != "decimal"
        )

    def of_file(self, file: DataFile) -> tuple[int, int] | None:
        """The smallest and the greatest number of a data file, by its manifest; None: that cannot be told."""
        if (file.null_value_counts or {}).get(self._column.field_id):
            return None
        return self.numbers(*map(self._bound, (file.lower_bounds, file.upper_bounds)))

    def numbers(self, low: Any, high: Any) -> tuple[int, int] | None:
        """The numbers that two bounds are; None: they are none, or not those of the numbers."""
        if not self._is_trusted or any(map(_is_no_number, (low, high))):
            return None
        first, last = (int(end, 16) if isinstance(end, str) else int(end) for end in (low, high))
        return (first, last) if first >= 0 else None

    def _bound(self, bounds: dict[int, bytes] | None) -> Any:
        raw = (bounds or {}).get(self._column.field_id)
        return None if raw is None else from_bytes(self._column.field_type, raw)  # type: ignore[arg-type]  # a primitive


def _is_no_number(bound: Any) -> bool:
    """Whether there is no bound, or a text that a writer has cut: that reads as a far smaller number."""
    return bound is None or (isinstance(bound, str) and len(bound) != _DIGITS)
