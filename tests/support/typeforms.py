"""What a column of the type tests is: a ClickHouse type, its hardest values, and what each must be in the lake.

What is expected is said by hand, per profile: the Iceberg type, and how the text that the source itself answers becomes
the value that readers must find (`support.typevalues`). No code of ours decides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from support.typevalues import moment, same

Decode = Callable[[Any], Any]
Form = tuple[str, Decode]
"""An Iceberg type, and what a value in the source's JSON (numbers as text) must be in the lake."""


@dataclass(frozen=True)
class Case:
    """A column: its name, ClickHouse type, values as SQL, and its form in each profile."""

    name: str
    kind: str
    values: Sequence[str]
    portable: Form
    published: Form
    inside: Form | None = None
    """Its form within lists, where that is another one under as_published."""
    question: str = "{}"
    """SQL of the value as JSON can carry it."""
    override: str = ""
    """What config says of its type."""

    def form(self, profile: str) -> Form:
        return self.portable if profile == "portable" else self.published


def quoted(*texts: str) -> list[str]:
    return [f"'{text}'" for text in texts]


def integers(low: int, high: int) -> list[str]:
    return quoted(*map(str, dict.fromkeys((low, -1 if low else 1, 0, 1, high - 1, high))))


def both(name: str, kind: str, values: Sequence[str], form: Form, question: str = "{}") -> Case:
    return Case(name, kind, values, form, form, question=question)


def enum(bits: int) -> str:
    return f"Enum{bits}('' = -{2 ** (bits - 1)}, 'a, (' = 0, 'it\\'s' = 1, '以太坊' = {2 ** (bits - 1) - 1})"


INT, LONG, DATE = ("int", int), ("long", int), ("date", date.fromisoformat)
TEXT: Form = ("string", same)
TIME: Form = ("timestamptz", moment)
UNSIGNED: Form = ("decimal(20, 0)", int)
UUIDS = quoted(
    "00000000-0000-0000-0000-000000000000",
    "7fffffff-ffff-ffff-8000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
)
HASHES = quoted("0x" + "0123456789abcdef" * 4, "0x" + "0" * 64, "0x" + "f" * 64)
UPPER_HALF = quoted(str(2**63), str(2**63 + 1), str(2**64 - 1))
"""What a UInt64 holds and a long does not."""
ZEROS = quoted("abc\\0\\0", "\\0", "", "abc", "\\0\\0", "é\\0", "\\0a")
"""Text whose zero bytes, at its end as well, are part of it."""
