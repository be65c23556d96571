"""What a batch of objects means against a head that may have moved: the plan of a commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from activities.core.planning import ExistingFile


@dataclass(frozen=True)
class NewFile:
    """An object that is to hold one partition."""

    index: int
    path: str
    reason: str
    """`missing`, `stale` or `forced`."""
    replaces: str = ""
    """Path of the file that it replaces, as the planner saw it."""


@dataclass(frozen=True)
class CommitPlan:
    """Which of the new files change the table."""

    add: tuple[NewFile, ...]
    replace: tuple[tuple[NewFile, ExistingFile], ...]
    there: tuple[NewFile, ...]
    """Left out: the head holds this very object, or another writer's for the same partition."""

    @property
    def files(self) -> tuple[NewFile, ...]:
        """Everything that becomes part of the table."""
        return (*self.add, *(new for new, _ in self.replace))


def plan_commit(head: Mapping[int, ExistingFile], files: Sequence[NewFile]) -> CommitPlan:
    """Hold `files` against the head.

    A partition that the head holds is replaced only if the head's file is the one that was to be replaced: anything
    else was put there by a commit that the planner had not seen, and is at least as new.
    """
    add: dict[int, NewFile] = {}
    replace: dict[int, tuple[NewFile, ExistingFile]] = {}
    there: list[NewFile] = []
    for file in files:
        held = head.get(file.index)
        if file.index in add or file.index in replace:
            there.append(file)
        elif held is None:
            add[file.index] = file
        elif held.key == file.replaces != file.path:
            replace[file.index] = (file, held)
        else:
            there.append(file)
    return CommitPlan(tuple(add.values()), tuple(replace.values()), tuple(there))
