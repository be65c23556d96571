"""Whether what a table holds of a partition is what the source holds: judged by counts, without reading a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SOUND = frozenset({"proved", "empty", "open"})
"""What is no finding: a partition is as it should be, has no rows anywhere, or moved while it was looked at."""


@dataclass(frozen=True)
class HeldFile:
    """A file of the table, as its manifest describes it; `version` None when there is no bound or no version column."""

    path: str
    rows: int
    size: int
    version: int | None


@dataclass(frozen=True)
class SourceCount:
    """What the source counts of a partition, duplicates collapsed, and its newest version."""

    rows: int = 0
    version: int | None = None


@dataclass(frozen=True)
class Verdict:
    """`kind` is one of `SOUND`, or a kind of finding (activities.contracts.verify), which `message` explains."""

    kind: str
    message: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether it is no finding."""
        return self.kind in SOUND


@dataclass(frozen=True)
class Seen:
    """A partition as it was seen once."""

    verdict: Verdict
    files: tuple[HeldFile, ...] = ()
    source: SourceCount = SourceCount()


MOVED = Verdict("open", "it changed while it was looked at")


def agreed(before: Mapping[int, Seen], now: Mapping[int, Seen]) -> dict[int, Seen]:
    """What two looks say of each partition of `now`: a table is exported to, and rows arrive, while it is looked at.

    What is sound by now is sound; what was found twice in the same state is a finding; all else has moved.
    """
    return {
        index: seen
        if seen.verdict.is_sound or (seen.files, seen.source) == (before[index].files, before[index].source)
        else Seen(MOVED, seen.files, seen.source)
        for index, seen in now.items()
    }


def judge(files: Sequence[HeldFile], source: SourceCount, *, has_version: bool) -> Verdict:
    """What to say of a partition that should be there exactly once if the source has rows of it."""
    if len(files) > 1:
        paths = ", ".join(file.path for file in files)
        return Verdict("duplicate", f"{len(files)} files hold it: {paths}; remove all but one from the table")
    if not files:
        if not source.rows:
            return Verdict("empty")
        return Verdict("missing", f"the source has {source.rows} rows, and the table has no file; export it")
    return _judge_one(files[0], source, has_version=has_version)


def _judge_one(file: HeldFile, source: SourceCount, *, has_version: bool) -> Verdict:
    counts = f"the source has {source.rows} rows, {file.path} holds {file.rows}"
    if has_version and source.rows:
        if file.version is None:
            return Verdict("stale", f"{counts} and says of no version that it is its newest; export it again")
        newest = source.version if source.version is not None else file.version
        if newest > file.version:
            return Verdict("stale", f"{counts} and nothing newer than {file.version}, the source {newest}; export it")
        if newest < file.version:
            return Verdict("shrunk", f"{counts} and {file.version} as its newest version, the source {newest}")
    if source.rows < file.rows:
        return Verdict("shrunk", f"{counts}; look for what was lost, then export it with force if that is right")
    if source.rows > file.rows:
        kind = "rows" if has_version else "stale"
        return Verdict(kind, f"{counts}; export it again{', with force' if has_version else ''}")
    return Verdict("proved")


def judge_object(file: HeldFile, size: int | None) -> Verdict:
    """What to say of a file's object, of which the store says that it has `size` bytes (None: it is not there)."""
    if size is None:
        return Verdict("gone", f"the table names {file.path}, and there is no such object; export it with force")
    if size != file.size:
        return Verdict("size", f"{file.path} has {size} bytes, and {file.size} in the table; export it with force")
    return Verdict("proved")
