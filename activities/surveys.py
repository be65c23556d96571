"""What the source says of a table's partitions, in bulk: a query or two, whatever the range."""

from collections.abc import Mapping
from dataclasses import dataclass

from activities.clients.clickhouse import ClickHouse
from activities.contracts.export import table_identifier
from activities.core.partitions import Ranges, Span
from activities.core.planning import SurveyedPartition
from activities.core.query import SourceFacts, head_query, outside_query, survey_query
from activities.core.tables import TableConfig

SURVEY_WINDOW = 20_000
"""Partitions that one survey may ask about, so that the cost of planning follows the range and not its square."""


@dataclass(frozen=True)
class Outside:
    """Rows that no partition can hold, duplicates included: nobody exports them."""

    nulls: int = 0
    """Their partition column is NULL."""
    before: int = 0
    """It lies before 0, or before 1970."""

    @property
    def rows(self) -> int:
        """All of them."""
        return self.nulls + self.before


@dataclass(frozen=True)
class Source:
    """One table and network, as its cluster is asked about it."""

    clickhouse: ClickHouse
    config: TableConfig
    network: str
    facts: SourceFacts

    @property
    def _name(self) -> str:
        return table_identifier(self.network, self.config.name)

    async def head(self) -> int | None:
        """The newest value of the partition column; None when there are no rows, or the rule goes by the clock."""
        if self.config.partition.kind != "integer":
            return None
        query = head_query(self.config, self.facts, self.network)
        answer = await self.clickhouse.rows(query, comment=f"icefleet head of {self._name}")
        head = answer[0]["head"] if answer else None
        return None if head is None else int(head)

    async def survey(self, window: Ranges, *, newest_first: bool = True) -> dict[int, SurveyedPartition]:
        """The partitions of `window` that have rows: one query over everything from its first to its last."""
        pairs = window.pairs()
        span = Span(pairs[0][0], pairs[-1][1])
        query = survey_query(self.config, self.facts, self.network, span, len(span), newest_first=newest_first)
        rows = await self.clickhouse.rows(query, comment=f"icefleet plan {self._name}")
        found = (
            SurveyedPartition(
                int(row["partition"]), int(row["rows"]), None if row["version"] is None else int(row["version"])
            )
            for row in rows
        )
        return {partition.index: partition for partition in found if partition.index in window}

    async def outside(self) -> Outside:
        """Rows that no partition can hold; nothing is asked where the partition column's type allows none."""
        query = outside_query(self.config, self.facts, self.network)
        if query is None:
            return Outside()
        [counts] = await self.clickhouse.rows(query, comment=f"icefleet look outside of {self._name}")
        return Outside(int(counts["nulls"]), int(counts["before"]))


@dataclass(frozen=True)
class Answers:
    """What the source was asked about, and what it said: partitions with rows only."""

    asked: Ranges
    surveyed: Mapping[int, SurveyedPartition]

    def rows(self, index: int) -> int:
        """Rows of a partition that was asked about, duplicates included."""
        return self.surveyed[index].rows if index in self.surveyed else 0


def next_window(left: Ranges, *, newest_first: bool) -> Ranges:
    """What the next survey asks about."""
    pairs = left.pairs()[::-1] if newest_first else left.pairs()
    room, taken = SURVEY_WINDOW, []
    for first, stop in pairs:
        width = min(room, stop - first)
        taken.append((stop - width, stop) if newest_first else (first, first + width))
        room -= width
        if not room:
            break
    return Ranges.from_pairs(taken)
