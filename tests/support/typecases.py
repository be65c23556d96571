"""Every column of the tables of types: each type, and whatever may stand around it."""

import re
from collections.abc import Iterator
from dataclasses import replace

from support.typeforms import Case
from support.typeleaves import BASE, RAW, unsigned_64
from support.typeshapes import SHAPES
from support.typetexts import TEXTS
from support.typevalues import list_of

_COUNTABLE = re.compile(
    r"(U?Int\d+|Float32|Float64|Bool|String|FixedString\(.*|Date|Date32|DateTime(\(.*)?|IPv[46]|UUID)$"
)
"""What ClickHouse lets LowCardinality stand around."""


def _around(case: Case) -> Iterator[Case]:
    """The type itself, and whatever may stand around it."""
    yield case
    maybe = [*case.values[:8], "NULL"]
    yield replace(case, name=f"{case.name}_maybe", kind=f"Nullable({case.kind})", values=maybe)
    if _COUNTABLE.match(case.kind):
        yield replace(case, name=f"{case.name}_low", kind=f"LowCardinality({case.kind})")
        kind = f"LowCardinality(Nullable({case.kind}))"
        yield replace(case, name=f"{case.name}_low_maybe", kind=kind, values=["NULL", *case.values[:8]])
    portable, published = case.inside or case.portable, case.inside or case.published
    values = [
        "[]",
        f"[NULL, {', '.join(case.values)}]",
        "[NULL]",
    ]
    yield Case(
        f"{case.name}_list",
        f"Array(Nullable({case.kind}))",
        values,
        (f"list<{portable[0]}>", list_of(portable[1])),
        (f"list<{published[0]}>", list_of(published[1])),
    )


def cases(profile: str) -> list[Case]:
    """Every column of the table of one profile."""
    leaves = [*(one for case in [unsigned_64(profile), *BASE] for one in _around(case))]
    return [*leaves, *SHAPES, *TEXTS, *(RAW if profile == "as_published" else ())]
