"""Asking the source about the partitions of a request, window by window, until there is a page of work."""

from dataclasses import dataclass

from activities.contracts.export import ExportRequest
from activities.core import failing
from activities.core.partitions import Ranges, Span
from activities.core.planning import Classified, ExistingFile, SurveyedPartition, classify, partitions_to_survey
from activities.core.query import SourceFacts
from activities.core.tables import PartitionRule, TableConfig
from activities.surveys import Answers, Source, next_window


@dataclass(frozen=True)
class Subject:
    """One request against one table, as planning sees it."""

    config: TableConfig
    network: str
    request: ExportRequest
    facts: SourceFacts
    source: Source

    @property
    def rule(self) -> PartitionRule:
        """How the table is cut."""
        return self.config.partition

    @property
    def is_range(self) -> bool:
        """Whether the request names one."""
        return self.request.from_ != "" or self.request.to != ""


async def survey_page(
    subject: Subject,
    span: Span,
    existing: dict[int, ExistingFile],
    skip: Ranges,
    aside: failing.SetAside,
    limit: int,
    look_back: Span | None,
) -> tuple[Span, Classified, Answers]:
    """Ask the source, window by window, until there is a page of work or nothing left to ask."""
    request = subject.request
    newest_first = not request.oldest_first
    asked = partitions_to_survey(span, existing, skip, force=request.force, look_back=look_back).difference(
        skip if request.force else Ranges.from_indices(aside.suspended)
    )
    surveyed: dict[int, SurveyedPartition] = {}
    seen = Ranges.from_pairs(())
    while True:
        window = next_window(asked.difference(seen), newest_first=newest_first)
        if window:
            surveyed |= await subject.source.survey(window, newest_first=newest_first)
            seen = seen.union(window)
        whole = len(seen) == len(asked)
        covered = span if whole else _covered(span, seen, newest_first=newest_first)
        found = _classify(subject, covered, existing, surveyed, seen)
        first = [planned for planned in found.todo if planned.index not in aside.last]
        if len(first) > limit:
            last = first[limit - 1].index
            covered = Span(last, covered.stop) if newest_first else Span(covered.first, last + 1)
            return covered, _classify(subject, covered, existing, surveyed, seen), Answers(seen, surveyed)
        if first or whole:
            return covered, found, Answers(seen, surveyed)


def _classify(
    subject: Subject,
    covered: Span,
    existing: dict[int, ExistingFile],
    surveyed: dict[int, SurveyedPartition],
    seen: Ranges,
) -> Classified:
    return classify(
        covered,
        existing,
        surveyed,
        seen.intersection(Ranges.from_span(covered)),
        force=subject.request.force,
        has_version=bool(subject.facts.version_column),
        newest_first=not subject.request.oldest_first,
        allow_shrink=subject.request.allow_shrink,
    )


def _covered(span: Span, seen: Ranges, *, newest_first: bool) -> Span:
    pairs = seen.pairs()
    return Span(pairs[0][0], span.stop) if newest_first else Span(span.first, pairs[-1][1])
