"""Changelog tables: what they are called, and which columns are ours."""

from dataclasses import dataclass
from typing import Literal

from activities.core.faults import BadConfig

OutOfRange = Literal["refuse", "null", "clamp"]
"""What becomes of infinity, and of dates and times outside of the years 1 to 9999: the event is a dead letter, the
value is null, or the first or last moment that every reader knows."""

LOWER = "lower"
"""What may stand behind the colon of a place in a name template."""
OPERATIONS = ("insert", "update", "delete", "truncate")


@dataclass(frozen=True)
class SystemColumns:
    """The names of the columns that every changelog has before those of its source."""

    operation: str = "cdc_operation"
    """string: one of `OPERATIONS`."""
    sequence: str = "cdc_sequence_number"
    """string: commit LSN and ordinal in the transaction, 16 lower-case hex digits each."""
    lsn: str = "cdc_lsn"
    """string: the commit LSN as PostgreSQL writes it."""
    timestamp: str = "cdc_timestamp"
    """timestamptz: when the transaction was committed. Changelogs are partitioned by its day."""
    unchanged: str = "cdc_unchanged"
    """list<string>: columns of an update whose values were not logged, since they are long and did not change."""

    @property
    def names(self) -> tuple[str, ...]:
        """In the order in which they stand in the table."""
        return (self.operation, self.sequence, self.lsn, self.timestamp, self.unchanged)


@dataclass(frozen=True)
class ChangelogRules:
    """What config says of a pipeline's changelogs."""

    namespace: str = "cdc"
    name: str = "{schema}_{table}_changelog"
    """`{schema}` and `{table}` stand for those of the source, `{table:lower}` for its name in lower case."""
    system: SystemColumns = SystemColumns()
    out_of_range: OutOfRange = "refuse"


def changelog_name(rules: ChangelogRules, source_schema: str, source_table: str) -> str:
    """The Iceberg identifier of a table's changelog.

    Raises:
        BadConfig: the name template gives what is no name of a table.
    """
    name = rules.name.format(schema=_Name(source_schema), table=_Name(source_table))
    if not name or any(sign in "./\\*>\x00" or sign.isspace() for sign in name):  # catalogs, paths, NATS subjects
        raise BadConfig(
            f"source table {source_schema}.{source_table}: the template {rules.name!r} makes {name!r} of it, which is "
            "no name for an Iceberg table (dots, blanks, / \\ * and > are none of it); rename the table at the source, "
            "or, if these are in the template, change `name` of the pipeline"
        )
    return f"{rules.namespace}.{name}"


class _Name(str):
    """A name that `{…:lower}` writes in lower case: there are catalogs that know no other letters."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return self.lower() if spec == LOWER else super().__format__(spec)


def sequence_number(lsn: int, ordinal: int) -> str:
    """Commit LSN and ordinal as text that sorts as the numbers do."""
    return f"{lsn:016x}{ordinal:016x}"


def lsn_text(lsn: int) -> str:
    """An LSN as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_number(text: str) -> int:
    """An LSN as a number."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)
