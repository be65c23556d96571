"""What is to be exported: expected partitions against the table's files and the source's own count."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from activities.core.partitions import Ranges, Span

Reason = Literal["missing", "stale", "forced", "vanished"]
"""`vanished`: the source has no rows of it any more, and its file is to go."""


@dataclass(frozen=True)
class ExistingFile:
    """A partition's committed file: its rows, and the newest version in it (None without a version column)."""

    index: int
    key: str
    rows: int
    version: int | None


@dataclass(frozen=True)
class SurveyedPartition:
    """A partition that has rows at the source: their raw count, duplicates included, and the newest version."""

    index: int
    rows: int
    version: int | None


@dataclass(frozen=True)
class PlannedPartition:
    """A partition to export. `rows` is the source's raw count; `replaces` the path of the file that it replaces."""

    index: int
    reason: Reason
    rows: int
    replaces: str = ""


@dataclass(frozen=True)
class Classified:
    """A plan: what to do, in order, and what was found.

    `empty` were asked for and have neither rows nor a file. `shrunk` have a file that holds more than the source has
    now: a finding for people. They are in `todo` only when that was forced and allowed; those
    without any rows are to vanish.
    """

    todo: tuple[PlannedPartition, ...]
    present: int
    empty: Ranges
    shrunk: tuple[int, ...]


def partitions_to_survey(
    span: Span, existing: Mapping[int, ExistingFile], known_empty: Ranges, *, force: bool, look_back: Span | None
) -> Ranges:
    """What the source must be asked about.

    Everything in `span` without a file and not known to be empty; of those with a file, the ones that may be stale:
    all (`look_back` None), or those within `look_back`. What is known to be empty and lies there is asked about along
    with anything else: the same question passes over it, and its rows may be late. `force` asks about all of `span`.
    """
    everything = Ranges.from_span(span)
    if force:
        return everything
    present = _indices(existing, span)
    asked = everything.difference(present).difference(known_empty)
    if look_back is None:
        return asked.union(present)
    back = everything.intersection(Ranges.from_span(look_back))
    asked = asked.union(present.intersection(back))
    return asked.union(known_empty.intersection(back)) if asked else asked


def classify(
    span: Span,
    existing: Mapping[int, ExistingFile],
    surveyed: Mapping[int, SurveyedPartition],
    asked: Ranges,
    *,
    force: bool,
    has_version: bool,
    newest_first: bool = True,
    allow_shrink: bool = False,
) -> Classified:
    """Compare the table with the source.

    Args:
        span: The partitions in question.
        existing: The table's files, by index.
        surveyed: What the source answered, by index: partitions with rows only.
        asked: What the source was asked about and has answered in full; no answer means no rows.
        force: Export everything that has rows, file or not.
        has_version: A file is stale when the source has a newer version; without versions, when it has more rows.
        newest_first: The order of `todo`.
        allow_shrink: What is forced may also take from the table what the source has lost.
    """
    inside = asked.intersection(Ranges.from_span(span))
    # Every partition of a plan has a file or rows, so a long and empty range costs nothing.
    known = sorted({index for index in (*existing, *surveyed) if index in span}, reverse=newest_first)
    todo: list[PlannedPartition] = []
    shrunk: list[int] = []
    for index in known:
        if index not in inside:
            continue
        file, source = existing.get(index), surveyed.get(index)
        has_shrunk = file is not None and _has_shrunk(file, source)
        if has_shrunk:
            shrunk.append(index)
        planned = _plan(index, file, source, force=force, has_version=has_version)
        if planned is not None and (not has_shrunk or (force and allow_shrink)):
            todo.append(planned)
    present = _indices(existing, span)
    with_rows = Ranges.from_indices(index for index in surveyed if surveyed[index].rows > 0)
    return Classified(
        todo=tuple(todo),
        present=len(present),
        empty=inside.difference(present).difference(with_rows),
        shrunk=tuple(shrunk),
    )


def _plan(
    index: int, file: ExistingFile | None, source: SurveyedPartition | None, *, force: bool, has_version: bool
) -> PlannedPartition | None:
    if source is None or source.rows == 0:
        return PlannedPartition(index, "vanished", 0, file.key) if file is not None and force else None
    if file is None:
        return PlannedPartition(index, "missing", source.rows)
    if force:
        return PlannedPartition(index, "forced", source.rows, file.key)
    if _is_stale(file, source, has_version=has_version):
        return PlannedPartition(index, "stale", source.rows, file.key)
    return None


def _is_stale(file: ExistingFile, source: SurveyedPartition, *, has_version: bool) -> bool:
    if not has_version:
        return source.rows > file.rows
    if source.version is None:
        return False
    # A file whose footer has no bound for the version cannot be shown to be fresh.
    return file.version is None or source.version > file.version


def _has_shrunk(file: ExistingFile, source: SurveyedPartition | None) -> bool:
    # Raw counts include duplicates: fewer of them than the file's rows is proof, with or without versions.
    return source is None or source.rows < file.rows


def _indices(existing: Mapping[int, ExistingFile], span: Span) -> Ranges:
    return Ranges.from_indices(index for index in existing if index in span)
