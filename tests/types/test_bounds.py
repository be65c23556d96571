"""Bounds in the manifests are never wrong: they enclose every value by Iceberg's own order, and counts are counts."""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from pyiceberg.types import StructType

from support.typecases import cases
from support.typetables import DAYS, ROWS, source_values

PROFILES = ("portable", "as_published")


@dataclass(frozen=True)
class Column:
    """A primitive column of a table in one file, at the top or in a struct."""

    name: str
    number: int
    kind: str
    values: list[Any]


def columns_of(fields, values: dict[str, list[Any]], prefix: str = "") -> Iterator[Column]:
    for field in fields:
        held = values.get(field.name)
        if held is None:
            continue
        if isinstance(field.field_type, StructType):
            inner = {
                part.name: [None if one is None else dict(one[1])[part.name] for one in held]
                for part in field.field_type.fields
            }
            yield from columns_of(field.field_type.fields, inner, f"{prefix}{field.name}.")
        elif field.field_type.is_primitive:
            yield Column(prefix + field.name, field.field_id, str(field.field_type), held)


def order(kind: str, value: Any) -> Any:
    """A plain value as Iceberg orders it; None for what bounds do not speak of."""
    match value:
        case ("float", text):
            number = float(text)
            return None if math.isnan(number) else (number, math.copysign(1, number))
        case ("bytes", text):
            return bytes.fromhex(text)
        case ("bool" | "time", inner):
            return inner
        case ("decimal", text):
            return Decimal(text)
        case str():
            return bytes.fromhex(value.replace("-", "")) if kind == "uuid" else value.encode()
    return value


def bound(kind: str, raw: bytes) -> Any:
    """A bound as the Iceberg specification serialises it, in the same order."""
    if kind in {"int", "date"}:
        [value] = struct.unpack("<i", raw)
        return value if kind == "int" else date.fromordinal(date(1970, 1, 1).toordinal() + value)
    if kind in {"long", "timestamptz"}:
        return struct.unpack("<q", raw)[0]
    if kind in {"float", "double"}:
        [value] = struct.unpack("<f" if kind == "float" else "<d", raw)
        assert not math.isnan(value)
        return (value, math.copysign(1, value))
    if kind == "boolean":
        return raw != b"\0"
    if kind.startswith("decimal("):
        scale = int(kind.removesuffix(")").rpartition(",")[2])
        # By division of text: arithmetic would round to 28 digits.
        return Decimal(f"{int.from_bytes(raw, 'big', signed=True)}e-{scale}")
    if kind == "string":
        raw.decode()
    if kind == "uuid":
        assert len(raw) == 16
    return raw


async def files_of(lake, profile: str) -> Iterator[tuple[Any, list[Column]]]:
    """Each file of the table, with its columns and the values that the source has of them."""
    values = await source_values(lake, profile, cases(profile), profile)
    table = lake.table(profile)
    step = ROWS // DAYS
    found = []
    for manifest in table.current_snapshot().manifests(table.io):
        for entry in manifest.fetch_manifest_entry(table.io):
            day = entry.data_file.partition[0] - (date(2024, 3, 18) - date(1970, 1, 1)).days
            mine = {name: held[day * step : (day + 1) * step] for name, held in values.items()}
            found.append((entry.data_file, list(columns_of(table.schema().fields, mine))))
    assert len(found) == DAYS
    return found


@pytest.mark.parametrize("profile", PROFILES)
async def test_bounds_enclose_every_value(lake, profile):
    wrong, without = [], set()
    for file, columns in await files_of(lake, profile):
        # What is repeated within a row has no bounds that a reader could use.
        assert {*file.lower_bounds, *file.upper_bounds} - {1, 2, 3} <= {column.number for column in columns}
        for column in columns:
            held = [known for value in column.values if (known := order(column.kind, value)) is not None]
            low, high = file.lower_bounds.get(column.number), file.upper_bounds.get(column.number)
            if low is None or high is None:
                ends = [end for end, known in (("lower", low), ("upper", high)) if known is None]
                without |= {(column.name, *ends)} if held and "." not in column.name else set()
            elif held and not bound(column.kind, low) <= min(held) <= max(held) <= bound(column.kind, high):
                wrong.append((column.name, column.kind, low.hex(), high.hex(), min(held), max(held)))
    assert not wrong, "\n".join(map(str, wrong))[:5000]
    # A bound of text is cut to 16 characters, and nothing of that length is above 16 times the last character there is.
    highest = {(name, "upper") for name in ("text", "text_maybe", "text_low", "text_low_maybe")}
    assert without == {*highest, ("lengthy", "lower", "upper")}, "and ClickHouse has none where one would be too long"


@pytest.mark.parametrize("profile", PROFILES)
async def test_counts_of_values_and_nulls_are_right_where_there_are_any(lake, profile):
    for file, columns in await files_of(lake, profile):
        for column in columns:
            count = file.value_counts.get(column.number)
            nulls = (file.null_value_counts or {}).get(column.number)
            nans = (file.nan_value_counts or {}).get(column.number)
            assert count == len(column.values), column
            assert nulls in {None, column.values.count(None)}, column
            assert nans in {None, column.values.count(("float", "nan"))}, column
