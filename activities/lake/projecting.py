"""Rows of a file as other columns want them: by field ids, widened, null where the file has none."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io.pyarrow import ArrowAccessor, ArrowProjectionVisitor
from pyiceberg.schema import Schema, visit_with_partner
from pyiceberg.types import ListType, MapType

_NONE: Mapping[int, Any] = {}


def projected(
    wanted: Schema,
    held: Schema,
    batch: pa.RecordBatch,
    *,
    constants: Mapping[int, Any] = _NONE,
    any_zone: bool = False,
) -> pa.RecordBatch:
    """The rows of `batch` with the columns of `wanted`.

    Args:
        wanted: The columns as they are to be.
        held: Those that the batch has, with their field ids.
        batch: Rows of a file.
        constants: Field id → the value that only the file's partition says.
        any_zone: Whether a time in UTC may become one without a zone.
    """
    visitor = _Projection(
        held,
        downcast_ns_timestamp_to_us=True,
        projected_missing_fields=dict(constants),
        allow_timestamp_tz_mismatch=any_zone,
    )
    return pa.RecordBatch.from_struct_array(visit_with_partner(wanted, batch, visitor, ArrowAccessor(held)))


class _Projection(ArrowProjectionVisitor):
    """The library's makes empty lists and maps of those that are null, where what they hold are structs."""

    def list(self, list_type: ListType, list_array: pa.Array | None, value_array: pa.Array | None) -> pa.Array | None:
        return _null_like(list_array, super().list(list_type, list_array, value_array))

    def map(
        self, map_type: MapType, map_array: pa.Array | None, key_result: pa.Array | None, value_result: pa.Array | None
    ) -> pa.Array | None:
        return _null_like(map_array, super().map(map_type, map_array, key_result, value_result))


def _null_like(before: pa.Array | None, after: pa.Array | None) -> pa.Array | None:
    if before is None or after is None or before.null_count == after.null_count:
        return after
    offsets = pc.add(after.offsets, 0)  # those of a slice are refused beside a mask
    parts = (after.keys, after.items) if isinstance(after, pa.MapArray) else (after.values,)
    return type(after).from_arrays(offsets, *parts, type=after.type, mask=before.is_null())
