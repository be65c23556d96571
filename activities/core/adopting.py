"""Why a published file is not adopted, and what a redacted column may show in one that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Any

from activities.core.faults import BadRequest
from activities.core.objectkeys import read_key
from activities.core.partitions import Span, expected_span, label_of, span_of
from activities.core.sensitive import looks_sensitive
from activities.core.tables import PartitionRule, TableConfig, network_range

NO_PARTITION, REPLACEMENT, UNEXPECTED, OPEN = "no_partition", "replacement", "unexpected", "open"
DUPLICATE, ORPHAN, UNREADABLE, EMPTY = "duplicate", "orphan", "unreadable", "empty"
UNKNOWN_COLUMN, MISSING_COLUMN, TYPE, VALUE = "unknown_column", "missing_column", "type", "value"
WRONG_PARTITION, WRONG_NETWORK, NO_VERSION, UNREDACTED = "wrong_partition", "wrong_network", "no_version", "unredacted"
REASONS: Mapping[str, str] = MappingProxyType(
    {
        NO_PARTITION: "the key names no partition of this table as config cuts it",
        REPLACEMENT: "the key is that of a replacement, which icefleet makes beside a partition's first file",
        UNEXPECTED: "config expects no such partition of this network",
        OPEN: "the partition is not complete yet",
        DUPLICATE: "the table holds the partition with another file",
        ORPHAN: "icefleet made the file, no snapshot names it, and it may be deleted at any time",
        UNREADABLE: "the file does not end with a Parquet footer that can be read",
        EMPTY: "the file holds no rows",
        UNKNOWN_COLUMN: "the file has a column that neither source nor table has",
        MISSING_COLUMN: "the file lacks the partition or the network column, or one that the table requires",
        TYPE: "a column's type in the file is not read right under its type in the table",
        VALUE: "a column holds a value that is not read right under its type in the table, or nobody can tell",
        WRONG_PARTITION: "rows lie outside of the partition that the key names",
        WRONG_NETWORK: "rows are of another network than the key's",
        NO_VERSION: "the file has no version, so nobody could tell whether the source has something newer",
        UNREDACTED: "a column that config redacts shows values, or nobody can tell",
    }
)
_END = 2**63
_TEXTS = frozenset({"", "::", str(IPv4Address(0)), "::ffff:0.0.0.0", "0", "REDACTED"})
_MAPPED_ZERO = bytes(10) + b"\xff\xff" + bytes(4)
"""::ffff:0.0.0.0, by which the public files redact addresses."""


@dataclass(frozen=True)
class Refusal:
    """A file stays out of the table: one of `REASONS`, and the particulars."""

    reason: str
    why: str


@dataclass(frozen=True)
class Places:
    """Which partitions of a table there may be files of, and which were asked for."""

    config: TableConfig
    network: str
    asked: Span
    closed: Span
    """Complete partitions that config expects."""
    still_open: Span
    """Those that are not complete yet."""

    @classmethod
    def of(cls, config: TableConfig, network: str, first: str, last: str, now: int, head: int | None) -> "Places":
        """As `expected_span` has them; when the source holds no rows (any more), every chunk that config expects.

        Raises:
            BadRequest: an end of the range is malformed.
        """
        expected, rule = network_range(config, network), config.partition
        until = span_of(rule, expected.first, expected.last).stop if expected.last else _END
        if rule.kind == "integer" and head is None:
            closed = Span(span_of(rule, expected.first, expected.first).first, until)
            return cls(config, network, asked_span(rule, first, last), closed, Span(until, until))
        closed, _ = expected_span(config, expected, now=now, head=head)
        return cls(config, network, asked_span(rule, first, last), closed, Span(closed.stop, max(closed.stop, until)))

    def find(self, key: str) -> tuple[int, Refusal | None]:
        """The partition that a key names, and why its file cannot be adopted whatever is in it."""
        try:
            index, short_id = read_key(self.config, self.network, key)
        except BadRequest as wrong:
            return -1, Refusal(NO_PARTITION, str(wrong))
        if index not in self.asked:
            return index, None
        label = label_of(self.config.partition, index)
        if short_id:
            why = f"it would replace {label}, whose own key has no id; a partition that is stale is exported anew"
            return index, Refusal(REPLACEMENT, why)
        if index in self.still_open:
            return index, Refusal(OPEN, f"{label} is not complete yet; exports carry it once it is")
        if index not in self.closed:
            known = network_range(self.config, self.network)
            why = (
                f"tables.yaml has {self.network} from {known.first} to {known.last or 'now'}; widen it to adopt {label}"
            )
            return index, Refusal(UNEXPECTED, why)
        return index, None


def asked_span(rule: PartitionRule, first: str, last: str) -> Span:
    """The partitions between two labels, both inclusive; without one of them there is no end on its side.

    Raises:
        BadRequest: one is malformed, or the range ends before it starts.
    """
    if not (first or last):
        return Span(0, _END)
    named = span_of(rule, first or last, last or first)
    return Span(named.first if first else 0, named.stop if last else _END)


def is_blank(value: Any) -> bool:
    """Whether a value is one by which redacted columns are filled: it says nothing of anybody."""
    if isinstance(value, bytes):
        if value == _MAPPED_ZERO or not any(value):
            return True
        try:
            value = value.rstrip(b"\0").decode()
        except UnicodeDecodeError:
            return False
    if isinstance(value, str):
        return value in _TEXTS
    return bool(value == 0)


def check_adoption(
    config: TableConfig, first: str, last: str, extra_columns: Sequence[object], unredacted: Sequence[object]
) -> None:
    """Refuse a request that could not be served.

    Raises:
        BadRequest: an end of the range is malformed, a name is no text, an extra column may say who or where somebody
            is, or a column is called unredacted that config does not redact.
    """
    asked_span(config.partition, first, last)
    for field, names in (("extra_columns", extra_columns), ("unredacted", unredacted)):
        if wrong := [name for name in names if not isinstance(name, str)]:
            raise BadRequest(f"field {field!r} must be a list of names of columns; {wrong[0]!r} is none")
    if sensitive := [name for name in map(str, extra_columns) if looks_sensitive(name, config.sensitive_patterns)]:
        raise BadRequest(
            f"field 'extra_columns': {', '.join(sensitive)} may say who or where somebody is, and config cannot decide "
            "about a column that the source has not; leave it out, and export the partitions of such files anew"
        )
    if strange := [name for name in map(str, unredacted) if name not in config.redacted_columns]:
        raise BadRequest(
            f"field 'unredacted': {config.name} does not redact {', '.join(strange)}; "
            f"it redacts {', '.join(config.redacted_columns) or 'nothing'}"
        )
