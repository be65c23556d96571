"""Where the files of changelogs lie: keys that say what a file holds, and that no two files share."""

import itertools
from collections.abc import Iterator
from datetime import date

from activities.core.names import folder_of

_PREFIX = "cdc"


def batch_keys(changelog: str, day: date, first_id: int, last_id: int, epoch: int) -> Iterator[str]:
    """Keys for files with events of one day, from event `first_id` to `last_id`, in the order of their use.

    `epoch` is that of the lock under which they were read, so no other worker makes the same.
    """
    return _numbered(f"{_place(changelog, day)}/{first_id:020d}-{last_id:020d}-{epoch}")


def copy_keys(changelog: str, day: date, lsn: int, attempt: str) -> Iterator[str]:
    """Keys for files of a first copy at one position of the log; `attempt` tells them from those of another try."""
    return _numbered(f"{_place(changelog, day)}/copy-{lsn:016x}-{attempt}")


def compacted_key(changelog: str, name: str) -> str:
    """A key for a file with what lay in others; `name` is one that nothing else ever has."""
    return f"{changelog_prefix(changelog)}compacted/{name}.parquet"


def changelog_prefix(changelog: str) -> str:
    """Below which every object of a changelog lies, ending in a slash."""
    return f"{_PREFIX}/{folder_of(changelog)}/"


def _place(changelog: str, day: date) -> str:
    return f"{changelog_prefix(changelog)}data/date={day.isoformat()}"


def _numbered(stem: str) -> Iterator[str]:
    yield f"{stem}.parquet"
    for number in itertools.count(1):
        yield f"{stem}-{number}.parquet"
